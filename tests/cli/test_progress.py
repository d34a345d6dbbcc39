from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_records import make_cell, make_measure, make_record

from qbench.cell import Cell, Status
from qbench.cli.arguments import seed_list
from qbench.cli.narration import headline
from qbench.cli.progress import LiveDisplay, PlainLines
from qbench.cli.state import RunState, clock
from qbench.engine.events import (
    CellFinished,
    CellProgress,
    CellStarted,
    Event,
    Notice,
    RoundFinished,
    RoundStarted,
    RunStarted,
)

LOG = Path("logs/x.log")


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Clock:
    return Clock()


def started(cells: int = 6, done: int = 0, rounds: int = 0, jobs: int = 1) -> RunStarted:
    return RunStarted("digits", "run1", Path("out"), cells, done, 0, rounds, jobs, 1)


def finished(cell: Cell, status: Status = Status.OK, message: str = "") -> CellFinished:
    outcome = make_record(top1=98.25 if status is Status.OK else None, status=status, message=message).outcome
    return CellFinished(cell, outcome, LOG)


def tell(state: RunState, *events: Event) -> None:
    for event in events:
        state.take(event)


def test_no_estimate_before_there_is_anything_to_go_by(now: Clock) -> None:
    state = RunState(now)
    assert state.seconds_left() is None
    tell(state, started(), CellStarted(make_cell(), 1))
    assert state.seconds_left() is None


def test_estimate_from_finished_cells(now: Clock) -> None:
    state = RunState(now)
    tell(state, started(cells=6, jobs=2), CellStarted(make_cell(seed=0), 1))
    now.seconds += 10
    tell(state, finished(make_cell(seed=0)))
    assert state.seconds_left() == pytest.approx(5 * 10 / 2)
    tell(state, CellStarted(make_cell(seed=1), 1), CellProgress(make_cell(seed=1), 3, 5, 50, 100))
    assert state.seconds_left() == pytest.approx(4.5 * 10 / 2)


def test_first_estimate_from_a_running_cell(now: Clock) -> None:
    state = RunState(now)
    tell(state, started(cells=2), CellStarted(make_cell(), 1))
    now.seconds += 6
    tell(state, CellProgress(make_cell(), 2, 5, 25, 100))
    assert state.seconds_left() == pytest.approx(24 * 1.75)


def test_failures_do_not_shorten_the_estimate(now: Clock) -> None:
    state = RunState(now)
    tell(state, started(cells=3), CellStarted(make_cell(seed=0), 1))
    now.seconds += 10
    tell(state, finished(make_cell(seed=0)), CellStarted(make_cell(seed=1), 1))
    tell(state, finished(make_cell(seed=1), Status.ERROR, "at once"))
    assert state.seconds_left() == pytest.approx(10)


def test_measuring_rounds_are_part_of_the_estimate(now: Clock) -> None:
    state = RunState(now)
    tell(state, started(cells=1, done=1, rounds=3), RoundStarted(make_cell(), 0, 3))
    now.seconds += 4
    tell(state, RoundFinished(make_cell(), 0, 3, make_measure().rounds[0], LOG))
    assert state.seconds_left() == pytest.approx(8)
    now.seconds += 60
    assert headline(state) == "digits: 1 of 1 cells, 1 of 3 measuring rounds, 1:04 elapsed, about 0:08 left"


def test_plain_lines(now: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = PlainLines(RunState(now))
    shown.on_event(started(cells=3))
    shown.on_event(CellStarted(make_cell(), 1))
    shown.on_event(CellProgress(make_cell(), 1, 5, 10, 100, loss=0.5))
    now.seconds += 31
    shown.on_event(CellProgress(make_cell(), 2, 5, 31, 100, loss=0.25, top1=91.5))
    shown.on_event(finished(make_cell()))
    shown.on_event(finished(make_cell(seed=1), Status.OOM, "no\nmemory"))
    shown.on_event(Notice("look out"))
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        "digits: 3 of 3 cells to train, 1 at a time, 1 thread each, results in out",
        "[0/3] fp32 on resnet8, digits, seed 0: epoch 2/5, loss 0.250, top-1 91.50 %, about 4:29 left",
        "[1/3] fp32 on resnet8, digits, seed 0: ok, top-1 98.25 %, 0:12, about 1:02 left",
        "[2/3] fp32 on resnet8, digits, seed 1: oom, no memory (log: logs/x.log), about 0:31 left",
        "note: look out",
    ]


@pytest.mark.parametrize(
    ("width", "name"), [(120, "banner8[bits=4], seed 0, resnet8 on digits "), (80, "banner8[bits=4], …  ")]
)
def test_live_display_shows_what_runs_and_keeps_what_failed(now: Clock, width: int, name: str) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    shown = LiveDisplay(console, RunState(now))
    for event in (
        started(cells=3, rounds=1),
        CellStarted(make_cell("banner8[bits=4]"), 1),
        CellProgress(make_cell("banner8[bits=4]"), 2, 5, 31, 100, loss=0.25, top1=91.5),
        CellStarted(make_cell("sr"), 1),
        finished(make_cell("sr"), Status.ERROR, "[bold]boom"),
        RoundStarted(make_cell("r"), 1, 3),
    ):
        shown.on_event(event)
    console.print(shown.drawn())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "sr on resnet8, digits, seed 0: error, [bold]boom (log: logs/x.log)" in text.replace("\n", " ")
    assert "digits: 1 of 3 cells, 0 of 1 measuring rounds, 0:00 elapsed" in text
    assert any(line.startswith(name) for line in text.splitlines())
    assert "epoch 2/5  loss 0.250, top-1 91.50 %" in text
    assert "measuring r on resnet8, digits, round 2 of 3" in text


@pytest.mark.parametrize(("seconds", "written"), [(0.4, "0:00"), (7, "0:07"), (754, "12:34"), (3723, "1:02:03")])
def test_clock(seconds: float, written: str) -> None:
    assert clock(seconds) == written


@pytest.mark.parametrize(
    ("text", "seeds"), [("0", (0,)), ("0,1,2", (0, 1, 2)), ("0-3", (0, 1, 2, 3)), ("7, 1-2", (7, 1, 2))]
)
def test_seed_list(text: str, seeds: tuple[int, ...]) -> None:
    assert seed_list(text) == seeds
