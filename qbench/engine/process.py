"""One worker process from start to end; whatever becomes of it, a result comes out."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from qbench.cell import Status
from qbench.engine.jobs import BegunLine, Job, ProgressLine, Result, ResultLine, failed, parse_line
from qbench.engine.launcher import Child, Launcher
from qbench.store.lock import now

_EXIT_GRACE_S = 20.0
_LOG_TAIL_BYTES = 8000


class Worker:
    """A process that does one job. ``run`` blocks its thread on the worker's pipe; ``stop`` may come from any other.

    log: the worker's stdout and stderr.
    """

    def __init__(self, job: Job, log: Path, launcher: Launcher) -> None:
        self.job = job
        self.log = log
        self.launcher = launcher
        self._child: Child | None = None
        self._guard = threading.Lock()
        self._stopped = False
        self._timed_out = False

    @property
    def was_stopped(self) -> bool:
        """Whether :meth:`stop` ended it: then its result means nothing."""
        return self._stopped

    def run(self, report: Callable[[ProgressLine], None]) -> Result:
        """Do the job: start the process, pass its progress to ``report``, and say how it ended. Raises OSError."""
        with self.log.open("ab") as log:
            log.write(f"--- {self.job.task}, {now()}\n".encode())
            log.flush()
            log_start = log.tell()
            ends = self._start(log.fileno())
        if ends is None:
            return failed(self.job.task, Status.KILLED, "stopped before it began")
        child, stdin, answers = ends
        with answers:
            result = self._follow(child, stdin, answers, report)
        return result or self._post_mortem(child.returncode, log_start)

    def stop(self) -> None:
        """End the process and its children at once."""
        with self._guard:
            self._stopped = True
            if self._child is not None:
                self._child.kill()

    def _start(self, log: int) -> tuple[Child, int, BinaryIO] | None:
        stdin_read, stdin_write = os.pipe()
        answers_read, answers_write = os.pipe()
        try:
            with self._guard:
                if not self._stopped:
                    self._child = self.launcher.start(stdin_read, log, answers_write)
        finally:
            os.close(stdin_read)
            os.close(answers_write)
        if self._child is None:
            os.close(stdin_write)
            os.close(answers_read)
            return None
        return self._child, stdin_write, os.fdopen(answers_read, "rb")

    def _follow(
        self, child: Child, stdin: int, answers: BinaryIO, report: Callable[[ProgressLine], None]
    ) -> Result | None:
        clock = self._timer(child)
        try:
            with suppress(BrokenPipeError):  # it died at once; how, its exit status says
                os.write(stdin, self.job.model_dump_json().encode() + b"\n")
            result = self._listen(child, answers, report, clock)
            if not child.wait(_EXIT_GRACE_S):
                child.kill()
                child.wait()
        finally:
            clock.cancel()
            os.close(stdin)
        return result

    def _listen(
        self, child: Child, answers: BinaryIO, report: Callable[[ProgressLine], None], clock: threading.Timer
    ) -> Result | None:
        for line in answers:
            if not line.endswith(b"\n"):
                break  # it died while writing
            try:
                answer = parse_line(line)
            except ValidationError:
                child.kill()
                message = f"the worker answered what is no answer: {line[:80]!r}; see logs/{self.log.name}"
                return failed(self.job.task, Status.ERROR, message)
            match answer:
                case BegunLine():
                    clock.start()
                case ProgressLine():
                    report(answer)
                case ResultLine():
                    return self._result(answer)
        return None

    def _result(self, answer: ResultLine) -> Result:
        result: Result | None = answer.outcome if self.job.task == "train" else answer.measurement
        return result or failed(self.job.task, Status.ERROR, "the worker answered another task than it was given")

    def _post_mortem(self, returncode: int | None, log_start: int) -> Result:
        """The result of a process that gave none."""
        last_words = _tail(self.log, log_start)
        if self._timed_out:
            message = f"stopped after {self.job.cell.train.timeout_s:g} s (train.timeout_s)"
            return failed(self.job.task, Status.TIMEOUT, message, last_words)
        if returncode is None:
            message = f"lost with the process it was forked from; see logs/{self.launcher.log.name}"
            return failed(self.job.task, Status.KILLED, message, last_words)
        if returncode < 0:
            name = signal.Signals(-returncode).name
            hint = "; the system kills with this signal when memory runs out" if name == "SIGKILL" else ""
            return failed(self.job.task, Status.KILLED, f"ended by {name}{hint}", last_words)
        message = f"the worker ended with exit code {returncode} and no result; see logs/{self.log.name}"
        return failed(self.job.task, Status.ERROR, message, last_words)

    def _timer(self, child: Child) -> threading.Timer:
        def time_out() -> None:
            self._timed_out = True
            child.kill()

        timeout_s = self.job.cell.train.timeout_s
        timer = threading.Timer(threading.TIMEOUT_MAX if timeout_s is None else timeout_s, time_out)
        timer.daemon = True
        return timer


def _tail(log: Path, start: int) -> str:
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - _LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")
