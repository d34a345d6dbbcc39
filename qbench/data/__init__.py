"""The data sets: fixed splits, batches that depend on nothing but (seed, epoch, batch), fingerprints.

Listing them imports neither torch nor anything else that is heavy.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qbench.errors import DataError
from qbench.factory import Factory, registry_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qbench.data.cache import cache_dir as cache_dir
    from qbench.data.dataset import Dataset as Dataset
    from qbench.data.dataset import Split as Split
    from qbench.data.loader import Batch as Batch
    from qbench.data.loader import BatchLoader as BatchLoader
    from qbench.data.loader import num_batches as num_batches
    from qbench.data.sample import write_sample_imagenet as write_sample_imagenet

_HOME = {
    "cache_dir": "qbench.data.cache",
    "Dataset": "qbench.data.dataset",
    "Split": "qbench.data.dataset",
    "Batch": "qbench.data.loader",
    "BatchLoader": "qbench.data.loader",
    "num_batches": "qbench.data.loader",
    "write_sample_imagenet": "qbench.data.sample",
}


@dataclass(frozen=True)
class DatasetFactory(Factory["Dataset"]):
    """A data set's name; ``needs_root`` says whether it is read from a directory that the user names.

    Its module defines ``load(**options) -> Dataset`` and, with the same arguments, a cheap
    ``fingerprint(**options) -> str``; with ``needs_root`` both take ``root: Path | None`` too.
    """

    needs_root: bool = False

    def arguments(self, root: Path | None, options: Mapping[str, object]) -> dict[str, object]:
        """Checked keyword arguments for ``load`` and ``fingerprint``."""
        resolved = self.resolve(options)
        if self.needs_root:
            return {**resolved, "root": root}
        if root is not None:
            raise DataError(
                f"data set '{self.name}' is not read from a directory, so {root} has no effect; leave it out"
            )
        return resolved


registry = registry_of(
    "data set",
    [
        DatasetFactory(
            "data set", "digits", "1797 handwritten digits, 8x8 grey, 10 classes", "qbench.data.digits:load"
        ),
        DatasetFactory(
            "data set", "glyphs", "rendered characters, 32x32 colour, 16 classes", "qbench.data.glyphs:load"
        ),
        DatasetFactory(
            "data set",
            "imagenet",
            "class folders of JPEGs, 224x224 colour, as many classes as folders",
            "qbench.data.imagenet:load",
            needs_root=True,
        ),
    ],
)


def dataset_names() -> list[str]:
    """All data set names, sorted."""
    return registry.names()


def resolve_dataset_options(name: str, options: Mapping[str, object]) -> dict[str, object]:
    """All options of the data set after checking, defaults filled in. Raises InputError."""
    return registry.get(name).resolve(options)


def load_dataset(name: str, *, root: Path | str | None = None, options: Mapping[str, object] | None = None) -> Dataset:
    """The data set ``name``; ``root`` is where one with ``needs_root`` lies.

    The first call may prepare data in :func:`cache_dir`. Raises UnknownNameError for an unknown name or option,
    InputError for an option out of its range, DataError for missing or damaged data.
    """
    factory = registry.get(name)
    return factory.function(**factory.arguments(_path(root), options or {}))


def dataset_fingerprint(name: str, root: Path | str | None = None, options: Mapping[str, object] | None = None) -> str:
    """What the data set's content depends on, as 16 hex digits, without preparing or decoding anything."""
    factory = registry.get(name)
    sha: str = factory.module.fingerprint(**factory.arguments(_path(root), options or {}))
    return sha


def _path(root: Path | str | None) -> Path | None:
    return None if root is None else Path(root).expanduser()


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'qbench.data' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
