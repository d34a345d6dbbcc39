"""Labels beside points that do not cover each other: greedy placement over a few candidate positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

# Directions in the order of preference (right, left, above, below, diagonals), tried near the point first.
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_DISTANCES_POINTS = (8, 14, 22, 32, 44, 58)
_MARKER_POINTS = 6.0
# From this distance on a thin line leads from the label to its point.
_LEADER_FROM_POINTS = 14


def place_labels(axes: Axes, points: Sequence[tuple[float, float, str]], colors: Sequence[str]) -> list[Annotation]:
    """Write each point's text beside it, clear of the other texts and markers as far as there is room.

    points: (x, y, text) in data coordinates. The axes' limits must be final.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]
    taken = [_around_marker(axes, x, y) for x, y, _ in points]
    placed = []
    for (x, y, text), color in zip(points, colors, strict=True):
        annotation = _best(axes, (x, y), text, color, taken)
        taken.append(annotation.get_window_extent())
        placed.append(annotation)
    return placed


def _best(axes: Axes, point: tuple[float, float], text: str, color: str, taken: Sequence[Bbox]) -> Annotation:
    """The first candidate that covers nothing, else the one that covers least."""
    best: tuple[float, Annotation] | None = None
    for offset in _offsets():
        candidate = _annotate(axes, point, text, color, offset)
        covered = _covered(axes, candidate.get_window_extent(), taken)
        if best is not None and covered >= best[0]:
            candidate.remove()
            continue
        if best is not None:
            best[1].remove()
        best = (covered, candidate)
        if covered == 0:
            break
    assert best is not None
    return best[1]


def _offsets() -> Iterator[tuple[float, float]]:
    for distance in _DISTANCES_POINTS:
        for x, y in _DIRECTIONS:
            length = 0.75 if x and y else 1.0
            yield x * distance * length, y * distance * length


def _annotate(axes: Axes, point: tuple[float, float], text: str, color: str, offset: tuple[float, float]) -> Annotation:
    x, y = offset
    is_far = max(abs(x), abs(y)) >= _LEADER_FROM_POINTS
    return axes.annotate(
        text, point, xytext=offset, textcoords="offset points", fontsize=8.5, color=color, zorder=5,
        ha="left" if x > 0 else "right" if x < 0 else "center", va="bottom" if y > 0 else "top" if y < 0 else "center",
        arrowprops={"arrowstyle": "-", "color": "#b0b0b0", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4} if is_far else None,
    )  # fmt: skip


def _around_marker(axes: Axes, x: float, y: float) -> Bbox:
    from matplotlib.transforms import Bbox

    center_x, center_y = axes.transData.transform((x, y))
    reach = _MARKER_POINTS * axes.figure.dpi / 72
    return Bbox.from_extents(center_x - reach, center_y - reach, center_x + reach, center_y + reach)


def _covered(axes: Axes, box: Bbox, taken: Sequence[Bbox]) -> float:
    """Area in square pixels that ``box`` shares with others, and tenfold what lies outside the axes."""
    frame = axes.get_window_extent()
    outside = box.width * box.height - _shared(box, frame)
    return sum(_shared(box, other) for other in taken) + 10 * outside


def _shared(a: Bbox, b: Bbox) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width * height if width > 0 and height > 0 else 0.0
