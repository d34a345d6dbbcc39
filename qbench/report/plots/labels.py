"""Labels beside points that do not cover each other: greedy placement over a few candidate positions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

# Directions in the order of preference (right, left, above, below, diagonals), tried near the point first.
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_DISTANCES_POINTS = (8, 14, 22, 32, 44, 58)
_MARKER_POINTS = 6.0
_END_POINTS = 4.0
# From this distance on a thin line leads from the label to its point.
_LEADER_FROM_POINTS = 12


@dataclass(frozen=True)
class Label:
    """A text for the point (x, y), in data coordinates."""

    x: float
    y: float
    text: str
    color: str


def place_labels(
    axes: Axes, labels: Sequence[Label], lines: Sequence[Line2D] = (), ends: Sequence[tuple[float, float]] = ()
) -> list[Annotation]:
    """Write each text beside its point, clear of other texts, markers, the steps of ``lines`` and the ``ends`` of bars
    (in data coordinates) where there is room.

    The axes' limits must be final.
    """
    # The layout is settled by drawing once; afterwards texts can be measured in pixels.
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    taken = [_around(axes, label.x, label.y, _MARKER_POINTS) for label in labels]
    taken += [_around(axes, x, y, _END_POINTS) for x, y in ends]
    taken += [box for line in lines for box in _along(line)]
    placed = []
    for label in labels:
        annotation = _best(axes, label, taken)
        annotation.set_in_layout(False)
        taken.append(_text_box(annotation))
        placed.append(annotation)
    return placed


def _best(axes: Axes, label: Label, taken: Sequence[Bbox]) -> Annotation:
    """The first candidate that covers nothing, else the one that covers least."""
    best: tuple[float, Annotation] | None = None
    for offset in _offsets():
        candidate = _annotate(axes, label, offset)
        covered = _covered(axes, _text_box(candidate), taken)
        if best is not None and covered >= best[0]:
            candidate.remove()
            continue
        if best is not None:
            best[1].remove()
        best = (covered, candidate)
        if covered == 0:
            break
    assert best is not None
    _pull_inside(axes, best[1])
    return best[1]


def _pull_inside(axes: Axes, annotation: Annotation) -> None:
    """Move a text sideways by what stands out of the frame; of one wider than the frame, the beginning stays inside."""
    frame, box = axes.get_window_extent(), _text_box(annotation)
    pixels = max(min(frame.x1 - box.x1, 0.0), frame.x0 - box.x0)
    x, y = annotation.xyann
    annotation.xyann = (x + pixels * 72 / axes.figure.dpi, y)


def _offsets() -> Iterator[tuple[float, float]]:
    for distance in _DISTANCES_POINTS:
        for x, y in _DIRECTIONS:
            length = 0.75 if x and y else 1.0
            yield x * distance * length, y * distance * length


def _annotate(axes: Axes, label: Label, offset: tuple[float, float]) -> Annotation:
    from matplotlib.patheffects import withStroke

    x, y = offset
    leader = {"arrowstyle": "-", "color": "#a0a0a0", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
    return axes.annotate(
        label.text, (label.x, label.y), xytext=offset, textcoords="offset points", fontsize=8.5, color=label.color,
        ha="left" if x > 0 else "right" if x < 0 else "center", va="bottom" if y > 0 else "top" if y < 0 else "center",
        arrowprops=leader if max(abs(x), abs(y)) >= _LEADER_FROM_POINTS else None, zorder=5, linespacing=1.1,
        path_effects=[withStroke(linewidth=2.2, foreground="white")],
    )  # fmt: skip


def _text_box(annotation: Annotation) -> Bbox:
    """The text alone: an annotation's own extent takes in its leader."""
    from matplotlib.text import Text

    annotation.update_positions(annotation.figure.canvas.get_renderer())  # type: ignore[union-attr,attr-defined]
    return Text.get_window_extent(annotation)


def _around(axes: Axes, x: float, y: float, points: float) -> Bbox:
    """A square around a place in data coordinates; points: from its middle to its sides."""
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform((x, y))
    reach = points * axes.figure.dpi / 72
    return Bbox.from_extents(x - reach, y - reach, x + reach, y + reach)


def _along(line: Line2D) -> Iterator[Bbox]:
    """Thin boxes along the straight pieces of a line whose pieces are horizontal or vertical."""
    from matplotlib.transforms import Bbox

    corners = line.get_transform().transform(line.get_xydata())
    for (x0, y0), (x1, y1) in pairwise(corners):
        yield Bbox.from_extents(min(x0, x1) - 1, min(y0, y1) - 1, max(x0, x1) + 1, max(y0, y1) + 1)


def _covered(axes: Axes, box: Bbox, taken: Sequence[Bbox]) -> float:
    """Area in square pixels that ``box`` shares with others, and tenfold what lies outside the axes."""
    frame = axes.get_window_extent()
    outside = box.width * box.height - _shared(box, frame)
    return sum(_shared(box, other) for other in taken) + 10 * outside


def _shared(a: Bbox, b: Bbox) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width * height if width > 0 and height > 0 else 0.0
