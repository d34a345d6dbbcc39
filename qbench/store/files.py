"""Single files of a results directory: reading them with care, and telling the user what is wrong with one."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from filelock import Timeout
from pydantic import ValidationError

from qbench.cell import Keyed
from qbench.errors import StoreError
from qbench.reading import read_regular

_RECORD_NAME = re.compile(r"[^.].*\.json")
R = TypeVar("R", bound=Keyed)


@dataclass(frozen=True)
class Damaged:
    """A file that should hold a record and does not.

    remedy: what becomes of it. is_closed: the system does not let it be read, so that it may well be intact.
    """

    path: Path
    reason: str
    remedy: str
    is_closed: bool = False


def load(file: Path, kind: type[R]) -> R | None:
    """The record in ``file``; None where there is none, or none that can be read."""
    try:
        return _parse(file, kind)
    except (OSError, ValueError):
        return None


def record_files(folder: Path) -> list[Path]:
    """The files in ``folder`` that should hold a record.

    Raises OSError for a folder that is there and cannot be read, which a glob would pass over.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names) if _RECORD_NAME.fullmatch(name)]


def damaged_in(folder: Path, kind: type[Keyed], remedy: str) -> Iterator[Damaged]:
    """Files in ``folder`` that should hold a record and do not, or that cannot be read; or the folder itself."""
    try:
        files = record_files(folder)
    except OSError as error:
        yield closed(folder, error)
        return
    found = (_why_damaged(file, kind, remedy) for file in files)
    yield from (damaged for damaged in found if damaged is not None)


def _why_damaged(file: Path, kind: type[Keyed], remedy: str) -> Damaged | None:
    """What is wrong with ``file``; None where it holds a record, or is gone."""
    try:
        _parse(file, kind)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return Damaged(file, f"{place}: {first['msg']}" if place else str(first["msg"]), remedy)
    except OSError as error:
        return closed(file, error)
    except ValueError as error:
        return Damaged(file, str(error), remedy)
    return None


def changed_line(path: Path) -> str:
    """One sentence about a file that is not what a run wrote, for the user."""
    if not path.exists():
        return f"{path} is gone (SHA256SUMS); the next 'qbench run' makes it again"
    return f"{path} is not what a run wrote (SHA256SUMS); restore it, or delete it to have it made again"


def closed(path: Path, error: OSError) -> Damaged:
    """What the system does not let be read: nothing to throw away."""
    remedy = "put the directory back" if isinstance(error, NotADirectoryError) else "make it readable"
    return Damaged(path, f"cannot be read: {error.strerror or error}", remedy, is_closed=True)


def refuse_closed(found: Iterable[Damaged]) -> None:
    """Raise :class:`StoreError` where a record cannot be read: it may be intact, and must not be written over."""
    for damaged in found:
        if damaged.is_closed:
            raise StoreError(f"{damaged.path} {damaged.reason}; {damaged.remedy}, or move it away")


def set_aside(found: Iterable[Damaged], aside: Path) -> list[Damaged]:
    """Move damaged records into the directory ``aside``, so that they are made again; where they are now."""
    return [replace(damaged, path=_move_aside(damaged.path, aside)) for damaged in found]


def _move_aside(file: Path, aside: Path) -> Path:
    """Move ``file`` into the directory ``aside`` under a name of its own, and return its new place."""
    stem = f"{file.parent.name}-{file.stem}"
    with told(f"{aside} cannot be written"):
        aside.mkdir(exist_ok=True)
        numbered = (aside / f"{stem}.{number}.json" for number in itertools.count())
        return file.rename(next(target for target in numbered if not target.exists()))


@contextmanager
def told(what: str) -> Iterator[None]:
    """Make an error of the file system one sentence for the user."""
    try:
        yield
    except Timeout:
        raise  # a lock that is held is no fault of the file system, although its class says so
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or error}; choose another directory with --out") from None


def _parse(file: Path, kind: type[R]) -> R:
    record = kind.model_validate_json(read_regular(file))
    if record.key != file.stem:
        raise ValueError(f"it holds the record of another key, {record.key}")
    return record
