"""One writer per results directory."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from qbench.atomic import write_atomic
from qbench.errors import StoreError
from qbench.reading import read_regular
from qbench.store.files import told

LOCK, HOLDER = "lock", "running.json"
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Writer:
    """The run that writes to a results directory. pid: its process; started: as :func:`now` gives it.

    host, namespace: where that number is one of a process, as :func:`_here` gives it; empty in files that do not say.
    """

    pid: int
    started: str
    host: str = ""
    namespace: str = ""

    @property
    def started_s(self) -> float:
        """Seconds since 1970."""
        return datetime.strptime(self.started, _TIME).replace(tzinfo=UTC).timestamp()

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is of another host or container, whose processes cannot be seen from here."""
        return bool(self.host) and (self.host, self.namespace) != _here()

    @property
    def is_alive(self) -> bool:
        """Whether its process still runs: a younger one of the same number is another. Elsewhere it may, and so counts
        as alive."""
        try:
            latest_s = self.started_s + 1
            if self.is_elsewhere:
                return True
            process = psutil.Process(self.pid)
            is_same = process.create_time() < latest_s
            return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
        except (psutil.Error, ValueError):
            return False


def writer(directory: Path) -> Writer | None:
    """Who writes to ``directory`` now, or may from elsewhere; None where nobody does, also where a killed run left its
    file behind."""
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
        where = f" on {holder.host}" if holder and holder.is_elsewhere else ""
        who = f" (process {holder.pid}{where}, since {holder.started})" if holder else ""
        raise StoreError(
            f"another qbench run{who} is writing to {directory}; "
            "wait for it, stop it, or choose another directory with --out"
        ) from None
    try:
        with told(f"results directory {directory} cannot be written"):
            write_atomic(directory / HOLDER, json.dumps(asdict(Writer(os.getpid(), now(), *_here()))).encode())
        yield
    finally:
        (directory / HOLDER).unlink(missing_ok=True)
        lock.release()


def now() -> str:
    """The time in UTC, to the second, as records hold it."""
    return datetime.now(UTC).strftime(_TIME)


def _holder(directory: Path) -> Writer | None:
    try:
        running = json.loads(read_regular(directory / HOLDER))
        place = (str(running.get(name, "")) for name in ("host", "namespace"))
        return Writer(int(running["pid"]), str(running["started"]), *place)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _here() -> tuple[str, str]:
    """The host, and on Linux its part that counts processes of its own: containers may share the host's name."""
    try:
        return socket.gethostname(), os.readlink("/proc/self/ns/pid")
    except OSError:
        return socket.gethostname(), ""
