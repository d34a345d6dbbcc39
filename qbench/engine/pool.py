"""Several workers at a time, their news in one queue.

Threads wait on pipes and do nothing else; whoever iterates over :meth:`Pool.run` gets all news in one thread. An
interrupt is one more message in the queue, so it never falls between a result and its being stored.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import FrameType, TracebackType

from qbench.cell import Status
from qbench.engine.inbox import next_of
from qbench.engine.jobs import Job, ProgressLine, Result, failed
from qbench.engine.launcher import Launcher
from qbench.engine.process import Worker
from qbench.store.lock import now


class StopRequestedError(Exception):
    """The user, or the system, wants the run to end."""


@dataclass(frozen=True)
class Assignment:
    """A job, the key its result is stored under, and the log its worker writes."""

    job: Job
    key: str
    log: Path


@dataclass(frozen=True)
class Started:
    """A worker begins with an assignment."""

    assignment: Assignment


@dataclass(frozen=True)
class Progressed:
    """A worker is on its way."""

    assignment: Assignment
    progress: ProgressLine


@dataclass(frozen=True)
class Ended:
    """A worker is done, well or not. started: when it began (UTC)."""

    assignment: Assignment
    result: Result
    started: str


class _Interrupt:
    """The message that asks to stop."""


Message = Started | Progressed | Ended


class Pool:
    """A context in which jobs run; leaving it ends every process that is still there."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        # SimpleQueue, as its put may be called from a signal handler that interrupts its get.
        self._inbox: SimpleQueue[Message | _Interrupt] = SimpleQueue()
        self._guard = threading.Lock()
        self._workers: set[Worker] = set()
        self._threads: list[threading.Thread] = []
        self._stopping = False

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def interrupt(self) -> None:
        """Ask :meth:`run` to end; safe to call from a signal handler."""
        self._inbox.put(_Interrupt())

    def run(self, assignments: Sequence[Assignment], width: int = 1) -> Iterator[Message]:
        """Do all ``assignments``, ``width`` at a time, in order; the news of each as it comes.

        Raises :class:`StopRequestedError` after an interrupt, once every worker has ended and finished results are out.
        """
        waiting = deque(assignments)
        for _ in range(min(width, len(assignments))):
            thread = threading.Thread(target=self._work, args=(waiting,))
            self._threads.append(thread)
            thread.start()
        num_open = len(assignments)
        while num_open:
            message = next_of(self._inbox)
            if isinstance(message, _Interrupt):
                yield from self._last_results()
                raise StopRequestedError
            num_open -= isinstance(message, Ended)
            yield message

    def _last_results(self) -> Iterator[Message]:
        self._stop()
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, Ended):
                yield message

    def _work(self, waiting: deque[Assignment]) -> None:
        while True:
            try:
                assignment = waiting.popleft()
            except IndexError:
                return
            worker = Worker(assignment.job, assignment.log, self.launcher)
            if not self._admit(worker):
                return
            self._inbox.put(Started(assignment))
            started = now()
            result = self._result_of(worker, assignment)
            self._dismiss(worker)
            if not worker.was_stopped:
                self._inbox.put(Ended(assignment, result, started))

    def _result_of(self, worker: Worker, assignment: Assignment) -> Result:
        try:
            return worker.run(lambda progress: self._inbox.put(Progressed(assignment, progress)))
        except Exception as error:
            # Whatever it is, the one who waits for this result must hear of it.
            message = f"the run lost hold of the worker: {type(error).__name__}: {error}"
            return failed(assignment.job.task, Status.ERROR, message)

    def _admit(self, worker: Worker) -> bool:
        with self._guard:
            if not self._stopping:
                self._workers.add(worker)
            return not self._stopping

    def _dismiss(self, worker: Worker) -> None:
        with self._guard:
            self._workers.discard(worker)

    def _stop(self) -> None:
        with self._guard:
            self._stopping = True
            workers = list(self._workers)
        for worker in workers:
            worker.stop()
        # First the processes, then the threads that wait for them.
        self.launcher.close()
        for thread in self._threads:
            thread.join()


@contextmanager
def signals_to(act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` on Ctrl-C and on SIGTERM, instead of what they do otherwise. Only in a main thread, where signals
    arrive; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        act()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
