"""Run a theory suite: every experiment that has no findings yet, each in a process of its own."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from qbench.cell import Status
from qbench.engine.device import allot
from qbench.engine.events import Notice
from qbench.engine.inbox import next_of
from qbench.engine.jobs import worker_environment
from qbench.environment import environment
from qbench.store import Store
from qbench.store.files import changed_line, refuse_closed
from qbench.store.lock import now
from qbench.store.manifest import new_run_id
from qbench.suite.theory import PlannedExperiment, TheorySuite
from qbench.theory.results import ExperimentRecord, TheoryStore, experiment_key, manifest_of
from qbench.theory.task import FractionLine, ResultLine, Task, parse_line
from qbench.variables import check_variables

# -P: a file in the working directory must not stand in for a module of the same name.
WORKER = (sys.executable, "-P", "-m", "qbench.theory.worker")


@dataclass(frozen=True)
class Started:
    """An experiment starts."""

    experiment: str


@dataclass(frozen=True)
class Progressed:
    """An experiment has done this share of its work."""

    experiment: str
    fraction: float


@dataclass(frozen=True)
class Finished:
    """An experiment ended, well or not, and its record is on disk. log: what its process printed."""

    record: ExperimentRecord
    log: Path


Event = Notice | Started | Progressed | Finished
Observer = Callable[[Event], None]


@dataclass(frozen=True)
class TheorySummary:
    """How a run ended. total: experiments of the plan; done_before: of earlier runs; finished: records of this one.
    records: all there are, in the order of the plan."""

    suite: str
    out: Path
    total: int
    done_before: int
    finished: int
    records: tuple[ExperimentRecord, ...]
    interrupted: bool
    wall_s: float

    @property
    def failures(self) -> tuple[ExperimentRecord, ...]:
        """The experiments that found nothing."""
        return tuple(record for record in self.records if record.status is not Status.OK)

    @property
    def num_outside(self) -> int:
        """Known answers that were missed, by earlier runs too."""
        return sum(record.num_outside for record in self.records)

    @property
    def exit_code(self) -> int:
        """0 all known answers met, 1 one missed or an experiment failed, 130 interrupted."""
        if self.interrupted:
            return 130
        return 1 if self.failures or self.num_outside else 0


@dataclass(frozen=True)
class _Work:
    """An experiment that is to be run."""

    experiment: PlannedExperiment
    key: str
    task: Task
    log: Path


@dataclass(frozen=True)
class _Ended:
    """What a process came to."""

    work: _Work
    result: ResultLine
    started: str
    wall_s: float


def run_theory(
    suite: TheorySuite,
    out: Path,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    retry: bool = True,
    observer: Observer = lambda _: None,
    worker: Sequence[str] = WORKER,
) -> TheorySummary:
    """Bring the results directory ``out`` up to date with ``suite``.

    jobs: experiments at a time; threads: CPU threads of each. retry: run experiments again that failed before.
    worker: the command of an experiment's process. Ctrl-C stops the processes, keeps what is finished and returns.
    Raises InputError for a directory, or kernels, that cannot be used.
    """
    began = time.monotonic()
    check_variables()
    allotment = allot("cpu", jobs, threads)
    run = new_run_id()
    facts = {**environment(), "jobs": allotment.jobs, "worker_threads": allotment.threads}
    store = TheoryStore(Store.open(out, suite.name, create=True))
    with store.store.lock():
        for found in store.prepare():
            observer(Notice(f"a damaged record is now {found.path}, {found.remedy} ({found.reason})"))
        for path in store.store.changed():
            observer(Notice(changed_line(path)))
        store.store.begin(manifest_of(suite, run, allotment.threads, facts))
        due = list(_due(suite, store, allotment.threads, retry))
        finished, interrupted = 0, False
        try:
            with closing(_Processes(due, allotment.jobs, allotment.threads, worker).events()) as events:
                for event in events:
                    if isinstance(event, _Ended):
                        record = _record(event, suite, run, facts)
                        store.put(record)
                        finished += 1
                        observer(Finished(record, event.work.log))
                    else:
                        observer(event)
        except KeyboardInterrupt:
            interrupted = True
        store.store.seal()
    return TheorySummary(
        suite=suite.name,
        out=out,
        total=len(suite.experiments),
        done_before=len(suite.experiments) - len(due),
        finished=finished,
        records=tuple(store.records()),
        interrupted=interrupted,
        wall_s=time.monotonic() - began,
    )


def begun(suite: TheorySuite, out: Path) -> TheoryStore | None:
    """What ``out`` holds of the suite, for reading; None where a run would begin.

    Raises StoreError for a directory that a run would refuse.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    store = TheoryStore(Store.open(out, suite.name))
    refuse_closed(store.damaged())
    return store


def done_experiments(suite: TheorySuite, store: TheoryStore, threads: int | None = None) -> set[str]:
    """The names of those that have their findings in ``store`` already."""
    count = allot("cpu", None, threads).threads
    due = {work.experiment.name for work in _due(suite, store, count, retry=True)}
    return {experiment.name for experiment in suite.experiments} - due


def _due(suite: TheorySuite, store: TheoryStore, threads: int, retry: bool) -> Iterator[_Work]:
    for experiment in suite.experiments:
        key = experiment_key(experiment, suite.seed, threads)
        record = store.record(key)
        if record is None or (retry and record.status is not Status.OK):
            task = Task(experiment=experiment.name, options=experiment.options, seed=suite.seed, threads=threads)
            yield _Work(experiment, key, task, store.log(key))


def _record(ended: _Ended, suite: TheorySuite, run: str, facts: dict[str, object]) -> ExperimentRecord:
    experiment, result = ended.work.experiment, ended.result
    return ExperimentRecord(
        key=ended.work.key,
        run=run,
        suite=suite.name,
        experiment=experiment.name,
        options=experiment.options,
        changed=experiment.changed,
        seed=suite.seed,
        status=result.status,
        message=result.message,
        traceback=result.traceback,
        findings=result.findings,
        wall_s=ended.wall_s,
        environment=facts,
        started=ended.started,
        finished=now(),
    )


class _Processes:
    """Runs work, ``jobs`` at a time. Processes end with the generator of events."""

    def __init__(self, works: Sequence[_Work], jobs: int, threads: int, command: Sequence[str]) -> None:
        self._works = works
        self._jobs = jobs
        self._threads = threads
        self._command = command
        self._waiting: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Started | Progressed | _Ended] = queue.SimpleQueue()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()
        self._is_stopped = False

    def events(self) -> Generator[Started | Progressed | _Ended]:
        """Do all work, telling what happens."""
        for work in self._works:
            self._waiting.put(work)
        lanes = [threading.Thread(target=self._lane) for _ in range(min(self._jobs, len(self._works)))]
        for lane in lanes:
            lane.start()
        left = len(self._works)
        try:
            while left:
                event = next_of(self._events)
                left -= isinstance(event, _Ended)
                yield event
        finally:
            self._stop()
            for lane in lanes:
                lane.join()

    def _lane(self) -> None:
        """One experiment after the other, until none is waiting."""
        while True:
            try:
                work = self._waiting.get_nowait()
            except queue.Empty:
                return
            self._events.put(Started(work.experiment.name))
            started, began = now(), time.monotonic()
            try:
                result = self._run(work)
            except (OSError, ValueError) as error:  # it cannot be started, or says what is no answer
                result = ResultLine(status=Status.ERROR, message=f"{type(error).__name__}: {error}")
            self._events.put(_Ended(work, result, started, time.monotonic() - began))

    def _run(self, work: _Work) -> ResultLine:
        with work.log.open("ab") as log:
            with self._guard:
                if self._is_stopped:
                    return ResultLine(status=Status.KILLED, message="stopped before it began")
                process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=worker_environment(self._threads),
                    start_new_session=True,
                )
                self._running.add(process)
            try:
                return self._listen(process, work)
            finally:
                with self._guard:
                    self._running.discard(process)

    def _listen(self, process: subprocess.Popen[bytes], work: _Work) -> ResultLine:
        assert process.stdin is not None and process.stdout is not None
        result: ResultLine | None = None
        with process:
            try:
                process.stdin.write(work.task.model_dump_json().encode() + b"\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass  # it died at once; its log says why
            for line in process.stdout:
                said = parse_line(line)
                if isinstance(said, FractionLine):
                    self._events.put(Progressed(work.experiment.name, said.fraction))
                else:
                    result = said
        if result is None:
            how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
            return ResultLine(status=Status.KILLED, message=f"its process ended with {how} and no result")
        return result

    def _stop(self) -> None:
        """End what runs; nothing starts any more."""
        with self._guard:
            self._is_stopped = True
            for process in self._running:
                process.kill()
