"""The digits: real, complete, and split the same way for ever."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from qbench.data import dataset_fingerprint, digits, load_dataset
from qbench.data.arrays import crops


def test_they_are_scikit_learns() -> None:
    theirs = load_digits()
    table = digits._table()
    assert np.array_equal(table[:, :-1], theirs.data)
    assert np.array_equal(table[:, -1], theirs.target)


def test_without_the_file_scikit_learn_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digits._table()
    monkeypatch.setattr(digits, "find_spec", lambda _name: None)
    assert np.array_equal(digits._table(), expected)


def test_split_sizes_are_stratified() -> None:
    dataset = load_dataset("digits")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (1197, 200, 400)
    counts = [np.bincount(split.batch(np.arange(len(split)), None)[1]) for split in (dataset.validation, dataset.test)]
    assert [count.tolist() for count in counts] == [[20] * 10, [40] * 10]


def test_every_scan_is_used_once() -> None:
    _, labels = digits._read()
    parts = digits._split_indices(labels)
    assert sorted(np.concatenate(parts).tolist()) == list(range(1797))


def test_pinned_fingerprints() -> None:
    dataset = load_dataset("digits")
    shas = [split.content_sha() for split in (dataset.train, dataset.validation, dataset.test)]
    assert shas == ["53835d0c9cc92c01", "1dcd360a501eeb19", "84d0c8ec75f318cf"]
    assert dataset_fingerprint("digits") == "55d715c7ceb26d8a"


def test_pixels_are_the_scans_normalised() -> None:
    dataset = load_dataset("digits")
    _, labels = digits._read()
    scan = load_digits().images[digits._split_indices(labels)[0][5]]
    image, _ = dataset.train.batch(np.array([5]), None)
    assert np.allclose(image[0, 0].numpy(), (scan - 4.89) / 6.02, atol=1e-6)  # float32
    everything, _ = dataset.train.batch(np.arange(1197), None)
    assert abs(everything.mean().item()) < 0.005
    assert abs(everything.std().item() - 1) < 0.005


@pytest.mark.parametrize(("channels", "size", "pad"), [(1, 8, 1), (3, 5, 2)])
def test_shifts_equal_padding_and_cropping_by_hand(channels: int, size: int, pad: int) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (40, channels, size, size), dtype=np.uint8)
    corner = generator.integers(0, 2 * pad + 1, (2, 40))
    moved = crops(images, pad)[np.arange(40), :, corner[0], corner[1]]
    for image, result, (row, column) in zip(images, moved, corner.T, strict=True):
        padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
        assert np.array_equal(result, padded[:, row : row + size, column : column + size])


def test_augmentation_moves_by_every_pixel_in_reach_and_no_further() -> None:
    dataset = load_dataset("digits")
    plain, _ = dataset.train.batch(np.array([0]), None)
    augmented, _ = dataset.train.batch(np.zeros(400, np.int64), np.random.Generator(np.random.Philox(key=0)))
    padded = np.pad(plain.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=plain.min().item())
    expected = {padded[0, :, r : r + 8, c : c + 8].tobytes() for r in range(3) for c in range(3)}
    assert {image.numpy().tobytes() for image in augmented} == expected
