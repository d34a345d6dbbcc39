"""The run's side of the nursery: starts it, asks it for workers, hears how they ended."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from qbench.engine.jobs import worker_environment

# -P: a file in the working directory must not stand in for a module of the same name.
WORKER = (sys.executable, "-P", "-m", "qbench.engine.worker")
_CLOSE_GRACE_S = 1.0


class Child:
    """A worker process. returncode: as of subprocess; None while it runs, or where it was lost with its nursery."""

    def __init__(self, number: int, nursery: NurseryProcess) -> None:
        self.number = number
        self.returncode: int | None = None
        self._nursery = nursery
        self._ended = threading.Event()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for its end; whether it has ended."""
        return self._ended.wait(timeout_s)

    def kill(self) -> None:
        """End it and what it started, at once; nothing happens where it has ended already."""
        self._nursery.send({"kill": self.number})

    def end(self, returncode: int | None) -> None:
        """Take down that it ended."""
        self.returncode = returncode
        self._ended.set()


class NurseryProcess:
    """A running nursery. log: where it writes what goes wrong with itself."""

    def __init__(self, command: Sequence[str], threads: int, preload: bool, log: Path) -> None:
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno()), *(["--preload"] if preload else [])],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                env=worker_environment(threads),
                start_new_session=True,
            )
        self.is_alive = True
        self._socket = ours
        self._guard = threading.Lock()
        self._children: dict[int, Child] = {}
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def fork(self, number: int, descriptors: Sequence[int]) -> Child:
        """A new worker with these descriptors as stdin, log and answer pipe."""
        child = Child(number, self)
        with self._guard:
            self._children[number] = child
        self.send({"start": number}, descriptors)
        if not self.is_alive:
            child.end(None)
        return child

    def send(self, request: dict[str, int], descriptors: Sequence[int] = ()) -> None:
        """Ask for something; a nursery that is gone does not hear it."""
        line = json.dumps(request).encode() + b"\n"
        with self._guard, suppress(OSError):
            socket.send_fds(self._socket, [line], descriptors) if descriptors else self._socket.sendall(line)

    def close(self) -> None:
        """End the nursery and all of its workers."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        try:
            self.process.wait(_CLOSE_GRACE_S)
        except subprocess.TimeoutExpired:  # still importing, so it has no workers yet
            self.process.kill()
            self.process.wait()
        self._listener.join()
        self._socket.close()

    def _listen(self) -> None:
        with self._socket.makefile("rb") as lines, suppress(OSError):
            for line in lines:
                answer = json.loads(line)
                with self._guard:
                    child = self._children.pop(answer["ended"])
                child.end(answer["returncode"])
        with self._guard:
            self.is_alive = False
            lost = list(self._children.values())
        for child in lost:
            child.end(None)


class Launcher:
    """Gives worker processes; the nursery is started with the first of them, and again should it die.

    command: the worker program, see :mod:`qbench.engine.worker`. preload: whether it may import ahead of the forks.
    """

    def __init__(self, command: Sequence[str], *, threads: int, preload: bool, log: Path) -> None:
        self.command = command
        self.threads = threads
        self.preload = preload
        self.log = log
        self._numbers = itertools.count(1)
        self._guard = threading.Lock()
        self._nursery: NurseryProcess | None = None

    def start(self, stdin: int, log: int, answers: int) -> Child:
        """A worker process with these descriptors; the caller closes its own copies. Raises OSError."""
        with self._guard:
            if self._nursery is not None and not self._nursery.is_alive:
                self._nursery.close()
                self._nursery = None
            if self._nursery is None:
                self._nursery = NurseryProcess(self.command, self.threads, self.preload, self.log)
            return self._nursery.fork(next(self._numbers), (stdin, log, answers))

    def close(self) -> None:
        """End all processes."""
        with self._guard:
            if self._nursery is not None:
                self._nursery.close()
                self._nursery = None


def can_preload(device: str) -> bool:
    """Whether workers may be forked from a process that has imported PyTorch.

    Not for a GPU: CUDA does not survive a fork once anything has touched it, and its cells are long anyway. Not on
    macOS: its libraries start threads when they are imported.
    """
    return device == "cpu" and sys.platform == "linux"
