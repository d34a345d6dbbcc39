"""What every data set promises."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from qbench.data import (
    Dataset,
    Split,
    dataset_fingerprint,
    dataset_names,
    load_dataset,
    registry,
    resolve_dataset_options,
)
from qbench.errors import DataError, InputError, UnknownNameError


def draws(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


def splits(dataset: Dataset) -> dict[str, Split]:
    return {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}


def everything(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    return split.batch(np.arange(len(split)), None)


def test_names_and_descriptions() -> None:
    assert dataset_names() == ["digits", "glyphs", "imagenet"]
    assert [entry.load().needs_root for entry in registry] == [False, False, True]
    assert all(entry.load().description for entry in registry)


@pytest.mark.parametrize("augmented", [False, True])
def test_batches_have_the_promised_form(dataset: Dataset, augmented: bool) -> None:
    for split in splits(dataset).values():
        images, labels = split.batch(np.array([3, 0, 3]), draws(0) if augmented else None)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.shape == (3, dataset.in_channels, dataset.image_size, dataset.image_size)
        assert labels.shape == (3,)
        assert bool(images.isfinite().all())
        assert labels[0] == labels[2]


def test_every_split_holds_every_class_and_nothing_else(dataset: Dataset) -> None:
    for split in splits(dataset).values():
        _, labels = everything(split)
        assert labels.unique().tolist() == list(range(dataset.num_classes))


def test_the_first_items_are_of_several_classes(dataset: Dataset) -> None:
    for split in splits(dataset).values():
        _, labels = everything(split)
        assert len(labels[: len(labels) // 2].unique()) > 1


def test_pixels_are_normalised(dataset: Dataset) -> None:
    images, _ = everything(dataset.train)
    # Loose: the constants belong to the full data set, and ImageNet's to photographs.
    assert abs(images.mean().item()) < 0.6
    assert 0.5 < images.std().item() < 1.6


def test_splits_share_no_item(dataset: Dataset) -> None:
    seen = [{image.numpy().tobytes() for image in everything(split)[0]} for split in splits(dataset).values()]
    assert [len(part) for part in seen] == [len(split) for split in splits(dataset).values()]
    assert len(set.union(*seen)) == sum(map(len, seen))


def test_batches_do_not_depend_on_their_neighbours(dataset: Dataset) -> None:
    together, _ = dataset.train.batch(np.array([0, 1, 2]), None)
    alone, _ = dataset.train.batch(np.array([1]), None)
    assert torch.equal(together[1:2], alone)


def test_augmentation_is_drawn_from_the_generator_alone(dataset: Dataset) -> None:
    indices = np.arange(8)
    global_states = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    first, labels = dataset.train.batch(indices, draws(1))
    second, labels_again = dataset.train.batch(indices, draws(1))
    other, _ = dataset.train.batch(indices, draws(2))
    plain, plain_labels = dataset.train.batch(indices, None)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(first, plain)
    assert torch.equal(labels, labels_again)
    assert torch.equal(labels, plain_labels)
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert after == global_states


def test_augmented_batches_do_not_touch_the_items(dataset: Dataset) -> None:
    before, _ = dataset.train.batch(np.arange(8), None)
    images, labels = dataset.train.batch(np.arange(8), draws(3))
    images.zero_()
    labels.zero_()
    assert torch.equal(dataset.train.batch(np.arange(8), None)[0], before)


def test_loading_again_gives_the_same_items(case: object, dataset: Dataset) -> None:
    again = case.load()  # type: ignore[attr-defined]
    for one, two in zip(splits(dataset).values(), splits(again).values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(everything(one), everything(two), strict=True))
        assert one.content_sha() == two.content_sha()


def test_fingerprints(case: object, dataset: Dataset) -> None:
    shas = [split.content_sha() for split in splits(dataset).values()]
    shas.append(dataset_fingerprint(case.name, case.root, case.options))  # type: ignore[attr-defined]
    assert len(set(shas)) == 4
    assert all(len(sha) == 16 and int(sha, 16) >= 0 for sha in shas)
    assert dataset_fingerprint(case.name, case.root, case.options) == shas[-1]  # type: ignore[attr-defined]


def test_the_source_is_told(dataset: Dataset) -> None:
    assert len(dataset.source) > 20
    assert dataset.name in dataset_names()


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("digit", {}, UnknownNameError, "unknown data set 'digit', did you mean 'digits'?"),
        ("digits", {"size": 3}, UnknownNameError, "data set 'digits' has no option 'size'; known: none"),
        ("glyphs", {"num_trian": 3}, UnknownNameError, "has no option 'num_trian', did you mean 'num_train'?"),
        (
            "glyphs",
            {"num_train": 0},
            InputError,
            "option 'num_train': input should be greater than or equal to 1, not 0",
        ),
        ("imagenet", {"root": "x"}, UnknownNameError, "data set 'imagenet' has no option 'root'"),
        (
            "imagenet",
            {"validation_fraction": 1.0},
            InputError,
            "option 'validation_fraction': input should be less than 1",
        ),
    ],
)
def test_bad_names_and_options(name: str, options: dict[str, object], error: type[InputError], message: str) -> None:
    for attempt in (lambda: load_dataset(name, options=options), lambda: dataset_fingerprint(name, None, options)):
        with pytest.raises(error) as caught:
            attempt()
        assert message in str(caught.value)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["digits", "glyphs"])
def test_a_root_that_has_no_effect_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not read from a directory, so .* has no effect; leave it out"):
        load_dataset(name, root=tmp_path)


def test_options_are_filled_in() -> None:
    assert resolve_dataset_options("glyphs", {"num_test": 5}) == {
        "num_train": 40_000,
        "num_validation": 4_000,
        "num_test": 5,
    }
    assert resolve_dataset_options("imagenet", {}) == {"image_size": 224, "validation_fraction": 0.01}
