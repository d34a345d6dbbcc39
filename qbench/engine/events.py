"""What a run tells its observer, in the order in which things happen; and what it returns at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from qbench.cell import Cell, Measurement, Outcome, Status


@dataclass(frozen=True)
class RunStarted:
    """The plan is made and the results directory is ours.

    cells: training runs of the plan; done: how many of them are finished already; skipped: how many will not be run.
    rounds: measuring visits (method, model and data set, round) that are still to be made. jobs: cells at a time.
    """

    suite: str
    run: str
    out: Path
    cells: int
    done: int
    skipped: int
    rounds: int
    jobs: int
    threads: int


@dataclass(frozen=True)
class Preparing:
    """A data set is being downloaded, rendered or read for the first time, before any cell starts."""

    dataset: str


@dataclass(frozen=True)
class CellStarted:
    """A training run starts. attempt: 1, or more where earlier tries failed."""

    cell: Cell
    attempt: int


@dataclass(frozen=True)
class CellProgress:
    """A training run has come this far: epoch counts from 1, step the optimiser steps done; top1 is in percent."""

    cell: Cell
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None = None
    top1: float | None = None


@dataclass(frozen=True)
class CellFinished:
    """A training run ended, well or not, and its record is on disk."""

    cell: Cell
    outcome: Outcome
    log: Path


@dataclass(frozen=True)
class RoundStarted:
    """One round of measuring one method starts, alone on the device. round counts from 0."""

    cell: Cell
    round: int
    rounds: int


@dataclass(frozen=True)
class RoundFinished:
    """One round of measuring ended, and it is on disk."""

    cell: Cell
    round: int
    rounds: int
    measurement: Measurement
    log: Path


@dataclass(frozen=True)
class Notice:
    """Something the user should read: one sentence."""

    message: str


@dataclass(frozen=True)
class Failure:
    """One cell or measuring round that gave no result. what: ``train`` or ``measure``."""

    what: str
    label: str
    model: str
    dataset: str
    seed: int
    status: Status
    message: str
    log: Path


@dataclass(frozen=True)
class RunSummary:
    """How a run ended.

    total: cells of the plan; done_before: finished by earlier runs; finished: by this one (diverged ones included);
    measured: rounds measured by this run; failures: what gave no result; skipped: cells that cannot be run here.
    interrupted: stopped by Ctrl-C or SIGTERM; the same command continues where it stopped.
    """

    suite: str
    run: str
    out: Path
    total: int
    done_before: int
    finished: int
    diverged: int
    measured: int
    skipped: int
    failures: tuple[Failure, ...]
    interrupted: bool
    wall_s: float

    @property
    def exit_code(self) -> int:
        """0 all done, 1 something failed, 130 interrupted (as shells report Ctrl-C)."""
        if self.interrupted:
            return 130
        return 1 if self.failures else 0


@dataclass(frozen=True)
class RunFinished:
    """The last event."""

    summary: RunSummary


Event = (
    RunStarted
    | Preparing
    | CellStarted
    | CellProgress
    | CellFinished
    | RoundStarted
    | RoundFinished
    | Notice
    | RunFinished
)


class Observer(Protocol):
    """Whoever shows the progress of a run. Called from the thread that runs the suite, never from two at once."""

    def on_event(self, event: Event) -> None:
        """Take note of ``event``; a ``match`` statement tells the kinds apart."""


class Silent:
    """An observer that shows nothing."""

    def on_event(self, event: Event) -> None:
        """Ignore ``event``."""
