"""What the steps of one run share: where results go, who is told, and the counts for the summary."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qbench.cell import Cell, Status
from qbench.engine.device import Allotment
from qbench.engine.events import Event, Failure, Observer
from qbench.engine.jobs import Job, Result, Task
from qbench.engine.pool import Assignment, Pool
from qbench.environment import environment
from qbench.store.keys import Keys, method_source
from qbench.store.store import Store


@dataclass
class Tally:
    """What this run has done so far."""

    finished: int = 0
    diverged: int = 0
    measured: int = 0
    failures: list[Failure] = field(default_factory=list)

    def add_failure(self, task: Task, cell: Cell, result: Result, log: Path) -> None:
        """Take down a job that gave no result."""
        self.failures.append(
            Failure(task, cell.label, cell.model, cell.dataset, cell.seed, result.status, result.message, log)
        )

    def add_trained(self, status: Status) -> None:
        """Count a training run that gave a result."""
        self.finished += 1
        self.diverged += status is Status.DIVERGED


@dataclass(frozen=True)
class Session:
    """One run of a suite into one directory, whose lock it holds. run: its identifier."""

    run: str
    store: Store
    keys: Keys
    pool: Pool
    observer: Observer
    allotment: Allotment
    retry: bool
    tally: Tally = field(default_factory=Tally)

    def tell(self, event: Event) -> None:
        """Pass ``event`` on to the observer."""
        self.observer.on_event(event)

    def assign(self, task: Task, cell: Cell, key: str) -> Assignment:
        """The assignment of ``cell`` to a worker."""
        job = Job(task=task, cell=cell, threads=self.allotment.threads, source=method_source(cell.method))
        return Assignment(job, key, self.store.log(key, task))

    def environment(self) -> dict[str, Any]:
        """The environment that a record of this run holds."""
        return {**environment(), "jobs": self.allotment.jobs, "worker_threads": self.allotment.threads}
