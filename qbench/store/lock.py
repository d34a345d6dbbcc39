"""One writer per results directory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from qbench.errors import StoreError
from qbench.store.atomic import write_atomic
from qbench.store.files import told

LOCK, HOLDER = "lock", "running.json"


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Hold the directory's lock; the system gives it back when the process ends, however it ends.

    Raises :class:`StoreError` where another run holds it, or where nothing can be written.
    """
    lock = FileLock(directory / LOCK, blocking=False)
    try:
        with told(f"results directory {directory} cannot be written"):
            lock.acquire()
    except Timeout:
        raise StoreError(
            f"another qbench run{_holder(directory)} is writing to {directory}; "
            "wait for it, stop it, or choose another directory with --out"
        ) from None
    try:
        with told(f"results directory {directory} cannot be written"):
            write_atomic(directory / HOLDER, json.dumps({"pid": os.getpid(), "started": now()}).encode())
        yield
    finally:
        (directory / HOLDER).unlink(missing_ok=True)
        lock.release()


def now() -> str:
    """The time in UTC, to the second, as records hold it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _holder(directory: Path) -> str:
    try:
        running = json.loads((directory / HOLDER).read_bytes())
        return f" (process {int(running['pid'])}, since {running['started']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # it has only just begun
