"""Renderers: the same table as terminal text, Markdown, CSV, LaTeX or JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qbench.errors import InputError, UnknownNameError
from qbench.registry import nearest
from qbench.report.cells import STABLE_COLUMNS
from qbench.report.grid import Grid, cells_grid, method_grids
from qbench.report.render import data, latex, markdown, terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from qbench.report.aggregate import MethodTable


@dataclass(frozen=True)
class Format:
    """One output format: its file suffix and its two renderers, of the method table and of the cells."""

    name: str
    suffix: str
    methods: Callable[[MethodTable], str]
    cells: Callable[[pd.DataFrame], str]


def _drawn(name: str, suffix: str, draw: Callable[[list[Grid]], str]) -> Format:
    return Format(
        name,
        suffix,
        methods=lambda table: draw(method_grids(table)),
        cells=lambda frame: draw([cells_grid(frame, list(STABLE_COLUMNS))]),
    )


FORMATS = {
    format_.name: format_
    for format_ in (
        _drawn("terminal", ".txt", terminal.plain),
        _drawn("md", ".md", markdown.render),
        Format("csv", ".csv", data.methods_csv, data.cells_csv),
        _drawn("latex", ".tex", latex.render),
        Format("json", ".json", data.methods_json, data.cells_json),
    )
}


def format_of(file: Path) -> Format:
    """The format that the ending of a file's name stands for. Raises InputError."""
    for found in FORMATS.values():
        if found.suffix == file.suffix.lower():
            return found
    *most, last = [found.suffix for found in FORMATS.values()]
    raise InputError(
        f"{file}: its ending names no table format; use {', '.join(most)} or {last}, or say which with --format"
    )


def find_format(name: str) -> Format:
    """The format called ``name``. Raises UnknownNameError."""
    if name not in FORMATS:
        raise UnknownNameError(f"unknown table format '{name}'{nearest(name, list(FORMATS))}")
    return FORMATS[name]
