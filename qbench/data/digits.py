"""scikit-learn's handwritten digits: 1797 real 8x8 scans, present wherever scikit-learn is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qbench.data.arrays import ArraySplit
from qbench.data.dataset import Dataset
from qbench.data.fingerprint import fingerprint as sha
from qbench.data.streams import Streams

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TEST_PER_CLASS = 40
_VALIDATION_PER_CLASS = 20
# Of the training split's pixels (0..16).
_MEAN, _STD = 4.89, 6.02
_SHIFT = 1


def load() -> Dataset:
    """1197 training, 200 validation and 400 test digits; the last two hold equally many of each class."""
    images, labels = _read()
    train, validation, test = (
        ArraySplit(images[chosen], labels[chosen], mean=[_MEAN], std=[_STD], shift=_SHIFT)
        for chosen in _split_indices(labels)
    )
    return Dataset(
        "digits",
        10,
        1,
        8,
        train,
        validation,
        test,
        "handwritten digits of 43 people (UCI ML, Alpaydin and Kaynak 1998), as shipped with scikit-learn",
    )


def fingerprint() -> str:
    """Over all pixels and labels, and the split."""
    images, labels = _read()
    return sha(images, labels, *_split_indices(labels))


def _read() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    table = _table()
    return table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].astype(np.int64)


def _table() -> NDArray[np.uint8]:
    """uint8 [1797, 65]: 64 pixels in 0..16 and the label.

    Read from scikit-learn's own file: importing scikit-learn takes seconds, and every cell is a process of its own.
    """
    spec = find_spec("sklearn")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return np.loadtxt(path, delimiter=",", dtype=np.uint8)
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target]).astype(np.uint8)


def _split_indices(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Item numbers of the training, validation and test split, each in a fixed mixed order."""
    draws = Streams().at((1797, 0))
    parts: tuple[list[NDArray[np.int64]], ...] = ([], [], [])
    for label in range(10):
        members = draws.permutation(np.flatnonzero(labels == label))
        cuts = (_TEST_PER_CLASS, _TEST_PER_CLASS + _VALIDATION_PER_CLASS)
        for part, members_of_part in zip(parts[::-1], np.split(members, cuts), strict=True):
            part.append(members_of_part)
    return tuple(draws.permutation(np.concatenate(part)) for part in parts)
