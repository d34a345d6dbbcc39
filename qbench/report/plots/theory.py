"""Pictures of a theory suite, from the data that its experiments left."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from qbench.errors import UnknownNameError
from qbench.registry import nearest
from qbench.report.plots.style import (
    INK,
    MARKERS,
    MUTED,
    Look,
    label_logarithmic,
    literal,
    looks,
    new_figure,
    plot_style,
    tidy_axes,
    title_width,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from qbench.theory.findings import Panel, Picture, Series
    from qbench.theory.results import ExperimentRecord

KNOWN = Look(INK, "o", "--")
_PANEL_INCHES = (3.9, 3.1)
_SMALL_PANEL_INCHES = (2.5, 2.1)
_NOTE_INCHES = 0.3
"""From the upper edge to the note, below the title."""

_MARK_INCHES, _LETTER_INCHES = 0.6, 0.068
"""Of a label in the legend."""

_LEAST_WIDTH = 6.4

_SMALL_FROM = 3
"""Columns from which panels are small."""


def write_pictures(records: Iterable[ExperimentRecord], out: Path, *, only: Sequence[str] = ()) -> tuple[Path, ...]:
    """Draw the pictures named in ``only`` (all, if empty) as ``NAME.png`` and ``NAME.svg``.

    Raises UnknownNameError for a name that no picture has.
    """
    from qbench.report.plots import save_figure

    pictures = {picture.name: picture for record in records if record.findings for picture in record.findings.pictures}
    for name in only:
        if name not in pictures:
            raise UnknownNameError(f"unknown plot '{name}'{nearest(name, list(pictures))}")
    paths: list[Path] = []
    for name in only or pictures:
        with plot_style():
            paths += save_figure(draw(pictures[name]), out / name)
    return tuple(paths)


def draw(picture: Picture) -> Figure:
    """The figure of ``picture``, within :func:`plot_style`."""
    columns = min(picture.columns, len(picture.panels))
    rows = math.ceil(len(picture.panels) / columns)
    width, height = _PANEL_INCHES if columns < _SMALL_FROM else _SMALL_PANEL_INCHES
    # Room for the title, the note and the legend below.
    width = max(width * columns, _LEAST_WIDTH, title_width(picture.title))
    figure = new_figure(width, height * rows + 1.3)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=picture.same_axes, sharey=picture.same_axes)
    styles = _styles(picture)
    for index, axes in enumerate(grid.flat):
        if index >= len(picture.panels):
            axes.set_visible(False)
            continue
        panel = picture.panels[index]
        _draw_panel(axes, panel, styles)
        is_last_row, is_first_column = index + columns >= len(picture.panels), index % columns == 0
        axes.set_xlabel(_axis_label(panel.x_label, panel.x_scale) if is_last_row or not picture.same_axes else "")
        axes.set_ylabel(_axis_label(panel.y_label, panel.y_scale) if is_first_column or not picture.same_axes else "")
    figure.suptitle(f"{literal(picture.title)}\n", x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    if picture.note:
        y = 1 - _NOTE_INCHES / figure.get_figheight()
        figure.text(0.01, y, literal(picture.note), fontsize=8, color=MUTED, va="top")
    _legend(figure, grid.flat)
    return figure


def _axis_label(label: str, scale: str) -> str:
    return f"{literal(label)} (log scale)" if scale.startswith("log") else literal(label)


def _styles(picture: Picture) -> Mapping[tuple[str, str], Look]:
    """The look of each (role, label) that is not the known answer's."""
    pairs = [(series.role, series.label) for panel in picture.panels for series in panel.series]
    pairs = [pair for pair in dict.fromkeys(pairs) if pair[0] != "known" and pair[1]]
    found = looks([(role, f"{role}/{label}") for role, label in pairs])
    # Points of one family lie on each other: a marker of its own tells them apart, where a shade would not.
    return {
        (role, label): replace(found[f"{role}/{label}"], marker=MARKERS[index % len(MARKERS)])
        for index, (role, label) in enumerate(pairs)
    }


def _draw_panel(axes: Axes, panel: Panel, styles: Mapping[tuple[str, str], Look]) -> None:
    if panel.title:
        axes.set_title(literal(panel.title), fontsize=9.5)
    for series in panel.series:
        look = KNOWN if series.role == "known" else styles[series.role, series.label]
        _SHAPES[series.style](axes, series, look)
    _set_scales(axes, panel)
    if panel.level is not None:
        height, label = panel.level
        axes.axhline(height, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1, label=literal(label))
    tidy_axes(axes)


def _set_scales(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if panel.x_scale == "log2":
        axes.set_xscale("log", base=2)
        ticks = sorted({x for series in panel.series for x in series.x})
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _power_of_two(value)))
        axes.xaxis.set_minor_locator(NullLocator())
    elif panel.x_scale == "log":
        axes.set_xscale("log")
    elif panel.x_scale == "names":
        names = [literal(series.label).replace(", ", ",\n") for series in panel.series]
        axes.set_xticks([series.x[0] for series in panel.series], names)
    if panel.y_scale == "log":
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if high < 1000 * low:
            label_logarithmic(axes.yaxis)


def _power_of_two(value: float) -> str:
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"


def _line(axes: Axes, series: Series, look: Look) -> None:
    dash = "-" if look is KNOWN else look.dash
    axes.plot(
        series.x, series.y, color=look.color, linestyle=dash, linewidth=1.5, zorder=3, label=literal(series.label)
    )
    if series.error is not None:
        low = [y - e for y, e in zip(series.y, series.error, strict=True)]
        high = [y + e for y, e in zip(series.y, series.error, strict=True)]
        axes.fill_between(series.x, low, high, color=look.color, alpha=0.18, linewidth=0, zorder=2)


def _dashed(axes: Axes, series: Series, look: Look) -> None:
    axes.plot(
        series.x, series.y, color=look.color, linestyle=(0, (4, 2.5)), linewidth=1.1, zorder=2,
        label=literal(series.label),
    )  # fmt: skip


def _points(axes: Axes, series: Series, look: Look) -> None:
    # Hollow, so that equal ones do not hide each other.
    size, face = (3.2, look.color) if look is KNOWN else (6.0, "none")
    axes.errorbar(
        series.x, series.y, yerr=series.error, color=look.color, marker=look.marker, markersize=size, linestyle="none",
        markerfacecolor=face, elinewidth=1.0, capsize=2.5, zorder=4, label=literal(series.label),
    )  # fmt: skip


def _bars(axes: Axes, series: Series, look: Look) -> None:
    gap = min((b - a for a, b in zip(series.x, series.x[1:], strict=False)), default=1.0)
    axes.bar(series.x, series.y, width=0.85 * gap, color=look.color, linewidth=0, zorder=2, label=literal(series.label))


def _backdrop(axes: Axes, series: Series, look: Look) -> None:
    behind = axes.twinx()
    behind.plot(series.x, series.y, color="#bdbdbd", linewidth=1.0, zorder=0)
    behind.set_ylim(0, None)
    behind.set_axis_off()
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)


_SHAPES = {"line": _line, "dashed": _dashed, "points": _points, "bars": _bars, "backdrop": _backdrop}


def _legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """One legend for all panels, below them."""
    found: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            found.setdefault(label, handle)
    widest = _MARK_INCHES + _LETTER_INCHES * max(map(len, found), default=0)
    columns = max(int(figure.get_figwidth() / widest), 1)
    figure.legend(list(found.values()), list(found), loc="outside lower left", ncols=columns)
