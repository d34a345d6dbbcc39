"""ImageNet, or anything in its layout: class folders of JPEGs under train/ and val/."""

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Interval
from numpy.typing import NDArray

from qbench.data.dataset import Dataset
from qbench.data.fingerprint import fingerprint as sha
from qbench.data.jpeg import CropDraws, evaluation_view, training_view
from qbench.data.streams import Streams
from qbench.environment import usable_cores
from qbench.errors import DataError
from qbench.options import PositiveInt

# The usual statistics of ImageNet's pixels, as a share of 255.
_MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
_STD = np.array([0.229, 0.224, 0.225], np.float32) * 255
_SUFFIXES = {".jpeg", ".jpg"}

OpenFraction = Annotated[float, Interval(gt=0, lt=1)]  # written alike everywhere: Python keeps the first of equal types

Item = tuple[str, int]
"""A file, relative to the root, and its label."""


def load(*, root: Path | None, image_size: PositiveInt = 224, validation_fraction: OpenFraction = 0.01) -> Dataset:
    """The tree under ``root``: the test split is val/, the validation split a fixed part of train/.
    Raises :class:`DataError` for a missing tree or another layout.

    image_size: side of what the network sees. validation_fraction: the share of every class's training images that
    is held out, chosen by the hash of the file's name; at least one image. Labels follow the sorted folder names.
    """
    root = _checked(root)
    classes = _class_names(root)
    train: list[Item] = []
    validation: list[Item] = []
    for label, name in enumerate(classes):
        kept, held = _divided(_images(root, f"train/{name}"), validation_fraction)
        train += [(path, label) for path in kept]
        validation += [(path, label) for path in held]
    test = [(path, label) for label, name in enumerate(classes) for path in _images(root, f"val/{name}")]
    splits = (TreeSplit(root, _mixed(items), image_size) for items in (train, validation, test))
    source = f"JPEG class folders under {root.absolute()}"
    return Dataset("imagenet", len(classes), 3, image_size, next(splits), next(splits), next(splits), source)


def fingerprint(*, root: Path | None, image_size: PositiveInt = 224, validation_fraction: OpenFraction = 0.01) -> str:
    """Over the options and every file's relative path and size; contents are not read."""
    root = _checked(root)
    paths = [
        path for name in _class_names(root) for part in ("train", "val") for path in _images(root, f"{part}/{name}")
    ]
    return sha(f"{image_size} {validation_fraction!r}", _listing(root, sorted(paths)))


class TreeSplit:
    """Image files with labels, decoded batch by batch in several threads; see :class:`~qbench.data.dataset.Split`."""

    decodes = True

    def __init__(self, root: Path, items: list[Item], image_size: int) -> None:
        self._root = root
        self._paths = [path for path, _ in items]
        self._labels = np.array([label for _, label in items], np.int64)
        self._size = image_size

    def __len__(self) -> int:
        return len(self._paths)

    def batch(
        self, indices: NDArray[np.int64], augment: np.random.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images float32 [N, 3, size, size] and labels int64 [N]. Raises :class:`DataError` naming a bad file."""
        draws = None if augment is None else CropDraws.draw(augment, len(indices))
        images = np.empty((len(indices), 3, self._size, self._size), np.float32)

        def fill(position: int) -> None:
            view = self._view(int(indices[position]), position, draws)
            images[position] = ((view - _MEAN) / _STD).transpose(2, 0, 1)

        for _ in _decoders().map(fill, range(len(indices))):
            pass
        return torch.from_numpy(images), torch.from_numpy(self._labels[indices])

    def content_sha(self) -> str:
        """Fingerprint of every file's path, size and label (hashing 140 GB of pixels would take an hour)."""
        return self._content_sha

    @cached_property
    def _content_sha(self) -> str:
        return sha(_listing(self._root, self._paths), self._labels)

    def _view(self, item: int, position: int, draws: CropDraws | None) -> NDArray[np.uint8]:
        path = self._root / self._paths[item]
        if draws is None:
            return evaluation_view(path, self._size)
        return training_view(path, self._size, draws.uniform[position], flip=bool(draws.flip[position]))


@cache
def _decoders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(16, usable_cores()), thread_name_prefix="qbench-decode")


def _checked(root: Path | None) -> Path:
    if root is None:
        raise _no_tree("no directory was given")
    for part in ("train", "val"):
        if not (root / part).is_dir():
            raise _no_tree(f"looked in {root.absolute()}: no folder '{part}'")
    return root


def _class_names(root: Path) -> list[str]:
    train, val = ({entry.name for entry in os.scandir(root / part) if entry.is_dir()} for part in ("train", "val"))
    for part, names, others in (("train", train, val), ("val", val, train)):
        if not names:
            raise _no_tree(f"looked in {root.absolute()}: '{part}' has no class folders")
        if others - names:
            raise _no_tree(f"looked in {root.absolute()}: '{part}' has no folder for class '{min(others - names)}'")
    return sorted(train)


def _images(root: Path, folder: str) -> list[str]:
    """Paths relative to ``root``, sorted."""
    names = sorted(entry.name for entry in os.scandir(root / folder) if Path(entry.name).suffix.lower() in _SUFFIXES)
    needed = 2 if folder.startswith("train") else 1
    if len(names) < needed:
        raise _no_tree(f"looked in {root.absolute()}: '{folder}' has {len(names)} JPEG files and needs {needed}")
    return [f"{folder}/{name}" for name in names]


def _no_tree(reason: str) -> DataError:
    return DataError(
        f"no ImageNet tree ({reason}); expected class folders of JPEGs, DIR/train/<class>/*.JPEG and "
        "DIR/val/<class>/*.JPEG: pass such a directory with `--data DIR`, or write a small sample with "
        "`qbench data sample imagenet --out DIR`"
    )


def _divided(paths: list[str], fraction: float) -> tuple[list[str], list[str]]:
    """What is kept for training, and what is held out for validation; both get at least one."""
    ranked = sorted(paths, key=lambda path: hashlib.sha256(path.encode()).digest())
    held = min(max(1, round(fraction * len(paths))), len(paths) - 1)
    return ranked[held:], ranked[:held]


def _mixed(items: list[Item]) -> list[Item]:
    """A fixed shuffle, so that the first items of a split are of all classes."""
    order = Streams().at((224, 0)).permutation(len(items))
    return [items[position] for position in order]


def _listing(root: Path, paths: list[str]) -> str:
    return "\n".join(f"{path} {_size_of(root / path)}" for path in paths)


def _size_of(path: Path) -> int:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for without end
        raise DataError(f"{path} is no file but a directory, a pipe or a device; replace or remove it")
    return found.st_size
