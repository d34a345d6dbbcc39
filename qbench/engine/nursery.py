"""The process that workers are forked from: it has imported everything once, so that a worker starts at once.

Importing PyTorch, its optimisers and the data sets' libraries takes 6 s of CPU time, as long as a small cell; a fork
of a process that has done it takes 10 ms and is as isolated: own memory, own status, own process group. The nursery
itself computes nothing and starts no threads, which is what makes forking it safe.

It listens on a socket for lines of JSON: ``{"start": ID}``, sent with three descriptors (the worker's stdin, its log,
its answer pipe), and ``{"kill": ID}``. It answers ``{"ended": ID, "returncode": N}``. When the socket closes, it
ends all workers and itself.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress

NUM_DESCRIPTORS = 3


class Nursery:
    """Forks workers on request. control: the socket's descriptor. work: what a worker does, given its answer pipe."""

    def __init__(self, control: int, work: Callable[[int], None]) -> None:
        self.control = socket.socket(fileno=control)
        self.control.set_inheritable(False)
        self.work = work
        self._pid_of: dict[int, int] = {}
        self._text = b""
        self._descriptors: deque[int] = deque()
        self._wake_read, self._wake_write = os.pipe()

    def serve(self) -> None:
        """Start, kill and report until the socket closes."""
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake_write)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        with selectors.DefaultSelector() as selector:
            selector.register(self.control, selectors.EVENT_READ, self._obey)
            selector.register(self._wake_read, selectors.EVENT_READ, self._report)
            while all(key.data() for key, _ in selector.select()):
                pass
        for pid in self._pid_of.values():
            _kill_group(pid)

    def _obey(self) -> bool:
        text, descriptors, _, _ = socket.recv_fds(self.control, 4096, NUM_DESCRIPTORS * 4)
        self._descriptors.extend(descriptors)
        *lines, self._text = (self._text + text).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "start" in request:
                self._start(request["start"])
            elif request["kill"] in self._pid_of:
                _kill_group(self._pid_of[request["kill"]])
        return bool(text)

    def _start(self, worker: int) -> None:
        descriptors = [self._descriptors.popleft() for _ in range(NUM_DESCRIPTORS)]
        pid = os.fork()
        if pid == 0:
            self._become_worker(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        # Both sides set the group: whoever is later finds it done.
        with suppress(OSError):
            os.setpgid(pid, pid)
        self._pid_of[worker] = pid

    def _report(self) -> bool:
        with suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        for worker, pid in list(self._pid_of.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            # What the worker started goes with it; its number is its own until the wait below.
            _kill_group(pid)
            _, status = os.waitpid(pid, 0)
            del self._pid_of[worker]
            answer = {"ended": worker, "returncode": os.waitstatus_to_exitcode(status)}
            with suppress(BrokenPipeError):
                self.control.sendall(json.dumps(answer).encode() + b"\n")
        return True

    def _become_worker(self, stdin: int, log: int, answers: int) -> None:
        code = 1
        try:
            with suppress(OSError):
                os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for source, target in ((stdin, 0), (log, 1), (log, 2)):
                os.dup2(source, target)
            for descriptor in (stdin, log, self._wake_read, self._wake_write):
                os.close(descriptor)
            self.control.close()
            self.work(answers)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # No return into the nursery's loop, and no waiting for threads that a method may have left behind.
            os._exit(code)


def _kill_group(pid: int) -> None:
    # Gone already, or (on macOS) nothing but a zombie left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
