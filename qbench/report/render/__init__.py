"""Renderers: the same table as terminal text, Markdown, CSV, LaTeX or JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qbench.errors import UnknownNameError
from qbench.registry import nearest
from qbench.report.cells import STABLE_COLUMNS
from qbench.report.grid import Grid, cells_grid, method_grids
from qbench.report.render import data, latex, markdown, terminal

if TYPE_CHECKING:
    from collections.abc import Callable

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


def find_format(name: str) -> Format:
    """The format called ``name``. Raises UnknownNameError."""
    if name not in FORMATS:
        raise UnknownNameError(f"unknown table format '{name}'{nearest(name, list(FORMATS))}")
    return FORMATS[name]
