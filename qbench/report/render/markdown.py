"""GitHub-flavoured Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qbench.report.grid import Column, Entry, Grid

_ARROWS = {"higher": " \N{UPWARDS ARROW}", "lower": " \N{DOWNWARDS ARROW}", None: ""}
_ESCAPES = str.maketrans({character: f"\\{character}" for character in "\\`*_|<>~&$"})


def render(grids: list[Grid]) -> str:
    """Each grid as a heading, a table, its footnotes and its legend."""
    return "\n".join(_grid(grid) for grid in grids)


def escape(text: str) -> str:
    """``text`` as Markdown that shows exactly these characters, inside a table too."""
    # A bracket alone is harmless and reads better bare; only "](" would make a link.
    return text.translate(_ESCAPES).replace("](", "]\\(")


def _grid(grid: Grid) -> str:
    lines = [f"### {escape(grid.title)}", ""]
    lines.append(_line([_heading(column) for column in grid.columns]))
    lines.append(_line(["---:" if column.right else ":---" for column in grid.columns]))
    lines += [_line([_entry(entry) for entry in row]) for row in grid.rows]
    lines += ["", *(f"[{number}] {escape(note)}  " for number, note in enumerate(grid.notes, 1))]
    lines += ["", *(f"{escape(sentence)}  " for sentence in grid.legend)]
    return "\n".join(_without_doubled_blanks(lines)) + "\n"


def _line(entries: list[str]) -> str:
    return f"| {' | '.join(entries)} |"


def _heading(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit else ""
    return escape(f"{column.title}{unit}{_ARROWS[column.better]}")


def _entry(entry: Entry) -> str:
    text = escape(entry.text)
    bold = f"**{text}**" if entry.best else text
    return bold + (" *sim*" if entry.simulated else "") + "".join(f" [{mark}]" for mark in entry.marks)


def _without_doubled_blanks(lines: list[str]) -> list[str]:
    kept = [line for index, line in enumerate(lines) if line or (index and lines[index - 1])]
    return kept[:-1] if kept and not kept[-1] else kept
