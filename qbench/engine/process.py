"""One worker process from start to end; whatever becomes of it, a result comes out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from qbench.cell import Status
from qbench.engine.jobs import Job, ProgressLine, Result, ResultLine, failed, worker_environment
from qbench.store.lock import now

# -P: a file in the working directory must not stand in for a module of the same name.
WORKER = (sys.executable, "-P", "-m", "qbench.engine.worker")
_EXIT_GRACE_S = 20.0
_LOG_TAIL_BYTES = 8000


class Worker:
    """A process that does one job. ``run`` blocks its thread on the worker's pipe; ``stop`` may come from any other.

    command: starts the worker; the number of the answer pipe is appended. log: the worker's stdout and stderr.
    """

    def __init__(self, job: Job, log: Path, command: Sequence[str] = WORKER) -> None:
        self.job = job
        self.log = log
        self.command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()
        self._stopped = False
        self._timed_out = False

    @property
    def was_stopped(self) -> bool:
        """Whether :meth:`stop` ended it: then its result means nothing."""
        return self._stopped

    def run(self, report: Callable[[ProgressLine], None]) -> Result:
        """Do the job: start the process, pass its progress to ``report``, and say how it ended."""
        read_end, write_end = os.pipe()
        with os.fdopen(read_end, "rb") as answers, self.log.open("ab") as log:
            log.write(f"--- {self.job.task}, {now()}\n".encode())
            log.flush()
            log_start = log.tell()
            try:
                process = self._start(write_end, log.fileno())
            except OSError as error:
                return failed(self.job.task, Status.ERROR, f"the worker process did not start: {error}")
            finally:
                os.close(write_end)
            if process is None:
                return failed(self.job.task, Status.KILLED, "stopped before it began")
            result = self._follow(process, answers, report)
        return result or self._post_mortem(process.returncode, log_start)

    def stop(self) -> None:
        """End the process and its children at once."""
        with self._guard:
            self._stopped = True
            self._signal()

    def _start(self, write_end: int, log: int) -> subprocess.Popen[bytes] | None:
        with self._guard:
            if self._stopped:
                return None
            self._process = subprocess.Popen(
                [*self.command, str(write_end)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(write_end,),
                env=worker_environment(self.job.threads),
                start_new_session=True,
            )
        return self._process

    def _follow(
        self, process: subprocess.Popen[bytes], answers: BinaryIO, report: Callable[[ProgressLine], None]
    ) -> Result | None:
        timer = self._timer(self.job.cell.train.timeout_s, self._time_out)
        reaper = threading.Thread(target=self._end_group, args=(process,))
        reaper.start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it died at once; how, its exit status says
            process.stdin.write(self.job.model_dump_json().encode() + b"\n")
            process.stdin.flush()
        result = self._listen(answers, report)
        if timer:
            timer.cancel()
        grace = self._timer(_EXIT_GRACE_S, self._kill)
        reaper.join()
        if grace:
            grace.cancel()
        with suppress(BrokenPipeError):
            process.stdin.close()
        return result

    def _listen(self, answers: BinaryIO, report: Callable[[ProgressLine], None]) -> Result | None:
        for line in answers:
            if not line.endswith(b"\n"):
                break  # it died while writing
            try:
                answer = _parse(line)
            except ValidationError:
                self._kill()
                return failed(
                    self.job.task,
                    Status.ERROR,
                    f"the worker answered what is no answer: {line[:80]!r}; see {self.log.name}",
                )
            if isinstance(answer, ProgressLine):
                report(answer)
            else:
                return self._result(answer)
        return None

    def _result(self, answer: ResultLine) -> Result:
        result: Result | None = answer.outcome if self.job.task == "train" else answer.measurement
        return result or failed(self.job.task, Status.ERROR, "the worker answered another task than it was given")

    def _post_mortem(self, returncode: int, log_start: int) -> Result:
        """The result of a process that gave none."""
        last_words = _tail(self.log, log_start)
        if self._timed_out:
            message = f"stopped after {self.job.cell.train.timeout_s:g} s (train.timeout_s)"
            return failed(self.job.task, Status.TIMEOUT, message, last_words)
        if returncode < 0:
            name = signal.Signals(-returncode).name
            hint = "; the system kills with this signal when memory runs out" if name == "SIGKILL" else ""
            return failed(self.job.task, Status.KILLED, f"ended by {name}{hint}", last_words)
        message = f"the worker ended with exit code {returncode} and no result; see logs/{self.log.name}"
        return failed(self.job.task, Status.ERROR, message, last_words)

    def _end_group(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the worker's end, then end what it started: a child that lives on would hold the pipe open."""
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._guard:
            self._signal()
            process.wait()
            self._process = None

    def _time_out(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        with self._guard:
            self._signal()

    def _signal(self) -> None:
        """Kill the process group; with the guard held, so that its number cannot have passed on to another."""
        if self._process is not None:
            # Gone already, or (on macOS) nothing but a zombie left.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    @staticmethod
    def _timer(seconds: float | None, act: Callable[[], None]) -> threading.Timer | None:
        if seconds is None:
            return None
        timer = threading.Timer(seconds, act)
        timer.daemon = True
        timer.start()
        return timer


def _parse(line: bytes) -> ProgressLine | ResultLine:
    kind = ResultLine if b'"event":"result"' in line[:40] else ProgressLine
    return kind.model_validate_json(line)


def _tail(log: Path, start: int) -> str:
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - _LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")
