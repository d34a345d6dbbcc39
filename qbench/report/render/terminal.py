"""Terminal tables with rich: bold and split to the width on a screen, plain and at full width elsewhere."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qbench.report.grid import Column, Entry, Grid

_ARROWS = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}", None: ""}
_UNLIMITED = 100_000


def plain(grids: list[Grid]) -> str:
    """Text without colours, at its natural width; the best values carry a star."""
    return _rendered(grids, Console(file=io.StringIO(), width=_UNLIMITED, color_system=None, legacy_windows=False))


def for_screen(grids: list[Grid], width: int, *, styles: bool = True) -> str:
    """Text with ANSI styles, or a star where the screen knows none; a table wider than ``width`` columns is split, each
    part repeating the method's name."""
    colors: Literal["standard"] | None = "standard" if styles else None
    return _rendered(
        grids, Console(file=io.StringIO(), width=width, force_terminal=True, color_system=colors, legacy_windows=False)
    )


def _rendered(grids: list[Grid], console: Console) -> str:
    for index, grid in enumerate(grids):
        if index:
            console.print()
        console.print(Text(grid.title, style="bold"))
        for number, columns in enumerate(_parts(grid, console)):
            if number:
                console.print()
            console.print(_table(grid, columns, console))
        for number, note in enumerate(grid.notes, 1):
            console.print(Text(f"[{number}] {note}"), soft_wrap=True)
        for sentence in grid.legend:
            console.print(Text(sentence, style="dim"), soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().split("\n"))


def _parts(grid: Grid, console: Console) -> list[list[int]]:
    """Column numbers of each part: all in one if they fit, else block by block, as many as fit."""
    every = list(range(len(grid.columns)))
    if _fits(grid, every, console):
        return [every]
    keys = [index for index in every if grid.columns[index].key]
    parts: list[list[int]] = []
    for block in sorted({column.block for column in grid.columns}):
        parts.append([*keys])
        for index in every:
            if grid.columns[index].block != block or index in keys:
                continue
            if len(parts[-1]) > len(keys) and not _fits(grid, [*parts[-1], index], console):
                parts.append([*keys])
            parts[-1].append(index)
    return [part for part in parts if len(part) > len(keys)] or [every]


def _fits(grid: Grid, columns: Sequence[int], console: Console) -> bool:
    options = console.options.update(max_width=_UNLIMITED)
    return Measurement.get(console, options, _table(grid, columns, console)).maximum <= console.width


def _table(grid: Grid, columns: Sequence[int], console: Console) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for index in columns:
        column = grid.columns[index]
        table.add_column(_heading(column), justify="right" if column.right else "left", overflow="fold")
    for row in grid.rows:
        table.add_row(*(_entry(row[index], starred=console.color_system is None) for index in columns))
    return table


def _heading(column: Column) -> Text:
    second = " ".join(part for part in (column.unit, _ARROWS[column.better]) if part)
    return Text(f"{column.title}\n{second}" if second else column.title)


def _entry(entry: Entry, starred: bool) -> Text:
    return Text.assemble(*_pieces(entry, starred))


def _pieces(entry: Entry, starred: bool) -> Iterator[tuple[str, str]]:
    star = "*" if entry.best and starred else ""
    yield f"{entry.text}{star}", "bold green" if entry.best else ""
    if entry.simulated:
        yield " sim", "dim italic"
    for mark in entry.marks:
        yield f" [{mark}]", "dim"
