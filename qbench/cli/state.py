"""Where a run stands, from its events: what is running, what is done, and how long it will still take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from qbench.engine.events import (
    CellFinished,
    CellProgress,
    CellStarted,
    Event,
    RoundFinished,
    RoundStarted,
    RunStarted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from qbench.cell import Cell

Identity = tuple[str, str, str, int]
# A first guess from running cells needs this share of one: the first steps are slow.
_ENOUGH_TO_GUESS = 0.05


@dataclass
class Running:
    """A cell in training. fraction: the share of its steps that are done."""

    cell: Cell
    since: float
    epoch: int = 0
    epochs: int = 0
    fraction: float = 0.0
    loss: float | None = None
    top1: float | None = None


class RunState:
    """The state of a run. now: a clock in seconds, monotonic."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.began = now()
        self.plan: RunStarted | None = None
        self.running: dict[Identity, Running] = {}
        self.finished = 0
        self.rounds_done = 0
        self.measuring: RoundStarted | None = None
        self._cell_s: list[float] = []
        self._round_s: list[float] = []
        self._round_began = self.began

    def take(self, event: Event) -> None:
        """Bring the state up to date."""
        match event:
            case RunStarted():
                self.plan = event
                self.began = self.now()
            case CellStarted():
                self.running[identity(event.cell)] = Running(event.cell, self.now())
            case CellProgress():
                self._progress(event)
            case CellFinished():
                self._finish(event)
            case RoundStarted():
                self.measuring, self._round_began = event, self.now()
            case RoundFinished():
                self.measuring = None
                self.rounds_done += 1
                self._round_s.append(self.now() - self._round_began)
            case _:
                pass

    @property
    def done(self) -> int:
        """Cells with a result or an end, of this run and earlier ones."""
        return self.finished + (self.plan.done if self.plan else 0)

    @property
    def underway(self) -> float:
        """Cells' worth of work that the running ones have done."""
        return sum(running.fraction for running in list(self.running.values()))

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return self.now() - self.began

    def seconds_left(self) -> float | None:
        """An estimate from what is finished; None before there is anything to go by.

        Cells left over (less what the running ones have done) at the mean time of a finished cell, shared by the
        jobs, and then the measuring rounds, one at a time.
        """
        if self.plan is None:
            return None
        cells_left = self.plan.cells - self.done - self.underway
        rounds_left = self.plan.rounds - self.rounds_done
        cell_s = self._mean_cell_s()
        if cell_s is None and cells_left > 0:
            return None
        training = max(cells_left, 0.0) * (cell_s or 0.0) / self.plan.jobs
        return training + rounds_left * (fmean(self._round_s) if self._round_s else 0.0)

    def _mean_cell_s(self) -> float | None:
        if self._cell_s:
            return fmean(self._cell_s)
        guesses = [
            (self.now() - running.since) / running.fraction
            for running in list(self.running.values())
            if running.fraction >= _ENOUGH_TO_GUESS
        ]
        return fmean(guesses) if guesses else None

    def _progress(self, event: CellProgress) -> None:
        running = self.running.setdefault(identity(event.cell), Running(event.cell, self.now()))
        running.epoch, running.epochs = event.epoch, event.epochs
        running.fraction = event.step / event.steps if event.steps else 0.0
        running.loss, running.top1 = event.loss, event.top1

    def _finish(self, event: CellFinished) -> None:
        running = self.running.pop(identity(event.cell), None)
        self.finished += 1
        if running is not None and event.outcome.status.is_result:
            self._cell_s.append(self.now() - running.since)


def identity(cell: Cell) -> Identity:
    """What tells the cells of one run apart."""
    model, dataset = f"{cell.model}{cell.model_options}", f"{cell.dataset}{cell.dataset_options}"
    return cell.label, model, dataset, cell.seed


def clock(seconds: float) -> str:
    """``0:07``, ``12:34``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
