"""One look for all plots: colours that colour-blind readers can tell apart, fixed per method family."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from qbench.report.plots.fonts import families, no_glyph_warnings
from qbench.report.plots.names import columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

INK = "#222222"
MUTED = "#6b6b6b"
ALARM = "#a3262a"

# Okabe and Ito (2008), as far as it goes; the yellow is left out, it cannot be read on white.
_FAMILIES: Mapping[str, str] = {
    "fp32": "#222222",
    "bf16": "#808080",
    "banner8": "#0072b2",
    "wageubn": "#d55e00",
    "graham": "#009e73",
    "binaryconnect": "#cc79a7",
    "sr": "#e69f00",
    "r": "#56b4e9",
    "fixed_point": "#882255",
    "wage": "#332288",
}
# Paul Tol's muted scheme, as for the last two, for methods of other origin.
_OTHERS = ("#999933", "#44aa99", "#aa4499", "#117733", "#661100", "#6699cc")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "h", "p", "*")
_DASHES = ("-", "--", ":", "-.")
# Of the small text above a frame.
_NOTE_LETTERS = 92
_NOTE_LINE_POINTS = 10
_TITLE_LETTER_INCHES = 0.091
_EPOCH_STEPS = tuple(factor * 10**power for power in range(9) for factor in (1, 2, 5))


@dataclass(frozen=True)
class Look:
    """Colour, marker and line style of one method."""

    color: str
    marker: str
    dash: str

    @property
    def text_color(self) -> str:
        """The colour, dark enough to be read as text on white."""
        return _mixed(self.color, 0, 0.4)


def looks(methods: Sequence[tuple[str, str]]) -> dict[str, Look]:
    """The look of each label. methods: (family, label) pairs; the family's colour is fixed, its members differ in
    lightness and line style. Families that share a colour, where there are more than colours, begin with other lines.
    """
    families = list(dict.fromkeys(family for family, _ in methods))
    colors = _family_colors(families)
    shared = [colors[family] for family in families]
    found: dict[str, Look] = {}
    for index, family in enumerate(families):
        labels = list(dict.fromkeys(label for other, label in methods if other == family))
        for member, label in enumerate(labels):
            color = _mixed(colors[family], 255, 0.55 * member / max(len(labels) - 1, 3))
            dash = _DASHES[(member + shared[:index].count(colors[family])) % len(_DASHES)]
            found[label] = Look(color, MARKERS[index % len(MARKERS)], dash)
    return found


@contextmanager
def plot_style() -> Iterator[None]:
    """The plots' settings, for this block only: nothing of the caller's matplotlib is changed."""
    import matplotlib as mpl
    import seaborn as sns

    settings: dict[Any, Any] = {
        "font.family": list(families()),
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9.5,
        "axes.labelcolor": INK,
        "axes.edgecolor": "#b0b0b0",
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "xtick.color": INK,
        "ytick.color": INK,
        "grid.color": "#e6e6e6",
        "grid.linewidth": 0.7,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "savefig.dpi": 160,
        "svg.hashsalt": "qbench",
        "svg.fonttype": "path",
    }
    with (
        no_glyph_warnings(),
        mpl.rc_context(),
        sns.axes_style("whitegrid"),
        sns.plotting_context("paper"),
        mpl.rc_context(settings),
    ):
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of its own, width by height in inches, drawn by Agg: no pyplot, no window, nothing to close."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy_axes(axes: Axes) -> None:
    """Remove the frame's upper and right side."""
    import seaborn as sns

    sns.despine(ax=axes)


def label_logarithmic(axis: Axis) -> None:
    """Ticks at 1, 2 and 5, written as plain numbers, on an axis whose scale is logarithmic."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def keep_possible_ticks(axis: Axis, least: float | None, most: float | None) -> None:
    """No tick on a linear axis below ``least`` or above ``most`` (None: no end), which its quantity cannot have: the
    frame goes a little beyond."""
    from matplotlib.ticker import AutoLocator

    class Possible(AutoLocator):
        """Chosen when drawn, as the room for them is known then."""

        def tick_values(self, vmin: float, vmax: float) -> list[float]:
            slack = 1e-9 * abs(vmax - vmin)  # a tick at 1 may be 1.0000000000000002
            low = -math.inf if least is None else least - slack
            high = math.inf if most is None else most + slack
            return [float(tick) for tick in super().tick_values(vmin, vmax) if low <= tick <= high]

    axis.set_major_locator(Possible())


def label_epochs(axes: Axes, first: int, last: int) -> None:
    """Name epochs on the axis."""
    axes.set_xticks(epoch_ticks(first, last))
    if first == last:
        axes.set_xlim(first - 0.5, last + 0.5)


def epoch_ticks(first: int, last: int) -> list[int]:
    """The first and the last epoch, and round ones between them that leave both room."""
    step = next(step for step in _EPOCH_STEPS if last - first <= 8 * step)
    between = [tick for tick in range(0, last, step) if first + step / 2 < tick < last - step / 2]
    return sorted({first, *between, last})


def head(axes: Axes, title: str, note: str) -> None:
    """A title and, between it and the frame, small text in as many lines as it needs."""
    lines = wrap(note, _NOTE_LETTERS, break_long_words=False, break_on_hyphens=False)
    axes.set_title(title, pad=8 + _NOTE_LINE_POINTS * len(lines))
    # Wider than its axes where there are two panels: it must not push them apart.
    above(axes, 0, "\n".join(lines)).set_in_layout(False)


def above(axes: Axes, x: float, text: str) -> Annotation:
    """Small text above the frame; x: where it begins, in widths of the frame."""
    look: dict[str, Any] = {"fontsize": 8, "color": MUTED, "va": "bottom", "linespacing": 1.1}
    return axes.annotate(text, (x, 1), (0, 4), "axes fraction", "offset points", **look)


def title_width(title: str) -> float:
    """Inches that a picture needs for its title."""
    return _TITLE_LETTER_INCHES * columns(title)


def literal(text: str) -> str:
    """``text`` for a plot: a dollar sign is a dollar sign, not mathematics."""
    return text.replace("$", r"\$")


def _family_colors(families: Sequence[str]) -> dict[str, str]:
    others = [family for family in families if family not in _FAMILIES]
    extra = {family: _OTHERS[index % len(_OTHERS)] for index, family in enumerate(sorted(others))}
    return {**_FAMILIES, **extra}


def _mixed(color: str, other: int, amount: float) -> str:
    """``color`` mixed with ``amount`` of a grey (0 black, 255 white)."""
    channels = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(channel + (other - channel) * amount):02x}" for channel in channels)
