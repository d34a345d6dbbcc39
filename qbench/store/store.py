"""A results directory: one file per record, written atomically, readable while a run is going on.

    suite.json              which suite, and which records belong to its last plan
    records/<key>.json      training runs
    measures/<key>.json     speed and memory
    logs/<key>.log          what a worker printed, every attempt
    damaged/                records that could not be read, moved aside and never deleted
    lock, running.json      who is writing
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import ValidationError

from qbench.cell import MeasureRecord, Record
from qbench.errors import StoreError
from qbench.store.atomic import remove_leftovers, write_atomic
from qbench.store.manifest import RunManifest

_FOLDERS = ("records", "measures", "logs")
_OWN_NAMES = {"suite.json", *_FOLDERS, "damaged", "lock", "running.json"}
R = TypeVar("R", Record, MeasureRecord)


@dataclass(frozen=True)
class Damaged:
    """A file that should hold a record and does not."""

    path: Path
    reason: str


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
            with _told(f"results directory {path} cannot be created"):
                path.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            raise StoreError(f"there are no results at {path}; make some with 'qbench run SUITE --out {path}'")
        if not path.is_dir():
            raise StoreError(f"{path} is a file, not a results directory; name a directory")
        store._check_owner(suite_name, create)
        return store

    def _check_owner(self, suite_name: str | None, create: bool) -> None:
        with _told(f"results directory {self.path} cannot be read"):
            foreign = sorted(set(os.listdir(self.path)) - _OWN_NAMES)
        manifest = self.manifest
        if manifest is None and not create:
            raise StoreError(f"{self.path} is no results directory of qbench: it has no suite.json")
        if manifest is None and foreign:
            raise StoreError(f"{self.path} holds other files ({foreign[0]}, ...); choose a new directory with --out")
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
            return RunManifest.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{file} cannot be read: {error.strerror}") from None
        except ValidationError:
            raise StoreError(
                f"{file} is damaged; delete this one file and run the suite again: finished cells are kept"
            ) from None

    @property
    def environment(self) -> dict[str, Any]:
        """The machine and software of the last run."""
        manifest = self.manifest
        return manifest.environment if manifest else {}

    # --- writing: only while the lock is held

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only run that writes here. Raises :class:`StoreError` where another one is at it."""
        lock = FileLock(self.path / "lock", blocking=False)
        try:
            with _told(f"results directory {self.path} cannot be written"):
                lock.acquire()
        except Timeout:
            raise StoreError(
                f"another qbench run{self._holder()} is writing to {self.path}; "
                "wait for it, stop it, or choose another directory with --out"
            ) from None
        try:
            self._write("running.json", {"pid": os.getpid(), "started": now()})
            yield
        finally:
            (self.path / "running.json").unlink(missing_ok=True)
            lock.release()

    def recover(self) -> list[Damaged]:
        """Clear up after a killed writer, and move damaged records aside, so that their cells run again."""
        moved = []
        for folder in _FOLDERS:
            with _told(f"results directory {self.path} cannot be written"):
                (self.path / folder).mkdir(exist_ok=True)
                remove_leftovers(self.path / folder)
        remove_leftovers(self.path)
        for damaged in self.damaged():
            moved.append(Damaged(self._move_aside(damaged.path), damaged.reason))
        return moved

    def begin(self, manifest: RunManifest) -> None:
        """Make ``manifest`` the plan that :meth:`records` is about."""
        self._write("suite.json", manifest.after(self.manifest).model_dump(mode="json"))

    def put(self, record: Record) -> None:
        """Write a training record, over an earlier one of the same key. It is on disk when this returns."""
        self._write(f"records/{record.key}.json", json.loads(record.model_dump_json()))

    def put_measure(self, measure: MeasureRecord) -> None:
        """Write a measurement, over an earlier one of the same key. It is on disk when this returns."""
        self._write(f"measures/{measure.key}.json", json.loads(measure.model_dump_json()))

    def log(self, key: str, task: str = "train") -> Path:
        """Where the worker's output for a key is kept."""
        return self.path / "logs" / f"{key}.{task}.log"

    # --- reading

    def record(self, key: str) -> Record | None:
        """The training record of ``key``; None where there is none, or none that can be read."""
        return _load(self.path / "records" / f"{key}.json", Record)

    def measure(self, key: str) -> MeasureRecord | None:
        """The measurement of ``key``; None where there is none, or none that can be read."""
        return _load(self.path / "measures" / f"{key}.json", MeasureRecord)

    def records(self, *, everything: bool = False) -> list[Record]:
        """The training records of the last plan that exist by now, in its order.

        everything: also those that earlier plans left, made under other conditions or from other sources.
        """
        return list(self._found("records", self.record, lambda m: m.cells, everything))

    def measures(self, *, everything: bool = False) -> list[MeasureRecord]:
        """The measurements of the last plan that exist by now, in its order; ``everything`` as for records."""
        return list(self._found("measures", self.measure, lambda m: m.measures, everything))

    def damaged(self) -> list[Damaged]:
        """Files that should hold a record and cannot be read."""
        found = [_why_damaged(file, Record) for file in self._files("records")]
        found += [_why_damaged(file, MeasureRecord) for file in self._files("measures")]
        return [damaged for damaged in found if damaged is not None]

    def _found(
        self,
        folder: str,
        load: Callable[[str], R | None],
        planned: Callable[[RunManifest], Iterable[str]],
        everything: bool,
    ) -> Iterator[R]:
        manifest = self.manifest
        keys = list(planned(manifest)) if manifest else []
        if everything:
            keys += sorted({file.stem for file in self._files(folder)} - set(keys))
        for key in keys:
            found = load(key)
            if found is not None:
                yield found

    def _files(self, folder: str) -> list[Path]:
        return sorted(file for file in (self.path / folder).glob("*.json") if not file.name.startswith("."))

    def _write(self, name: str, content: object) -> None:
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        with _told(f"{self.path / name} cannot be written"):
            write_atomic(self.path / name, text.encode())

    def _move_aside(self, file: Path) -> Path:
        aside = self.path / "damaged"
        with _told(f"{aside} cannot be written"):
            aside.mkdir(exist_ok=True)
            count = len(list(aside.glob(f"{file.parent.name}-{file.stem}*")))
            target = aside / f"{file.parent.name}-{file.stem}.{count}.json"
            file.rename(target)
        return target

    def _holder(self) -> str:
        try:
            running = json.loads((self.path / "running.json").read_bytes())
            return f" (process {int(running['pid'])}, since {running['started']})"
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def now() -> str:
    """The time in UTC, to the second, as records hold it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _load(file: Path, kind: type[R]) -> R | None:
    try:
        return _parse(file, kind)
    except (OSError, ValueError):
        return None


def _parse(file: Path, kind: type[R]) -> R:
    record = kind.model_validate_json(file.read_bytes())
    if record.key != file.stem:
        raise ValueError(f"it holds the record of another key, {record.key}")
    return record


def _why_damaged(file: Path, kind: type[R]) -> Damaged | None:
    try:
        _parse(file, kind)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        return Damaged(file, f"{place}: {first['msg']}" if place else str(first["msg"]))
    except (OSError, ValueError) as error:
        return Damaged(file, str(error))
    return None


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Make an error of the file system one sentence for the user."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or error}; choose another directory with --out") from None
