"""Learning curves: validation accuracy and training loss against epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qbench.cell import Record, Status
from qbench.report.plots.scene import NothingToDrawError, Scene, Series, curve_values, mean_curve
from qbench.report.plots.style import MUTED, literal, new_figure, tidy_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A loss that spans more than this factor is drawn on a logarithmic axis.
_LOGARITHMIC_FROM = 10.0


def draw(scene: Scene) -> Figure:
    """Two panels; per method the mean of the seeds that finished, every seed as a thin line, a cross where one diverged."""
    if not any(record.outcome.curve for series in scene.series for record in series.entry.records):
        raise NothingToDrawError("no learning curve was recorded")
    figure = new_figure(10.5, 4.3)
    accuracy, loss = figure.subplots(1, 2)
    _panel(accuracy, scene, "val_top1", "validation top-1 accuracy [%]")
    _panel(loss, scene, "train_loss", "training loss")
    _scale_loss(loss)
    accuracy.set_title(f"{literal(scene.where)}: learning curves", pad=18)
    note = "bold: mean of finished seeds, thin: seeds, cross: diverged"
    accuracy.text(0, 1.0, note, transform=accuracy.transAxes, fontsize=8, color=MUTED, va="bottom")
    handles, labels = accuracy.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", handlelength=2.6)
    return figure


def _panel(axes: Axes, scene: Scene, column: str, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for series in scene.series:
        _series(axes, series, column)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy_axes(axes)


def _series(axes: Axes, series: Series, column: str) -> None:
    records = [record for record in series.entry.records if record.outcome.curve]
    for record in records:
        _seed(axes, series, record, column)
    finished = [curve_values(record, column) for record in records if record.outcome.status is Status.OK]
    mean = mean_curve(finished)
    # Drawn even where empty: the legend names every method.
    axes.plot(
        list(mean), list(mean.values()), color=series.look.color, linestyle=series.look.dash, linewidth=1.9, zorder=3,
        marker="o" if len(mean) == 1 else None, markersize=4, label=literal(series.name),
    )  # fmt: skip


def _seed(axes: Axes, series: Series, record: Record, column: str) -> None:
    values = curve_values(record, column)
    epochs, heights = list(values), list(values.values())
    axes.plot(epochs, heights, color=series.look.color, linewidth=0.7, alpha=0.35, zorder=2)
    if record.outcome.status is Status.DIVERGED and values:
        axes.scatter(epochs[-1:], heights[-1:], marker="x", s=42, linewidth=1.6, color=series.look.color, zorder=4)


def _scale_loss(axes: Axes) -> None:
    from matplotlib.ticker import LogFormatter, NullFormatter

    heights = [float(y) for line in axes.get_lines() for y in line.get_ydata()]  # type: ignore[union-attr]
    if not heights or min(heights) <= 0 or max(heights) < _LOGARITHMIC_FROM * min(heights):
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter(labelOnlyBase=False))
    axes.yaxis.set_minor_formatter(NullFormatter())
