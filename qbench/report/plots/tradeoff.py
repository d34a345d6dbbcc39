"""Accuracy against a cost, with the Pareto front: real measurements and simulations are never mixed on one front."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from qbench.report import fairness
from qbench.report.metrics import PEAK_BYTES, TRAIN_SPEED, Direction, Metric
from qbench.report.plots.intervals import Bar, bars_note, draw_bar
from qbench.report.plots.labels import Label, place_labels
from qbench.report.plots.scene import NothingToDrawError, Scene, Series, upper_cluster
from qbench.report.plots.style import MUTED, keep_possible_ticks, label_logarithmic, literal, new_figure, tidy_axes
from qbench.report.text import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# A cost that spans more than this factor is drawn on a logarithmic axis.
_LOGARITHMIC_FROM = 6.0

# By whether the front is of simulations.
_FRONT_COLOR = {False: "#6f6f6f", True: "#a8a8a8"}
_FRONT_DASH: dict[bool, tuple[float, tuple[float, ...]]] = {False: (0, ()), True: (0, (4, 3))}


@dataclass(frozen=True)
class Point:
    """One method: its cost, its mean accuracy in percent, and half the interval of that mean.

    is_complete: the accuracy is of all seeds that there are. is_compared: it may be compared with the others. A method
    that is not both dominates nobody.
    """

    series: Series
    cost: float
    accuracy: float
    half_width: float | None
    is_complete: bool
    is_compared: bool

    @property
    def is_simulated(self) -> bool:
        """Whether the cost is that of a simulation."""
        return self.series.entry.is_simulated


def draw_speed(scene: Scene) -> Figure:
    """Accuracy against training speed."""
    return _draw(
        scene, TRAIN_SPEED, "training speed", "training speed [images/s], more is better \N{RIGHTWARDS ARROW}", 1
    )


def draw_memory(scene: Scene) -> Figure:
    """Accuracy against the peak memory of a training step."""
    return _draw(
        scene,
        PEAK_BYTES,
        "peak training memory",
        "\N{LEFTWARDS ARROW} less is better, peak training memory [MiB]",
        2**20,
    )


def pareto_front(points: Sequence[tuple[float, float]], better: Direction) -> list[int]:
    """Indices of the (cost, accuracy) points that no other point beats in both, by rising cost.

    better: whether a higher or a lower cost figure is better; a higher accuracy always is. Of equal points all stay.
    """
    sign = 1 if better == "higher" else -1

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return sign * a[0] >= sign * b[0] and a[1] >= b[1] and a != b

    front = [i for i, point in enumerate(points) if not any(beats(other, point) for other in points)]
    return sorted(front, key=lambda i: points[i])


def _draw(scene: Scene, metric: Metric, title: str, label: str, scale: float) -> Figure:
    points = _points(scene, metric, scale)
    figure = new_figure(7.6, 5.2)
    axes = figure.subplots()
    floor = _frame(axes, points)
    fronts: list[Line2D] = []
    for simulated in (False, True):
        fronts += _front(axes, _contenders(points, simulated), metric.better, simulated)
    bars = [(point.cost, bar) for point in points if (bar := _bar(axes, point, floor))]
    for point in points:
        _mark(axes, point, floor)
    axes.set_xlabel(f"{label} (log scale)" if axes.get_xscale() == "log" else label)
    axes.set_ylabel("top-1 accuracy on the test split [%]")
    keep_possible_ticks(axes.yaxis, 0.0, 100.0)
    axes.set_title(f"{literal(scene.where)}: accuracy against {title}", pad=10)
    tidy_axes(axes)
    _legend(figure, points, [bar for _, bar in bars], floor)
    labels = [Label(p.cost, max(p.accuracy, floor), literal(_name(p, floor)), p.series.look.text_color) for p in points]
    place_labels(axes, labels, fronts, [(cost, end) for cost, bar in bars for end in (bar.low, bar.high)])
    return figure


def _points(scene: Scene, metric: Metric, scale: float) -> list[Point]:
    found = []
    for series in scene.series:
        cost, top1 = series.cost(metric), series.top1
        if cost is not None and top1 is not None:
            is_complete = top1.n == len(scene.seeds)
            is_compared = scene.is_comparable(series) and fairness.is_beside(series.entry, scene.base_of(series))
            found.append(Point(series, cost / scale, top1.mean, top1.half_width(), is_complete, is_compared))
    if not found:
        raise NothingToDrawError(f"no method has both an accuracy and a measured {metric.name}")
    return _of_one_session(found) if metric.is_of_session else found


def _of_one_session(points: Sequence[Point]) -> list[Point]:
    """``points``, of which those that were not measured in the session of most may be compared with none."""
    session = {
        simulated: fairness.common_session(point.series.entry.sessions for point in _contenders(points, simulated))
        for simulated in (False, True)
    }
    return [
        replace(point, is_compared=point.is_compared and session[point.is_simulated] in point.series.entry.sessions)
        for point in points
    ]


def _bar(axes: Axes, point: Point, floor: float) -> Bar | None:
    """Draw the interval of a point that stands in its place."""
    if point.half_width is None or point.accuracy < floor:
        return None
    bar = Bar.of(point.accuracy, point.half_width, axes.get_ylim())
    draw_bar(axes, bar, point.cost, "y", color=point.series.look.color, linewidth=1, alpha=0.5, zorder=2)
    return bar


def _mark(axes: Axes, point: Point, floor: float) -> None:
    look = point.series.look
    axes.scatter(
        [point.cost], [max(point.accuracy, floor)], s=64, marker=look.marker, zorder=4, linewidth=1.6,
        facecolor="white" if point.is_simulated else look.color, edgecolor=look.color,
    )  # fmt: skip


def _contenders(points: Sequence[Point], simulated: bool) -> list[Point]:
    """The points that a front is drawn from."""
    return [point for point in points if point.is_simulated is simulated and point.is_complete and point.is_compared]


def _of_whom(points: Sequence[Point]) -> str:
    """Which of ``points`` a front is drawn from, where it is not all."""
    if not all(point.is_compared for point in points):
        return ", of methods that can be compared"
    return "" if all(point.is_complete for point in points) else ", of methods that finished every seed"


def _front(axes: Axes, points: Sequence[Point], better: Direction, simulated: bool) -> list[Line2D]:
    """Draw the edge of what the methods reach: everything on its worse side is dominated."""
    if len(points) < 2:
        return []
    front = [points[i] for i in pareto_front([(p.cost, p.accuracy) for p in points], better)]
    corners = front_corners([(p.cost, p.accuracy) for p in front], better, axes.get_xlim(), axes.get_ylim()[0])
    color, dash = _FRONT_COLOR[simulated], _FRONT_DASH[simulated]
    return axes.plot(*zip(*corners, strict=True), color=color, linestyle=dash, linewidth=1.1, zorder=1)


def front_corners(
    front: Sequence[tuple[float, float]], better: Direction, limits: tuple[float, float], bottom: float
) -> list[tuple[float, float]]:
    """The front as a staircase from frame to frame; front: (cost, accuracy) by rising cost."""
    if better == "higher":
        path = [(limits[0], front[0][1]), *front, (front[-1][0], bottom)]
        # Between two points the slower one's accuracy ends at its own speed.
        return [corner for a, b in pairwise(path) for corner in (a, (a[0], b[1]))] + [path[-1]]
    path = [(front[0][0], bottom), *front, (limits[1], front[-1][1])]
    return [corner for a, b in pairwise(path) for corner in (a, (b[0], a[1]))] + [path[-1]]


def _frame(axes: Axes, points: Sequence[Point]) -> float:
    """Set the limits and return the lowest accuracy drawn in its place: what is far below stands at the lower edge.

    They come from the points, not from their intervals, which may be far wider with two or three seeds.
    """
    costs = [point.cost for point in points]
    if max(costs) > _LOGARITHMIC_FROM * min(costs) > 0:
        axes.set_xscale("log")
        label_logarithmic(axes.xaxis)
        factor = (max(costs) / min(costs)) ** 0.18
        axes.set_xlim(min(costs) / factor, max(costs) * factor)
    else:
        room = max(0.18 * (max(costs) - min(costs)), 0.05 * max(costs))
        axes.set_xlim(max(min(costs) - room, 0), max(costs) + room)
    near = upper_cluster([point.series for point in points])
    heights = [point.accuracy for point in points if not near or point.series in near]
    room = max(0.16 * (max(heights) - min(heights)), 0.25)
    depth = 3 * room if near else room
    axes.set_ylim(min(heights) - depth, max(heights) + room)
    return min(heights) - depth + 0.6 * room if near else min(heights)


def _legend(figure: Figure, points: Sequence[Point], bars: list[Bar], floor: float) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for simulated, marker, front in (
        (False, "measured", "Pareto front"),
        (True, "sim: cost of a simulation, not the method's own", "Pareto front of simulations"),
    ):
        group = [point for point in points if point.is_simulated is simulated]
        face = "white" if simulated else MUTED
        if group:
            handles.append(
                Line2D([], [], marker="o", color=MUTED, markerfacecolor=face, linestyle="none", label=marker)
            )
        contenders = _contenders(points, simulated)
        if len(contenders) > 1:
            color, dash = _FRONT_COLOR[simulated], _FRONT_DASH[simulated]
            label = f"{front}{_of_whom(group)}"
            handles.append(Line2D([], [], color=color, linestyle=dash, linewidth=1.1, label=label))
    bar, arrow = (
        Line2D([], [], color=MUTED, linestyle="none", marker=marker, markersize=size)
        for marker, size in (("|", 11), (r"$\downarrow$", 8))
    )
    if bars:
        bar.set_label(f"bar: {bars_note(bars)}")
        handles.append(bar)
    if any(point.accuracy < floor for point in points):
        arrow.set_label("accuracy below this scale, as written; drawn at its lower edge")
        handles.append(arrow)
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=2)
    if legend.get_window_extent().width > figure.bbox.width:  # both ends would be cut off
        legend.remove()
        figure.legend(handles=handles, loc="outside lower center")


def _name(point: Point, floor: float) -> str:
    below = f"\n{percent(point.accuracy)} % \N{DOWNWARDS ARROW}" if point.accuracy < floor else ""
    failed = f"\n({point.series.failed})" if point.series.failed else ""
    return f"{point.series.name}{below}{failed}"
