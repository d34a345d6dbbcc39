"""Curves of what probes observed: the median over layers against the epoch, a panel per tensor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qbench.probes.base import DATA_PATHS
from qbench.report.plots.names import room_for
from qbench.report.plots.observed import Table, least_width, plain_numbers, seeds_note, write_head
from qbench.report.plots.style import keep_possible_ticks, label_epochs, literal, new_figure, tidy_axes
from qbench.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from qbench.report.plots.scene import Scene, Series

_HUGE = 1e300  # stands for infinity where quartiles are interpolated


def draw_curves(scene: Scene, table: Table) -> Figure:
    """A panel per tensor, as in the heat maps: per method the median over its layers, and their quartiles as a band.

    Tensors of one data path are kept apart: their formats may differ by many bits, and a median of all is none's.
    """
    tensors = list(dict.fromkeys(zip(table.values["data_path"], table.values["path"], strict=True)))
    tensors.sort(key=lambda tensor: list(DATA_PATHS).index(tensor[0]))
    across = min(len(tensors), 3)
    rows = math.ceil(len(tensors) / across)
    width = max(3.3 * across + 2.0, least_width(scene, table)) + room_for(series.name for series in scene.series)
    figure = new_figure(width, 2.7 * rows + 0.6)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 0.5 / figure.get_figheight()))
    panels = figure.subplots(rows, across, squeeze=False)
    for axes in panels.flat[len(tensors) :]:
        axes.set_axis_off()
    lines: dict[str, Line2D] = {}
    for axes, (letter, path) in zip(panels.flat, tensors, strict=False):
        part = table.values[table.values["path"] == path]
        for series in scene.series:
            lines.update(_line(axes, part[part["method"] == series.name], series))
        _finish(axes, f"{letter}: {path}", table, part["epoch"])
    # Not matplotlib's own list, which leaves out names that begin with an underscore.
    names = [series.name for series in scene.series if series.name in lines]
    handles, labels = [lines[name] for name in names], [literal(name) for name in names]
    figure.legend(handles, labels, loc="outside right center", handlelength=2.6)
    write_head(
        figure, scene, table, "; ".join(["median over layers, band: quartiles", seeds_note(scene), *_left_out(table)])
    )
    return figure


def _left_out(table: Table) -> Iterator[str]:
    values = table.values["value"]
    if values.abs().eq(math.inf).any():
        yield "infinite ones, as where nothing is lost, are not drawn"
    if values.isna().any():
        yield "layers without a value left out"


def _quartiles(part: pd.DataFrame) -> pd.DataFrame:
    """Of the values over layers, by epoch, in columns 0.25, 0.5 and 0.75; NaN where one is infinite.

    An infinite value counts as the extreme that it is: without it, a method that loses nothing in most layers would be
    shown by those where it does.
    """
    import pandas as pd

    # Interpolating between infinities would give NaN for their finite neighbours too.
    by_epoch = part["value"].clip(-_HUGE, _HUGE).groupby(part["epoch"])
    found = pd.DataFrame({share: by_epoch.quantile(share) for share in (0.25, 0.5, 0.75)})
    return found.where(found.abs() < _HUGE / 8)


def _line(axes: Axes, part: pd.DataFrame, series: Series) -> dict[str, Line2D]:
    """Draw a method in a panel; its line by its name, nothing where its median is never finite."""
    spread = _quartiles(part).dropna(subset=[0.5])
    if spread.empty:
        return {}
    look, epochs = series.look, spread.index.to_numpy()
    axes.fill_between(epochs, spread[0.25], spread[0.75], color=look.color, alpha=0.13, linewidth=0, zorder=2)
    (line,) = axes.plot(
        epochs, spread[0.5], color=look.color, linestyle=look.dash, linewidth=1.5, zorder=3,
        marker="o" if len(spread) == 1 else None, markersize=4, label=literal(series.name),
    )  # fmt: skip
    return {series.name: line}


def _finish(axes: Axes, title: str, table: Table, epochs: pd.Series[int]) -> None:
    axes.set_title(literal(clean(title)), fontsize=9.5)
    axes.set_xlabel("epoch")
    axes.set_ylabel(literal(table.axis))
    label_epochs(axes, min(epochs), max(epochs))
    axes.yaxis.set_major_formatter(plain_numbers())
    most = 1.0 if table.quantity.unit == "share" else table.quantity.high
    keep_possible_ticks(axes.yaxis, table.quantity.low, most)
    tidy_axes(axes)
