"""The bar of a mean's interval: it ends where an accuracy must, and an arrowhead says where the frame cuts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOWEST, _HIGHEST = 0.0, 100.0


@dataclass(frozen=True)
class Bar:
    """What is drawn of an interval, in percent. cut_low, cut_high: whether it goes on outside the frame there.
    is_bounded: whether it ends early because no accuracy is below 0 or above 100 %."""

    low: float
    high: float
    cut_low: bool
    cut_high: bool
    is_bounded: bool

    @classmethod
    def of(cls, mean: float, half_width: float, frame: tuple[float, float]) -> Bar:
        """The interval mean - half_width to mean + half_width within ``frame``."""
        low, high = mean - half_width, mean + half_width
        bottom, top = max(frame[0], _LOWEST), min(frame[1], _HIGHEST)
        return cls(
            low=max(low, bottom),
            high=min(high, top),
            cut_low=low < bottom and bottom > _LOWEST,
            cut_high=high > top and top < _HIGHEST,
            is_bounded=(low < bottom == _LOWEST) or (high > top == _HIGHEST),
        )

    @property
    def is_cut(self) -> bool:
        """Whether it goes on outside the frame."""
        return self.cut_low or self.cut_high


def draw_bar(axes: Axes, bar: Bar, place: float, along: Literal["x", "y"], **look: Any) -> None:
    """Draw ``bar`` along an axis at ``place`` on the other one, with arrowheads inside the frame where it is cut."""
    from matplotlib.markers import CARETDOWN, CARETLEFT, CARETRIGHT, CARETUP

    backward, forward, end = (CARETLEFT, CARETRIGHT, "|") if along == "x" else (CARETDOWN, CARETUP, "_")
    drawn: list[tuple[list[float], int | str]] = [
        ([bar.low, bar.high], ""),
        ([bar.low], backward if bar.cut_low else end),
        ([bar.high], forward if bar.cut_high else end),
    ]
    for values, marker in drawn:
        places = [place] * len(values)
        axes.plot(*((values, places) if along == "x" else (places, values)), marker=marker, markersize=6, **look)


def bars_note(bars: list[Bar]) -> str:
    """What a caption says about ``bars``: ``95 % t-interval, arrowhead: goes on outside``."""
    parts = ["95 % t-interval"]
    if any(bar.is_bounded for bar in bars):
        parts.append("cut at 0 and 100 %")
    if any(bar.is_cut for bar in bars):
        parts.append("arrowhead: goes on outside")
    return ", ".join(parts)
