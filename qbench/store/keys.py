"""Keys of results: equal keys mean that running again would give the same, so it need not be done.

A key covers everything that can change a number: the method's source and options, model, data set and its content,
seed, arithmetic, device, settings, qbench's own arithmetic, library versions, environment variables and the hardware.
It leaves out what cannot: names for people, where files lie, and how long a cell may take.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from qbench.catalog import find_method
from qbench.cell import Cell
from qbench.environment import hardware_key, library_key, num_cores
from qbench.kernels.cpu import library_path
from qbench.variables import variables_of_numbers, variables_of_speed

_PACKAGE = Path(__file__).resolve().parent.parent
_COMPUTING = ("quant", "kernels", "nn", "optim", "models", "data", "train")
# What a recipe is, and the process that a cell is computed in: its environment, threads and memory.
_ALSO_COMPUTING = ("recipe.py", "engine/jobs.py", "engine/worker.py")
_SOURCE_SUFFIXES = {".py", ".c", ".cpp", ".h", ".hpp", ".cu", ".cuh"}
_KEY_DIGITS = 32

DataFingerprint = Callable[[str, Path | None, Mapping[str, object]], str]


class Keys:
    """Makes the keys of cells and measurements on this machine; data sets are fingerprinted once each.

    threads: CPU threads per worker; sums are split by it, so it is part of every key.
    fingerprint: the content of a data set, as :func:`qbench.data.dataset_fingerprint` gives it.
    """

    def __init__(self, *, threads: int, fingerprint: DataFingerprint | None = None) -> None:
        self.threads = threads
        self._fingerprint = fingerprint
        self._data: dict[str, str] = {}

    def cell(self, cell: Cell) -> str:
        """The key of a training run."""
        return digest({**self._common(cell), **_probes(cell), "task": "train", "seed": cell.seed})

    def measure(self, cell: Cell) -> str:
        """The key of a method's speed and memory: of no seed, and of any number of rounds."""
        from qbench.train.replay import is_allowed

        settings = cell.measure.model_dump(mode="json", exclude={"rounds", "enabled"})
        conditions = {"cores": num_cores(), "variables_of_speed": variables_of_speed(), "replayed": is_allowed()}
        return digest({**self._common(cell), **conditions, "task": "measure", "measure": settings})

    def data(self, cell: Cell) -> str:
        """The fingerprint of the cell's data set. Raises DataError where it is missing."""
        identity = json.dumps([cell.dataset, cell.data_root, cell.dataset_options], sort_keys=True)
        if identity not in self._data:
            root = Path(cell.data_root) if cell.data_root else None
            self._data[identity] = self._read_fingerprint(cell.dataset, root, cell.dataset_options)
        return self._data[identity]

    def _read_fingerprint(self, name: str, root: Path | None, options: Mapping[str, object]) -> str:
        if self._fingerprint is None:
            from qbench.data import dataset_fingerprint

            self._fingerprint = dataset_fingerprint
        return self._fingerprint(name, root, options)

    def _common(self, cell: Cell) -> dict[str, Any]:
        return {
            "method": method_source(cell.method),
            "options": cell.options,
            "model": [cell.model, cell.model_options],
            "dataset": [cell.dataset, cell.dataset_options, self.data(cell)],
            "arithmetic": cell.arithmetic,
            "device": cell.device,
            "train": cell.train.model_dump(mode="json", exclude={"timeout_s"}),
            "qbench": qbench_source(),
            "libraries": library_key(cell.device),
            "hardware": hardware_key(cell.device),
            "kernels": kernels_in_use(),
            "variables": variables_of_numbers(),
            "threads": self.threads,
        }


def _probes(cell: Cell) -> dict[str, Any]:
    """Nothing without probes: what they observe is in the record, the training is the same with and without them."""
    if not cell.probes:
        return {}
    asked = [probe.model_dump(mode="json") for probe in sorted(cell.probes, key=lambda probe: probe.name)]
    return {"probes": asked, "observing": sources_of([], ("probes",))}


def digest(content: object) -> str:
    """SHA-256 of ``content`` as JSON with sorted keys, first 32 hex digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


@cache
def method_source(reference: str) -> str:
    """SHA-256 of the file in which a method is defined, with the method's name: a file may hold several.

    Of a package that is not qbench's every source counts, since a method may keep its transform in another module.
    """
    method = find_method(reference)
    content = hashlib.sha256(method.name.encode() + b"\0" + method.source_file.read_bytes())
    package = _foreign_package(method.function.__module__)
    if package is not None:
        content.update(_content_of(_sources_below(package), package))
    return content.hexdigest()


def _foreign_package(module: str) -> Path | None:
    """The folder of the outermost package that holds ``module``; None for a single file and for qbench's methods."""
    names = module.split(".")
    outward = (".".join(names[:depth]) for depth in range(1, len(names) + 1))
    files = (Path(getattr(sys.modules.get(name), "__file__", None) or "") for name in outward)
    return next((file.parent for file in files if file.stem == "__init__" and names[0] != "qbench"), None)


def kernels_in_use() -> dict[str, str | None]:
    """What decides which compiled kernels serve: the extension that is loaded, and the variables that limit them."""
    limits = {name: os.environ.get(name) for name in ("QBENCH_KERNELS", "QBENCH_ISA")}
    return {"extension": _extension(library_path()), **limits}


@cache
def _extension(library: Path) -> str | None:
    """SHA-256 of the compiled CPU kernels; None where there are none."""
    return hashlib.sha256(library.read_bytes()).hexdigest() if library.exists() else None


@cache
def qbench_source() -> str:
    """SHA-256 over those of qbench's own sources that compute numbers."""
    return sources_of([_PACKAGE / name for name in _ALSO_COMPUTING], _COMPUTING)


def sources_of(files: list[Path], folders: Iterable[str]) -> str:
    """SHA-256 over ``files`` and the sources in ``folders`` of the package."""
    files = list(files)
    for folder in folders:
        files += _sources_below(_PACKAGE / folder)
    return hashlib.sha256(_content_of(files, _PACKAGE)).hexdigest()


def _sources_below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.suffix in _SOURCE_SUFFIXES]


def _content_of(files: Iterable[Path], root: Path) -> bytes:
    """The names of ``files``, seen from ``root``, and the SHA-256 of each."""
    content = ((file.relative_to(root).as_posix(), file.read_bytes()) for file in sorted(files))
    return b"".join(f"{name}\0".encode() + hashlib.sha256(text).digest() for name, text in content)
