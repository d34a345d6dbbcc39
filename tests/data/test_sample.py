"""The generated tree: what it looks like, that it repeats itself, and that it overwrites nothing."""

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qbench.data import sample, write_sample_imagenet
from qbench.errors import DataError, InputError


def files(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*.JPEG")}


def test_layout_and_sizes(tree: Path) -> None:
    assert sorted(path.name for path in tree.iterdir()) == ["train", "val"]
    counts = {folder: len(list(folder.iterdir())) for part in tree.iterdir() for folder in part.iterdir()}
    assert sorted(folder.relative_to(tree).as_posix() for folder in counts) == [
        f"{part}/medium_{name}" for part in ("train", "val") for name in ("bricks", "checks", "crosses")
    ]
    assert {(folder.parent.name, count) for folder, count in counts.items()} == {("train", 6), ("val", 2)}
    sizes = set()
    for path in tree.rglob("*.JPEG"):
        with Image.open(path) as image:
            assert image.format == "JPEG"
            assert image.mode == "RGB"
            sizes.add(image.size)
    assert len(sizes) > 10
    assert all(300 <= side <= 500 for size in sizes for side in size)


def test_the_same_arguments_give_the_same_pictures(tree: Path, tmp_path: Path) -> None:
    write_sample_imagenet(tmp_path / "again", classes=3, train_per_class=6, val_per_class=2)
    again = files(tmp_path / "again")
    assert again == files(tree)
    assert len(set(again.values())) == len(again)


def test_every_class_is_a_texture_of_its_own() -> None:
    assert len(set(sample._NAMES)) == 24
    pictures = [sample._picture(np.random.Generator(np.random.Philox(key=1)), name) for name in sample._NAMES]
    assert len({picture.tobytes() for picture in pictures}) == 24
    # Each shows its pattern: far more variation than the noise alone has.
    assert min(picture.std((0, 1)).max() for picture in pictures) > 12


@pytest.mark.parametrize("inside", ["file", ".hidden"])
def test_a_directory_with_something_in_it_is_left_alone(inside: str, tmp_path: Path) -> None:
    (tmp_path / inside).write_text("mine")
    with pytest.raises(DataError) as caught:
        write_sample_imagenet(tmp_path, classes=2, train_per_class=2, val_per_class=1)
    assert str(caught.value) == (
        f"{tmp_path} is not an empty directory, and a sample never overwrites; choose a new directory"
    )
    assert [path.name for path in tmp_path.iterdir()] == [inside]


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(DataError, match="out is not an empty directory"):
        write_sample_imagenet(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"the sample's directory .*file/out cannot be written to"):
        write_sample_imagenet(tmp_path / "file" / "out")


def test_a_full_disk_is_said_and_leaves_no_half_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match=r"^the sample cannot be written to .*/out: No space left on device; make room"):
        write_sample_imagenet(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interrupted_sample_leaves_no_half_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def interrupt(*arguments: object) -> None:
        written.append(arguments)
        if len(written) == 3:
            raise KeyboardInterrupt
        (arguments[0]).mkdir(parents=True)  # type: ignore[attr-defined]

    monkeypatch.setattr(sample, "_write_class", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_sample_imagenet(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"classes": 1}, "a sample needs classes of 2 to 24, not 1"),
        ({"classes": 25}, "a sample needs classes of 2 to 24, not 25"),
        ({"train_per_class": 1}, "a sample needs train_per_class of at least 2, not 1"),
        ({"val_per_class": 0}, "a sample needs val_per_class of at least 1, not 0"),
    ],
)
def test_bad_numbers(numbers: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        write_sample_imagenet(tmp_path / "out", **numbers)  # type: ignore[arg-type]
    assert str(caught.value) == message
    assert not (tmp_path / "out").exists()
