"""A table as text cells with headings, notes and a legend: what every text renderer draws, unescaped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qbench.report.metrics import DIFFERENCE, METRICS, TOP1, Direction, Metric
from qbench.report.text import MISSING, clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from qbench.report.aggregate import Figure, MethodRow, MethodTable
    from qbench.report.entries import Setting

SIMULATED = (
    "sim: measured on a simulation in float arithmetic, so not the method's own speed and memory;"
    " model and optimizer bytes are counted in its own storage format."
)


@dataclass(frozen=True)
class Column:
    """A heading. key: it names the row, so it is repeated where a table is split to fit a narrow terminal."""

    title: str
    unit: str = ""
    better: Direction | None = None
    right: bool = True
    key: bool = False
    block: int = 0


@dataclass(frozen=True)
class Entry:
    """One cell of text. marks: numbers of the footnotes that belong to it."""

    text: str
    simulated: bool = False
    best: bool = False
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Grid:
    """One table of text. notes: footnotes 1, 2, ...; legend: how to read the table."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...] = ()
    legend: tuple[str, ...] = ()


def method_grids(table: MethodTable) -> list[Grid]:
    """One grid per setting: a method per row, a shown metric per column; columns without a figure are left out."""
    return [_method_grid(table, setting, rows) for setting, rows in table.settings()]


def cells_grid(frame: pd.DataFrame, columns: Sequence[str]) -> Grid:
    """``frame`` as text, with these columns."""
    numeric = {name: frame[name].dtype.kind in "iuf" for name in columns}
    headings = tuple(Column(name, right=numeric[name], key=name in {"method", "seed"}) for name in columns)
    rows = frame[list(columns)].itertuples(index=False, name=None)
    return Grid("cells", headings, tuple(tuple(Entry(_cell_text(value)) for value in row) for row in rows))


def _method_grid(table: MethodTable, setting: Setting, rows: Sequence[MethodRow]) -> Grid:
    metrics = [m for m in METRICS if m.shown and any(m.name in row.figures for row in rows)]
    accuracy = [metric for metric in metrics if not metric.is_cost]
    costs = [metric for metric in metrics if metric.is_cost]
    notes = tuple(dict.fromkeys(clean(note) for row in rows for note in row.notes))
    columns = (
        Column("method", right=False, key=True),
        *(_column(metric, table.baseline, block=0) for metric in accuracy),
        Column("cells", right=False),
        *(_column(metric, table.baseline, block=1) for metric in costs),
    )
    names = _names(rows)
    body = tuple(
        (
            Entry(names[index], marks=tuple(sorted({notes.index(clean(note)) + 1 for note in row.notes}))),
            *(_figure(metric, row) for metric in accuracy),
            Entry(row.status_text),
            *(_figure(metric, row) for metric in costs),
        )
        for index, row in enumerate(rows)
    )
    title = clean(f"{table.suite}: {setting.model} on {setting.dataset} ({setting.device})")
    return Grid(title, columns, body, notes, tuple(_legend(table, metrics, rows)))


def _names(rows: Sequence[MethodRow]) -> list[str]:
    """The labels; with the arithmetic where one method was run in both."""
    labels = [row.label for row in rows]
    return [clean(f"{r.label} ({r.arithmetic})" if labels.count(r.label) > 1 else r.label) for r in rows]


def _column(metric: Metric, baseline: str, block: int) -> Column:
    title, unit = (clean(part.replace("{baseline}", baseline)) for part in (metric.title, metric.unit))
    return Column(title, "" if metric.writes_unit else unit, metric.better, block=block)


def _figure(metric: Metric, row: MethodRow) -> Entry:
    figure = row.figures.get(metric.name)
    if figure is None:
        return Entry(MISSING)
    return Entry(_written(metric, figure, row), simulated=figure.simulated, best=figure.best)


def _written(metric: Metric, figure: Figure, row: MethodRow) -> str:
    value = metric.written(figure.value, figure.spread)
    # A number over fewer seeds than the row's cells says so; the usual case is told by the cells column.
    cells = sum(count for _, count in row.statuses)
    return value if metric.is_cost or figure.count == cells else f"{value} (n={figure.count})"


def _legend(table: MethodTable, metrics: Sequence[Metric], rows: Sequence[MethodRow]) -> Iterator[str]:
    figures = [figure for row in rows for figure in row.figures.values()]
    best = "; best value of a column marked" if any(figure.best for figure in figures) else ""
    yield f"\N{UPWARDS ARROW} higher is better, \N{DOWNWARDS ARROW} lower is better{best}."
    for metric in metrics:
        if metric.in_legend:
            yield clean(
                f"{metric.title}: {metric.description}.".format(
                    baseline=table.baseline, confidence=f"{table.confidence:.0%}"
                )
            )
    accuracies, differences = (_figures_of(metric, rows) for metric in (TOP1, DIFFERENCE))
    if any(figure.count == 1 for figure in (*accuracies, *differences)):
        yield "One seed gives no spread, and one pair of seeds no interval."
    if any(figure.count > 1 and figure.spread is None for figure in differences):
        yield "Equal differences at all seeds give no interval."
    if any(metric.spread == "half_range" and metric.shows_spread for metric in metrics):
        yield "speeds: median over rounds \N{PLUS-MINUS SIGN} half their range."
    if any(figure.simulated for figure in figures):
        yield SIMULATED
    yield from _by_whom("kernels", [row.kernels for row in rows], _names(rows))
    yield from _by_whom("machine", [row.machines for row in rows], _names(rows), "; and ")
    yield from (clean(f"{note}.") for note in table.notes)


def _figures_of(metric: Metric, rows: Sequence[MethodRow]) -> list[Figure]:
    return [row.figures[metric.name] for row in rows if metric.name in row.figures]


def _by_whom(what: str, of_rows: Sequence[Sequence[str]], names: Sequence[str], joint: str = ", ") -> Iterator[str]:
    """What served the methods, such as kernels, and whom where that differs."""
    users: dict[str, list[str]] = {}
    for found, name in zip(of_rows, names, strict=True):
        if found:
            users.setdefault(joint.join(found), []).append(name)
    for found, served in users.items():
        whose = f" ({', '.join(served)})" if len(users) > 1 else ""
        yield clean(f"{what}: {found}{whose}.")


def _cell_text(value: object) -> str:
    import pandas as pd

    if pd.isna(value):  # type: ignore[call-overload]
        return MISSING
    return f"{value:.6g}" if isinstance(value, float) else clean(str(value))
