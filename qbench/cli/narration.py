"""A run's events in words, one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qbench.cell import Status
from qbench.cli.state import RunState, clock
from qbench.engine.events import CellFinished, CellProgress, Event, Notice, Preparing, RoundFinished, RunStarted
from qbench.report.text import clean, counted

if TYPE_CHECKING:
    from qbench.cell import Cell, Outcome
    from qbench.engine.events import RoundStarted


def told(event: Event, state: RunState) -> str | None:
    """``event`` as one line; None where it is not worth one. state: after the event."""
    line = _line(event, state)
    return None if line is None else clean(line)


def _line(event: Event, state: RunState) -> str | None:
    line: str | None = None
    match event:
        case RunStarted():
            line = _opening(event)
        case Preparing():
            line = f"preparing data set {event.dataset}"
        case CellProgress():
            epoch = f"epoch {event.epoch}/{event.epochs}"
            line = f"{_counted(state)} {place(event.cell)}: {epoch}{figures(event.loss, event.top1)}{left(state)}"
        case CellFinished():
            line = f"{_counted(state)} {place(event.cell)}: {_result(event.outcome)}{_log(event)}{left(state)}"
        case RoundFinished():
            line = f"{_measured(event)}{_log(event)}{left(state)}"
        case Notice():
            line = f"note: {event.message}"
        case _:
            pass
    return line


def headline(state: RunState) -> str:
    """``digits: 12 of 33 cells, 3:10 elapsed, about 5:20 left``."""
    assert state.plan is not None
    measured = f", {state.rounds_done} of {state.plan.rounds} measuring rounds" if state.plan.rounds else ""
    cells = f"{state.done} of {state.plan.cells} cells{measured}"
    return clean(f"{state.plan.suite}: {cells}, {clock(state.elapsed_s)} elapsed{left(state)}")


def went_wrong(event: Event) -> bool:
    """Whether the event is one that the user should not miss: a cell that diverged or failed, a failed round."""
    if isinstance(event, CellFinished):
        return event.outcome.status is not Status.OK
    return isinstance(event, RoundFinished) and event.measurement.status is not Status.OK


def place(cell: Cell) -> str:
    """``banner8 on resnet8, digits, seed 0``."""
    return f"{_setting(cell)}, seed {cell.seed}"


def round_of(event: RoundStarted | RoundFinished) -> str:
    """``banner8 on resnet8, digits, round 2 of 3``."""
    return f"{_setting(event.cell)}, round {event.round + 1} of {event.rounds}"


def _setting(cell: Cell) -> str:
    return f"{cell.label} on {cell.model}, {cell.dataset}"


def figures(loss: float | None, top1: float | None) -> str:
    """``, loss 0.512, top-1 93.21 %``: what is known of both."""
    parts = [f"loss {loss:.3f}"] if loss is not None else []
    parts += [f"top-1 {top1:.2f} %"] if top1 is not None else []
    return "".join(f", {part}" for part in parts)


def left(state: RunState) -> str:
    """``, about 5:20 left``; empty where nothing can be said."""
    seconds = state.seconds_left()
    return "" if seconds is None or seconds < 1 else f", about {clock(seconds)} left"


def _opening(event: RunStarted) -> str:
    parts = [f"{event.suite}: {event.cells - event.done} of {event.cells} cells to train"]
    parts += [f"{event.done} done already"] if event.done else []
    parts += [f"{counted(event.skipped, 'method')} skipped"] if event.skipped else []
    parts += [counted(event.rounds, "measuring round")] if event.rounds else []
    parts += [
        f"{event.jobs} at a time",
        f"{counted(event.threads, 'thread')} each",
        f"results in {event.out}",
    ]
    return ", ".join(parts)


def _counted(state: RunState) -> str:
    return f"[{state.done}/{state.plan.cells}]" if state.plan else "[?]"


def _result(outcome: Outcome) -> str:
    if outcome.status is Status.OK and outcome.top1 is not None:
        return f"ok, top-1 {outcome.top1:.2f} %, {clock(outcome.wall_s)}"
    if outcome.status is Status.DIVERGED:
        return f"diverged at step {outcome.diverged_step}"
    return f"{outcome.status}, {outcome.message}" if outcome.message else str(outcome.status)


def _measured(event: RoundFinished) -> str:
    measured = f"measured {round_of(event)}"
    if event.measurement.status is Status.OK:
        return measured
    return f"{measured}: {event.measurement.status}, {event.measurement.message}"


def _log(event: CellFinished | RoundFinished) -> str:
    ended = event.outcome if isinstance(event, CellFinished) else event.measurement
    return "" if ended.status.is_result else f" (log: {event.log})"
