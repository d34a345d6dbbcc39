"""One writer per results directory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from qbench.errors import StoreError
from qbench.store.atomic import write_atomic
from qbench.store.files import told

LOCK, HOLDER = "lock", "running.json"
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Writer:
    """The run that writes to a results directory. pid: its process; started: as :func:`now` gives it."""

    pid: int
    started: str

    @property
    def started_s(self) -> float:
        """Seconds since 1970."""
        return datetime.strptime(self.started, _TIME).replace(tzinfo=UTC).timestamp()

    @property
    def is_alive(self) -> bool:
        """Whether its process still runs: a younger one of the same number is another."""
        try:
            process = psutil.Process(self.pid)
            is_same = process.create_time() < self.started_s + 1
            return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
        except (psutil.Error, ValueError):
            return False


def writer(directory: Path) -> Writer | None:
    """Who writes to ``directory`` now; None where nobody does, also where a killed run left its file behind."""
    found = _holder(directory)
    return found if found is not None and found.is_alive else None


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
        holder = _holder(directory)  # None where it has only just begun
        who = f" (process {holder.pid}, since {holder.started})" if holder else ""
        raise StoreError(
            f"another qbench run{who} is writing to {directory}; "
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
    return datetime.now(UTC).strftime(_TIME)


def _holder(directory: Path) -> Writer | None:
    try:
        running = json.loads((directory / HOLDER).read_bytes())
        return Writer(int(running["pid"]), str(running["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
