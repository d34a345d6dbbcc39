"""Learning curves: validation accuracy and training loss against epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qbench.cell import Record, Status
from qbench.report.plots.names import room_for
from qbench.report.plots.scene import NothingToDrawError, Scene, Series, curve_values, mean_curve
from qbench.report.plots.style import (
    head,
    keep_possible_ticks,
    label_epochs,
    label_logarithmic,
    literal,
    new_figure,
    tidy_axes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# A loss that spans more than this factor is drawn on a logarithmic axis.
_LOGARITHMIC_FROM = 10.0
_LEGEND_LINE_INCHES = 0.18
# Of an epoch: from the first to the last method, where they stand side by side.
_SPREAD = 0.5


def draw(scene: Scene) -> Figure:
    """Two panels; per method the mean of the finished seeds, every seed as a thin line, a cross where one diverged."""
    shown = [series for series in scene.series if _drawn_records(series)]
    if not shown:
        raise NothingToDrawError("no learning curve was recorded")
    # The legend stands to the right of the panels.
    height = max(4.3, 0.6 + _LEGEND_LINE_INCHES * len(shown))
    figure = new_figure(10.5 + room_for(series.name for series in shown), height)
    accuracy, loss = figure.subplots(1, 2)
    lines = _panel(accuracy, shown, "val_top1")
    _panel(loss, shown, "train_loss")
    if len(_epochs(shown, "val_top1")) > 1:
        accuracy.sharex(loss)  # not every epoch need be validated
    accuracy.set_ylabel("validation top-1 accuracy [%]")
    keep_possible_ticks(accuracy.yaxis, 0.0, 100.0)
    loss.set_ylabel("training loss (log scale)" if loss.get_yscale() == "log" else "training loss")
    head(accuracy, f"{literal(scene.where)}: learning curves", _key(scene, shown, accuracy.get_ylim()[0]))
    # Not matplotlib's own list, which leaves out names that begin with an underscore.
    names = [literal(series.name) for series in shown]
    figure.legend(lines, names, loc="outside right center", handlelength=2.6)
    return figure


def _key(scene: Scene, shown: Sequence[Series], bottom: float) -> str:
    """What the lines mean, and who has none. bottom: the lowest accuracy inside the frame."""
    records = [_drawn_records(series) for series in shown]
    seeds = "bold: mean of the finished seeds, thin: seeds" if max(map(len, records)) > 1 else "one seed"
    diverged = any(record.outcome.status is Status.DIVERGED for group in records for record in group)
    only = len(shown) > 1 and any(len(_epochs(shown, column)) == 1 for column in ("val_top1", "train_loss"))
    heights = [height for group in records for r in group for height in curve_values(r, "val_top1").values()]
    low = f"accuracy below {max(bottom, 0):.0f} % not shown" if min(heights, default=bottom) < bottom else ""
    results = [s for s in scene.series if any(r.outcome.status.is_result for r in s.entry.records)]
    early = ", ".join(literal(series.name) for series in results if series not in shown)
    notes = [
        seeds,
        low,
        "at a single epoch methods side by side" if only else "",
        "cross: diverged" if diverged else "",
        f"diverged in the first epoch: {early}" if early else "",
    ]
    return ", ".join(note for note in notes if note)


def _drawn_records(series: Series) -> list[Record]:
    """The records that tell about the method; a run that was killed or crashed tells about the machine."""
    return [record for record in series.entry.records if record.outcome.status.is_result and record.outcome.curve]


def _panel(axes: Axes, shown: Sequence[Series], column: str) -> list[Line2D]:
    """Draw every method; the lines of their means."""
    epochs = _epochs(shown, column)
    shifts = _shifts(len(shown), epochs)
    lines = [_lines(axes, series, column, shift) for series, shift in zip(shown, shifts, strict=True)]
    _set_limits(axes, shown, column)
    for series, shift in zip(shown, shifts, strict=True):
        _crosses(axes, series, column, shift)
    axes.set_xlabel("epoch")
    if epochs:
        label_epochs(axes, min(epochs), max(epochs))
    tidy_axes(axes)
    return lines


def _epochs(shown: Sequence[Series], column: str) -> set[int]:
    records = [record for series in shown for record in _drawn_records(series)]
    return {epoch for record in records for epoch in curve_values(record, column)}


def _shifts(count: int, epochs: set[int]) -> list[float]:
    """Where there is but one epoch, methods stand side by side: equal points would hide each other."""
    apart = _SPREAD / max(count - 1, 1) if len(epochs) == 1 else 0.0
    return [(index - (count - 1) / 2) * apart for index in range(count)]


def _lines(axes: Axes, series: Series, column: str, shift: float) -> Line2D:
    look = series.look
    records = _drawn_records(series)
    for record in records:
        values = curve_values(record, column)
        axes.plot(
            [epoch + shift for epoch in values], list(values.values()), color=look.color, linewidth=0.7, alpha=0.35,
            zorder=2, marker="o" if len(values) == 1 else None, markersize=2.5,
        )  # fmt: skip
    mean = mean_curve([curve_values(r, column) for r in records if r.outcome.status is Status.OK])
    # Drawn even where empty: the legend names every method.
    (line,) = axes.plot(
        [epoch + shift for epoch in mean], list(mean.values()), color=look.color, linestyle=look.dash, linewidth=1.8,
        zorder=3, marker="o" if len(mean) == 1 else None, markersize=4, label=literal(series.name),
    )  # fmt: skip
    return line


def _set_limits(axes: Axes, shown: Sequence[Series], column: str) -> None:
    """Fit the finished runs: an exploding loss, or the guesses of the first epochs, would leave them no room."""
    curves = [
        list(curve_values(record, column).values())
        for series in shown
        for record in _drawn_records(series)
        if record.outcome.status is Status.OK
    ]
    heights = [height for curve in curves for height in curve]
    if not heights:
        return
    low, high = min(heights), max(heights)
    if column == "val_top1":
        worst_end = min(curve[-1] for curve in curves if curve)
        low = max(low, worst_end - max(30.0, 1.5 * (100 - worst_end)))
    elif low > 0 and high > _LOGARITHMIC_FROM * low:
        axes.set_yscale("log")
        label_logarithmic(axes.yaxis)
        axes.set_ylim(low / 1.15, high * 1.15)
        return
    room = 0.04 * (high - low) or 0.5
    axes.set_ylim(low - room, high + room)


def _crosses(axes: Axes, series: Series, column: str, shift: float) -> None:
    """A cross where a run diverged, moved to the frame's edge where that lies outside."""
    bottom, top = axes.get_ylim()
    for record in _drawn_records(series):
        values = curve_values(record, column)
        if record.outcome.status is not Status.DIVERGED or not values:
            continue
        epoch, height = list(values.items())[-1]
        inside = min(max(height, bottom), top)
        axes.scatter(
            [epoch + shift], [inside], marker="x", s=42, linewidth=1.6, color=series.look.color, zorder=4, clip_on=False
        )
