"""A results directory: one file per record, written atomically, readable while a run is going on.

suite.json              which suite, and which records belong to its last plan
records/<key>.json      training runs
measures/<key>.json     speed and memory
logs/<key>.log          what a worker printed, every attempt
damaged/                records that could not be read, moved aside and never deleted
SHA256SUMS              digests of suite.json and the records, as runs wrote them
lock, running.json      who is writing
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from qbench.atomic import remove_leftovers, write_atomic
from qbench.cell import MeasureRecord, Record
from qbench.errors import StoreError
from qbench.reading import read_regular
from qbench.store import sums
from qbench.store.files import Damaged, damaged_in, load, refuse_closed, set_aside, told
from qbench.store.lock import Writer, only_writer, writer
from qbench.store.manifest import RunManifest

_FOLDERS = ("records", "measures", "logs")
R = TypeVar("R", Record, MeasureRecord)


class Store:
    """The records below one directory. Make one with :meth:`open`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path, suite_name: str | None = None, *, create: bool = False) -> Store:
        """The results at ``path``, for reading; or, with ``create``, for a run of the suite ``suite_name``.

        Raises :class:`StoreError` for a directory that is missing (without ``create``), unreadable, not a results
        directory, or another suite's.
        """
        store = cls(path)
        if create:
            with told(f"results directory {path} cannot be created"):
                path.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            raise StoreError(f"there are no results at {path}; make some with 'qbench run SUITE --out {path}'")
        if not path.is_dir():
            raise StoreError(f"{path} is a file, not a results directory; name a directory")
        store._check_owner(suite_name, create)
        return store

    def _check_owner(self, suite_name: str | None, create: bool) -> None:
        with told(f"results directory {self.path} cannot be read"):
            names = sorted(os.listdir(self.path))
        manifest = self.manifest
        if manifest is None and not create:
            raise StoreError(f"{self.path} is no results directory of qbench: it has no suite.json")
        # Another run may have made the directory a moment ago, or suite.json been deleted because it was damaged.
        if manifest is None and names and "lock" not in names and not set(_FOLDERS) <= set(names):
            raise StoreError(f"{self.path} holds other files ({names[0]}, ...); choose a new directory with --out")
        if manifest and suite_name is not None and manifest.suite != suite_name:
            raise StoreError(
                f"{self.path} holds results of suite '{manifest.suite}', not of '{suite_name}'; "
                "choose another directory with --out"
            )

    @property
    def manifest(self) -> RunManifest | None:
        """What suite.json says; None before the first run. Raises StoreError where it cannot be read."""
        file = self.path / "suite.json"
        try:
            return RunManifest.model_validate_json(read_regular(file))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{file} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            what = "is damaged; delete this one file and run the suite again: finished cells are kept"
            if error.errors()[0]["loc"] == ("format",):
                what = "was written by another version of qbench; use that one, or choose another directory with --out"
            raise StoreError(f"{file} {what}") from None

    @property
    def environment(self) -> dict[str, Any]:
        """The machine and software of the last run."""
        manifest = self.manifest
        return manifest.environment if manifest else {}

    # --- writing: only while the lock is held

    def lock(self) -> AbstractContextManager[None]:
        """Be the only run that writes here. Raises :class:`StoreError` where another one is at it."""
        return only_writer(self.path)

    def recover(self) -> list[Damaged]:
        """Clear up after a killed writer, and move damaged records aside, so that they are made again.

        Raises :class:`StoreError` where one cannot be read: it may be intact, and must not be written over.
        """
        for folder in _FOLDERS:
            with told(f"results directory {self.path} cannot be written"):
                (self.path / folder).mkdir(exist_ok=True)
                remove_leftovers(self.path / folder)
        remove_leftovers(self.path)
        found = self.damaged()
        refuse_closed(found)
        return self.set_aside(found)

    def set_aside(self, found: Sequence[Damaged]) -> list[Damaged]:
        """Move damaged records into :attr:`aside`; where they are now."""
        with told(f"{self.path / sums.NAME} cannot be written"):
            for damaged in found:
                sums.take_out(self.path, damaged.path.relative_to(self.path).as_posix())
        return set_aside(found, self.aside)

    def begin(self, manifest: RunManifest) -> None:
        """Make ``manifest`` the plan that :meth:`records` is about."""
        self.write("suite.json", manifest.after(self.manifest).model_dump(mode="json"))

    def put(self, record: Record) -> None:
        """Write a training record, over an earlier one of the same key. It is on disk when this returns."""
        self.write(f"records/{record.key}.json", json.loads(record.model_dump_json()))

    def put_measure(self, measure: MeasureRecord) -> None:
        """Write a measurement, over an earlier one of the same key. It is on disk when this returns."""
        self.write(f"measures/{measure.key}.json", json.loads(measure.model_dump_json()))

    def write(self, name: str, content: object) -> None:
        """Write ``content`` as JSON to the file ``name`` of the directory; on disk when this returns."""
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        with told(f"{self.path / name} cannot be written"):
            sums.take_out(self.path, name)
            write_atomic(self.path / name, text.encode())

    def seal(self) -> None:
        """List the digests of what a run leaves, for :meth:`changed` and for ``sha256sum -c``."""
        with told(f"{self.path / sums.NAME} cannot be written"):
            sums.seal(self.path)

    @property
    def aside(self) -> Path:
        """Where damaged records are kept."""
        return self.path / "damaged"

    def log(self, key: str, task: str = "train") -> Path:
        """Where the worker's output for a key is kept."""
        return self.path / "logs" / f"{key}.{task}.log"

    # --- reading

    def writer(self) -> Writer | None:
        """The run that writes here now, or that may, from another host; None where none does."""
        return writer(self.path)

    def underway(self, task: str = "train") -> list[str]:
        """Keys of the plan's cells that the present writer has begun and not ended, the latest begun first.

        A log begins with its worker, and a record ends it.
        """
        at_work, manifest = self.writer(), self.manifest
        if at_work is None or manifest is None:
            return []
        planned = manifest.cells if task == "train" else manifest.measures
        begun = {key: _modified_s(self.log(key, task)) for key in planned}
        recent = sorted((key for key in begun if begun[key] >= at_work.started_s), key=begun.__getitem__, reverse=True)
        return [key for key in recent if not self._has_ended(key, at_work)]

    def _has_ended(self, key: str, at_work: Writer) -> bool:
        record = self.record(key)
        return record is not None and record.finished >= at_work.started

    def record(self, key: str) -> Record | None:
        """The training record of ``key``; None where there is none, or none that can be read."""
        return load(self.path / "records" / f"{key}.json", Record)

    def measure(self, key: str) -> MeasureRecord | None:
        """The measurement of ``key``; None where there is none, or none that can be read."""
        return load(self.path / "measures" / f"{key}.json", MeasureRecord)

    def records(self) -> list[Record]:
        """The training records of the last plan that exist by now, in its order."""
        return self._found(self.record, lambda manifest: manifest.cells)

    def measures(self) -> list[MeasureRecord]:
        """The measurements of the last plan that exist by now, in its order."""
        return self._found(self.measure, lambda manifest: manifest.measures)

    def waiting(self, records: Sequence[Record]) -> int:
        """How many cells of the last plan have no record; records: those that have one."""
        manifest = self.manifest
        return len(manifest.cells) - len(records) if manifest else 0

    def damaged(self) -> list[Damaged]:
        """Files that should hold a record and do not, and folders and files that cannot be read."""
        return [
            *damaged_in(self.path / "records", Record, "its cell runs again"),
            *damaged_in(self.path / "measures", MeasureRecord, "its measurement is made again"),
        ]

    def changed(self) -> list[Path]:
        """Files that are gone, or not what they were when the last run ended."""
        with told(f"{self.path / sums.NAME} cannot be read"):
            return list(sums.changed(self.path))

    def _found(self, load: Callable[[str], R | None], planned: Callable[[RunManifest], Iterable[str]]) -> list[R]:
        manifest = self.manifest
        found = map(load, planned(manifest)) if manifest else ()
        return [record for record in found if record is not None]


def _modified_s(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
