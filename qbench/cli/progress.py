"""Showing a run's progress: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qbench.cli.narration import figures, headline, round_of, told, went_wrong
from qbench.cli.state import RunState
from qbench.engine.events import CellProgress, Event, Notice, Preparing, RunStarted
from qbench.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from qbench.cell import Cell
    from qbench.engine.events import Observer

_QUIET_S = 30.0
"""Without a terminal a long cell says where it stands this often."""

_FIGURES_WIDTH = 62
"""Columns that bar, epoch, loss and accuracy of a running cell take."""


@contextmanager
def display() -> Iterator[Observer]:
    """The observer that suits stderr: progress is not output."""
    if not sys.stderr.isatty():
        yield PlainLines()
        return
    from rich.console import Console
    from rich.live import Live

    shown = LiveDisplay(Console(stderr=True))
    with Live(get_renderable=shown.drawn, console=shown.console, refresh_per_second=4, transient=True):
        yield shown


class PlainLines:
    """One line per thing that happened."""

    def __init__(self, state: RunState | None = None) -> None:
        self.state = state or RunState()
        self._last_progress = self.state.now()

    def on_event(self, event: Event) -> None:
        """Say what happened; of progress, only now and then."""
        self.state.take(event)
        if isinstance(event, CellProgress):
            if self.state.now() - self._last_progress < _QUIET_S:
                return
            self._last_progress = self.state.now()
        line = told(event, self.state)
        if line is not None:
            print(line, file=sys.stderr, flush=True)


class LiveDisplay:
    """What is running now, with what went wrong left standing above it."""

    def __init__(self, console: Console, state: RunState | None = None) -> None:
        self.console = console
        self.state = state or RunState()

    def on_event(self, event: Event) -> None:
        """Take note; failures, notices and preparations become lasting lines."""
        from rich.text import Text

        self.state.take(event)
        lasting = isinstance(event, Notice | Preparing | RunStarted) or went_wrong(event)
        line = told(event, self.state) if lasting else None
        if line is not None:
            self.console.print(Text(line, style="red" if went_wrong(event) else ""))

    def drawn(self) -> RenderableType:
        """The live part: a headline, a bar, and a line per running cell. Called by the refreshing thread too."""
        from rich.console import Group
        from rich.padding import Padding
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        state = self.state
        if state.plan is None:
            return Text("starting")
        total, done = state.plan.cells + state.plan.rounds, state.done + state.rounds_done + state.underway
        bar = ProgressBar(total=max(total, 1), completed=done, width=min(self.console.width, 80))
        head = Text(headline(state), no_wrap=True, overflow="ellipsis")
        # A bar alone ends without a new line; in a padding it takes a whole one.
        return Group(head, Padding(bar), _running_table(state, self.console.width), *_measuring(state))


def _running_table(state: RunState, width: int) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    # The figures keep their places; it is the name that gives way on a narrow terminal.
    table.add_column(max_width=max(width - _FIGURES_WIDTH, 16))
    for running in list(state.running.values()):
        epoch = f"epoch {running.epoch}/{running.epochs}" if running.epochs else "starting"
        newest = figures(running.loss, running.top1).lstrip(", ")
        bar = ProgressBar(total=1.0, completed=running.fraction, width=12)
        table.add_row(_name(running.cell), bar, Text(epoch, no_wrap=True), Text(newest, no_wrap=True))
    return table


def _measuring(state: RunState) -> list[Text]:
    from rich.text import Text

    event = state.measuring
    if event is None:
        return []
    return [Text(clean(f"measuring {round_of(event)}"), no_wrap=True)]


def _name(cell: Cell) -> Text:
    """Cut at the end where the terminal is narrow: what tells cells apart comes first."""
    from rich.text import Text

    name = clean(f"{cell.label}, seed {cell.seed}, {cell.model} on {cell.dataset}")
    return Text(name, no_wrap=True, overflow="ellipsis")
