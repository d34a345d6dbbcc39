"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import glob
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY_PREFIX = ".writing-"


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which is ``path`` when the block ends well and vanishes when it does not: readers see the old
    file or the new one, never a part.

    The content reaches the disk before the name does, and the name before the block is left.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}"
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` as :func:`atomic_file` does."""
    with atomic_file(path) as file:
        file.write(content)


def remove_leftovers(directory: Path) -> None:
    """Delete temporary files of a writer that was killed; only the holder of the directory's lock may call this."""
    for leftover in directory.glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)


def remove_orphans(path: Path) -> None:
    """Delete temporary files of writers of ``path`` that were killed. No lock is needed: who is still writing it has a
    process, and keeps its file."""
    for orphan in path.parent.glob(f"{TEMPORARY_PREFIX}*-{glob.escape(path.name)}"):
        pid = orphan.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            orphan.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
