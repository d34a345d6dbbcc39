"""Test accuracy by method: every seed as a point, the mean and its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qbench.report.metrics import TOP1
from qbench.report.plots.intervals import Bar, bars_note, draw_bar
from qbench.report.plots.names import room_for
from qbench.report.plots.scene import NothingToDrawError, Scene, Series, upper_cluster
from qbench.report.plots.style import (
    ALARM,
    INK,
    MUTED,
    above,
    head,
    keep_possible_ticks,
    literal,
    new_figure,
    tidy_axes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_INCHES = 0.34
# Points of one method are spread over this share of its row, so that equal seeds stay visible.
_SPREAD = 0.36
# Where the numbers begin, in widths of the frame.
_NUMBERS = 1.015


def draw(scene: Scene) -> Figure:
    """A row per method, best mean first; a second, closer view where a few methods lie far below the others."""
    rows = sorted(scene.series, key=lambda s: -(s.top1.mean if s.top1 else float("-inf")))
    finished = [series for series in rows if series.top1]
    if not finished:
        raise NothingToDrawError("no cell finished with an accuracy")
    near = upper_cluster(rows)
    width = (10.5 if near else 8.4) + room_for(series.name for series in rows)
    figure = new_figure(width, 1.35 + _ROW_INCHES * max(len(rows), 3))
    panels = figure.subplots(1, 2 if near else 1, sharey=True, squeeze=False)[0]
    bars: list[Bar] = []
    for axes, shown in zip(panels, [finished, near], strict=False):
        bars += _panel(axes, rows, shown, scene.reference)
    _label_rows(panels[0], rows)
    _write_results(panels[-1], rows, scene)
    _write_titles(panels, scene, bars)
    return figure


def _panel(axes: Axes, rows: Sequence[Series], shown: Sequence[Series], reference: Series | None) -> list[Bar]:
    axes.set_xlim(*_limits(shown))
    keep_possible_ticks(axes.xaxis, 0.0, 100.0)
    bars = []
    for y, series in enumerate(rows):
        if y % 2:
            axes.axhspan(y - 0.5, y + 0.5, color="#f6f6f6", zorder=0, linewidth=0)
        if series in shown:
            bars += _row(axes, y, series)
    if reference is not None and reference.top1 is not None:
        axes.axvline(reference.top1.mean, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    tidy_axes(axes)
    return bars


def _row(axes: Axes, y: int, series: Series) -> list[Bar]:
    """Draw the seeds above a hollow diamond, which would hide those near the mean; return the bar, if there is one."""
    look = series.look
    assert series.top1 is not None
    values = list(series.entry.top1.values())
    diamond = look.color if len(values) == 1 else "white"
    axes.scatter(
        [series.top1.mean], [y], s=46, marker="D", color=diamond, edgecolor=look.color, linewidth=1.2, zorder=3
    )
    if len(values) == 1:
        return []
    axes.scatter(
        values,
        [y + offset for offset in _offsets(len(values))],
        s=22,
        color=look.color,
        alpha=0.7,
        linewidth=0,
        zorder=4,
    )
    half_width = series.top1.half_width()
    if half_width is None:
        return []
    bar = Bar.of(series.top1.mean, half_width, axes.get_xlim())
    draw_bar(axes, bar, y, "x", color=look.color, linewidth=1.4, zorder=2)
    return [bar]


def _offsets(count: int) -> list[float]:
    return [_SPREAD * (index / (count - 1) - 0.5) for index in range(count)] if count > 1 else [0.0]


def _limits(rows: Sequence[Series]) -> tuple[float, float]:
    """The range of the seeds, with room for the intervals as far as they are no more than half of it."""
    values = [value for series in rows for value in series.entry.top1.values()]
    low, high = min(values), max(values)
    span = max(high - low, 0.5)
    widths = [(s.top1.mean, s.top1.half_width() or 0.0) for s in rows if s.top1]
    reach_low = max(min(mean - width for mean, width in widths), low - span / 2)
    reach_high = min(max(mean + width for mean, width in widths), high + span / 2, 100.0)
    room = 0.06 * span if high > low else 0.5
    return min(low, reach_low) - room, max(high, reach_high) + room


def _label_rows(axes: Axes, rows: Sequence[Series]) -> None:
    axes.set_yticks(range(len(rows)), [literal(series.name) for series in rows])
    axes.tick_params(axis="y", length=0)


def _write_results(axes: Axes, rows: Sequence[Series], scene: Scene) -> None:
    """The numbers, to the right of the rows."""
    beside = axes.get_yaxis_transform()
    for y, series in enumerate(rows):
        numbers = TOP1.written(series.top1.mean, series.top1.sd) if series.top1 else ""
        apart = "" if scene.is_comparable(series) else "not comparable"
        text = "; ".join(part for part in (numbers, series.failed, apart) if part) or "not run"
        axes.text(_NUMBERS, y, text, transform=beside, va="center", fontsize=8.5, color=ALARM if series.failed else INK)


def _write_titles(panels: Sequence[Axes], scene: Scene, bars: list[Bar]) -> None:
    counts = {len(series.entry.top1) for series in scene.series} - {0}
    has_seeds = max(counts) > 1
    notes = ["points: seeds", "diamond: mean"] if has_seeds else ["diamond: the only seed"]
    if bars:
        notes.append(f"bar: {bars_note(bars)}")
    if has_seeds and 1 in counts:
        notes.append("filled diamond: the only seed")
    if scene.reference:
        notes.append(f"dashed: {literal(scene.reference.name)}")
    if not all(map(scene.is_comparable, scene.series)):
        notes.append("not comparable: for the reason that the table gives")
    head(panels[0], f"{literal(scene.where)}: accuracy by method", "; ".join(notes))
    if has_seeds:
        above(panels[-1], _NUMBERS, "mean \N{PLUS-MINUS SIGN} sample sd")
    panels[0].set_xlabel("top-1 accuracy on the test split [%]")
    if len(panels) > 1:
        panels[1].set_xlabel("closer view of the best [%]")
