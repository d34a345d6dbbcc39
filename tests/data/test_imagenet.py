"""Class folders of JPEGs: layout, splits, crops, and what is said when something is wrong."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qbench.data import BatchLoader, dataset_fingerprint, load_dataset
from qbench.data.imagenet import TreeSplit
from qbench.data.jpeg import AREA, ATTEMPTS, RATIO, CropDraws, evaluation_view, random_box, training_view
from qbench.errors import DataError

LAYOUT = "expected class folders of JPEGs, DIR/train/<class>/*.JPEG and DIR/val/<class>/*.JPEG"
SAMPLE = "write a small sample with `qbench data sample imagenet --out DIR`"


@pytest.fixture
def copy(tree: Path, tmp_path: Path) -> Path:
    """A tree that a test may spoil."""
    return Path(shutil.copytree(tree, tmp_path / "copy"))


def paths(split: object) -> list[str]:
    assert isinstance(split, TreeSplit)
    return split._paths


def draws(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


def photograph(width: int, height: int) -> Image.Image:
    """A smooth picture in which every place has its own colour."""
    y, x = np.mgrid[:height, :width]
    planes = (255 * x / width, 255 * y / height, 127 + 100 * np.sin(6 * x / width) * np.cos(6 * y / height))
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


# --- splits --------------------------------------------------------------------------------------------------------


def test_sizes_and_classes(tree: Path) -> None:
    dataset = load_dataset("imagenet", root=tree)
    assert (dataset.num_classes, dataset.image_size, dataset.in_channels) == (3, 224, 3)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [15, 3, 6]


def test_validation_is_held_out_of_train_and_test_is_val(tree: Path) -> None:
    dataset = load_dataset("imagenet", root=tree)
    files = {path.relative_to(tree).as_posix() for path in tree.rglob("*.JPEG")}
    train, validation, test = (set(paths(split)) for split in (dataset.train, dataset.validation, dataset.test))
    assert train | validation == {path for path in files if path.startswith("train/")}
    assert test == {path for path in files if path.startswith("val/")}
    assert not train & validation


def test_labels_follow_the_sorted_folder_names(tree: Path) -> None:
    dataset = load_dataset("imagenet", root=tree, options={"image_size": 8})
    names = sorted(folder.name for folder in (tree / "train").iterdir())
    _, labels = dataset.test.batch(np.arange(6), None)
    assert [names[label] for label in labels] == [path.split("/")[1] for path in paths(dataset.test)]


def test_validation_fraction(tree: Path) -> None:
    half = load_dataset("imagenet", root=tree, options={"validation_fraction": 0.5})
    assert (len(half.train), len(half.validation)) == (9, 9)
    most = load_dataset("imagenet", root=tree, options={"validation_fraction": 0.99})
    assert (len(most.train), len(most.validation)) == (3, 15)


def test_a_further_image_moves_no_other_between_the_splits(copy: Path) -> None:
    before = set(paths(load_dataset("imagenet", root=copy, options={"validation_fraction": 0.34}).validation))
    photograph(40, 40).save(copy / "train" / "medium_checks" / "zz.jpg")
    after = load_dataset("imagenet", root=copy, options={"validation_fraction": 0.34})
    assert "train/medium_checks/zz.jpg" in paths(after.train) + paths(after.validation)
    assert len(before & set(paths(after.validation))) >= 5


def test_fingerprints_follow_paths_and_sizes(copy: Path, tree: Path) -> None:
    assert dataset_fingerprint("imagenet", copy) == dataset_fingerprint("imagenet", tree)
    before = load_dataset("imagenet", root=copy).test.content_sha()
    path = next((copy / "val").rglob("*.JPEG"))
    path.write_bytes(path.read_bytes() + b"\0")
    assert dataset_fingerprint("imagenet", copy) != dataset_fingerprint("imagenet", tree)
    assert load_dataset("imagenet", root=copy).test.content_sha() != before
    assert (
        load_dataset("imagenet", root=copy).train.content_sha()
        == load_dataset("imagenet", root=tree).train.content_sha()
    )


def test_the_loader_prefetches_and_repeats_itself(tree: Path) -> None:
    split = load_dataset("imagenet", root=tree, options={"image_size": 32}).train
    assert split.decodes
    epochs = [
        list(BatchLoader.iterate(split, batch_size=4, seed=1, epoch=3, shuffle=True, augment=True)) for _ in range(2)
    ]
    assert [len(batch.labels) for batch in epochs[0]] == [4, 4, 4, 3]
    assert all(torch.equal(a.images, b.images) for a, b in zip(*epochs, strict=True))


# --- crops ---------------------------------------------------------------------------------------------------------


def test_random_boxes_lie_inside_and_have_the_promised_area_and_ratio() -> None:
    uniform = draws(0).random((2000, ATTEMPTS, 4))
    shares, ratios = [], []
    for numbers in uniform:
        left, top, right, bottom = random_box(500, 375, numbers)
        assert 0 <= left < right <= 500
        assert 0 <= top < bottom <= 375
        shares.append((right - left) * (bottom - top) / (500 * 375))
        ratios.append((right - left) / (bottom - top))
    # Sides are rounded to pixels: half a pixel of at least 106 either way.
    assert min(shares) == pytest.approx(AREA[0], rel=0.05)
    assert 0.85 < max(shares) <= AREA[1]
    assert (min(ratios), max(ratios)) == pytest.approx(RATIO, rel=0.01)
    # Boxes of up to 0.4 always fit, so there the share is uniform: half of them lie below the middle, 0.24.
    fitting = [share for share in shares if share < 0.4]
    assert np.mean(np.array(fitting) < 0.24) == pytest.approx(0.5, abs=4 * 0.5 / len(fitting) ** 0.5)


def test_ratios_are_uniform_on_a_logarithmic_scale() -> None:
    """The middle of 3/4 and 4/3 is a square."""
    left, top, right, bottom = random_box(400, 400, np.full((ATTEMPTS, 4), 0.5))
    assert right - left == bottom - top


def test_boxes_reach_every_corner() -> None:
    uniform = np.full((ATTEMPTS, 4), 0.5)
    uniform[:, 0], uniform[:, 2:] = 0.0, 0.999999
    assert random_box(400, 300, uniform)[2:] == (400, 300)
    uniform[:, 2:] = 0.0
    assert random_box(400, 300, uniform)[:2] == (0, 0)


@pytest.mark.parametrize(
    ("size", "box"),
    [((1000, 100), (433, 0, 566, 100)), ((100, 1000), (0, 433, 100, 566)), ((300, 300), (0, 0, 300, 300))],
)
def test_where_no_attempt_fits_the_largest_central_crop_is_taken(size: tuple[int, int], box: tuple[int, ...]) -> None:
    uniform = np.full((ATTEMPTS, 4), 0.5)
    uniform[:, 0] = 1.0
    if size[0] == size[1]:
        uniform[:, 1] = 1.0
    assert tuple(random_box(*size, uniform)) == box


def test_crops_differ_between_items_and_half_are_mirrored() -> None:
    drawn = CropDraws.draw(draws(1), 400)
    assert drawn.uniform.shape == (400, ATTEMPTS, 4)
    assert 160 < int(drawn.flip.sum()) < 240  # four standard deviations of a fair coin


@pytest.mark.parametrize("size", [(450, 300), (320, 480), (256, 256), (40, 30)])
def test_the_evaluation_view_is_torchvisions_resize_and_centre_crop(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    photograph(*size).save(path, quality=95)
    with Image.open(path) as image:
        short, long = min(size), max(size)
        scaled = (256, int(256 * long / short)) if size[0] <= size[1] else (int(256 * long / short), 256)
        expected = image.convert("RGB").resize(scaled, Image.Resampling.BILINEAR)
    left, top = round((scaled[0] - 224) / 2), round((scaled[1] - 224) / 2)
    assert np.array_equal(evaluation_view(path, 224), np.asarray(expected.crop((left, top, left + 224, top + 224))))


def test_the_training_view_shows_the_drawn_box(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    photograph(300, 200).save(path)
    uniform = draws(5).random((ATTEMPTS, 4))
    box = random_box(300, 200, uniform)
    view = training_view(path, 64, uniform, flip=False)
    red, green = view[32, 32, :2]
    # The picture's red is x and its green is y; one step of 8 bits is about a pixel.
    assert red == pytest.approx(255 * (box.left + box.right) / 2 / 300, abs=2)
    assert green == pytest.approx(255 * (box.top + box.bottom) / 2 / 200, abs=2)
    assert np.array_equal(training_view(path, 64, uniform, flip=True), view[:, ::-1])


def test_decoding_at_reduced_size_shows_the_same_picture(tmp_path: Path) -> None:
    large, exact = tmp_path / "large.jpg", tmp_path / "large.png"
    photograph(1600, 1203).save(large, quality=95)
    with Image.open(large) as image:
        image.save(exact)
    for key in range(4):
        uniform = draws(key).random((ATTEMPTS, 4))
        fast = training_view(large, 64, uniform, flip=False).astype(int)
        slow = training_view(exact, 64, uniform, flip=False).astype(int)
        # Averaging in the decoder and in the resize round differently, by a few steps of 8 bits.
        assert np.abs(fast - slow).max() <= 6
    assert np.abs(evaluation_view(large, 64).astype(int) - evaluation_view(exact, 64)).max() <= 6


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_pictures_become_rgb(mode: str, copy: Path) -> None:
    dataset = load_dataset("imagenet", root=copy, options={"image_size": 16})
    photograph(300, 200).convert(mode).save(copy / paths(dataset.test)[0])
    images, _ = dataset.test.batch(np.array([0]), None)
    assert images.shape == (1, 3, 16, 16)
    images, _ = dataset.test.batch(np.array([0]), draws(0))
    assert images.shape == (1, 3, 16, 16)


def test_pixels_are_normalised_with_imagenets_statistics(copy: Path) -> None:
    dataset = load_dataset("imagenet", root=copy, options={"image_size": 16})
    Image.new("RGB", (64, 64), (255, 255, 255)).save(copy / paths(dataset.test)[1])
    images, _ = dataset.test.batch(np.array([1]), None)
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert images[0, :, 8, 8].tolist() == pytest.approx(expected, rel=1e-6)  # float32


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"not an image", "cut"])
@pytest.mark.parametrize("augment", [False, True])
def test_a_corrupt_image_is_named(content: bytes | str, augment: bool, copy: Path) -> None:
    dataset = load_dataset("imagenet", root=copy, options={"image_size": 16})
    path = copy / paths(dataset.test)[2]
    path.write_bytes(path.read_bytes()[:4000] if isinstance(content, str) else content)
    with pytest.raises(DataError) as caught:
        list(BatchLoader.iterate(dataset.test, batch_size=2, augment=augment))
    assert str(path) in str(caught.value)
    assert "cannot be read as an image" in str(caught.value)
    assert "replace or remove the file" in str(caught.value)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_named_before_a_run_begins(make: Callable[[Path], None], copy: Path) -> None:
    image = min(copy.glob("train/*/*.JPEG"))
    image.unlink()
    make(image)
    with pytest.raises(
        DataError, match=rf"^{image} is no file but a directory, a pipe or a device; replace or remove it$"
    ):
        dataset_fingerprint("imagenet", root=copy)


def spoil(copy: Path, how: str) -> None:
    folder = copy / "train" / "medium_checks"
    if how == "no tree":
        shutil.rmtree(copy)
    elif how == "no val":
        shutil.rmtree(copy / "val")
    elif how == "flat val":
        for path in list((copy / "val").rglob("*.JPEG")):
            path.rename(copy / "val" / path.name)
        for part in list((copy / "val").iterdir()):
            if part.is_dir():
                part.rmdir()
    elif how == "class missing in val":
        shutil.rmtree(copy / "val" / "medium_checks")
    elif how == "class missing in train":
        shutil.rmtree(folder)
    else:
        for path in sorted(folder.iterdir())[1:]:
            path.unlink()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("no tree", "looked in {root}: no folder 'train'"),
        ("no val", "looked in {root}: no folder 'val'"),
        ("flat val", "looked in {root}: 'val' has no class folders"),
        ("class missing in val", "looked in {root}: 'val' has no folder for class 'medium_checks'"),
        ("class missing in train", "looked in {root}: 'train' has no folder for class 'medium_checks'"),
        ("one image", "looked in {root}: 'train/medium_checks' has 1 JPEG files and needs 2"),
    ],
)
def test_another_layout_is_one_clear_message(how: str, reason: str, copy: Path) -> None:
    spoil(copy, how)
    for attempt in (load_dataset, dataset_fingerprint):
        with pytest.raises(DataError) as caught:
            attempt("imagenet", root=copy)
        message = str(caught.value)
        assert f"no ImageNet tree ({reason.format(root=copy)}); {LAYOUT}" in message
        assert SAMPLE in message
        assert "`--data DIR`" in message
        assert "\n" not in message


def test_without_a_root_the_message_is_the_same() -> None:
    with pytest.raises(DataError) as caught:
        load_dataset("imagenet")
    assert str(caught.value).startswith(f"no ImageNet tree (no directory was given); {LAYOUT}")
