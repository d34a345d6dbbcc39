"""Heat maps of what probes observed: per quantity and data path, layers and epochs, methods side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from qbench.probes.base import DATA_PATHS, Quantity
from qbench.report.plots.names import columns
from qbench.report.plots.observed import Table, least_width, plain_numbers, seeds_note, write_head
from qbench.report.plots.style import INK, epoch_ticks, literal, new_figure
from qbench.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from qbench.report.plots.scene import Scene

# Inches: a layer's row, an epoch's column, and the least and most of all columns.
_ROW_INCHES = 0.16
_COLUMN_INCHES = 0.13
_WIDTHS = (1.15, 3.2)
_LETTER_INCHES = 0.066
_LINE_INCHES = 0.14
_PATH_INCHES = 0.22
_GAP_INCHES = 0.09
_TITLE_INCHES = 0.62
# Of the colour bar with its numbers.
_BAR_INCHES = 1.05

# The first part of the name of a layer at the network's input (0) or output (2).
_ENDS = {"stem": 0, "conv1": 0, "bn1": 0, "classifier": 2, "fc": 2}

_UNDEFINED = "#e4e4e4"
_INFINITE = {-math.inf: "#b5651d", math.inf: "#7fb2e5"}


def draw_map(scene: Scene, table: Table, letter: str) -> Figure:
    """A panel per method (column) and tensor of the data path (row); in each, layers and epochs."""
    values = table.values
    methods = [series.name for series in scene.series if (values["method"] == series.name).any()]
    layers = {str(path): _network_order(group["layer"]) for path, group in values.groupby("path", sort=False)}
    epochs = range(1, int(values["epoch"].max()) + 1)
    place = Place.of(methods, layers, epochs, least_width(scene, table))
    figure = place.figure()
    colors, blank = _normalization(table), False
    for path, names in layers.items():
        for method in methods:
            part = values[(values["path"] == path) & (values["method"] == method)]
            if part.empty:
                continue
            axes = place.panel(figure, method, path)
            grid = _grid(part, names, epochs)
            blank = blank or any(math.isnan(value) for value in grid.flat)
            _panel(axes, grid, colors, table.quantity)
        _label_row(figure, place, path, names, only=len(layers) == 1)
    _label_columns(figure, place, methods, epochs)
    _color_bar(figure, place, table, colors)
    _title(figure, scene, table, f"{letter}: {DATA_PATHS[letter]}", blank)
    return figure


class Place(NamedTuple):
    """Where everything stands, in inches from the upper left corner: laid out by hand, because settling so many axes
    automatically takes longer than drawing them.

    lefts: of each method's column. tops: of each path's row. rows: layers of each path. least: width of the picture.
    """

    lefts: dict[str, float]
    tops: dict[str, float]
    rows: dict[str, int]
    column: float
    least: float

    @classmethod
    def of(cls, methods: list[str], layers: Mapping[str, list[str]], epochs: range, least: float) -> Place:
        label = _LETTER_INCHES * max(len(clean(name)) for group in layers.values() for name in group) + 0.15
        # Few panels share the width that the title needs anyway.
        share = (least - _BAR_INCHES - label + _GAP_INCHES) / len(methods) - _GAP_INCHES
        column = max(min(max(len(epochs) * _COLUMN_INCHES, _WIDTHS[0]), _WIDTHS[1]), share)
        lines = max(_wrapped(method).count("\n") + 1 for method in methods)
        lefts = {method: label + i * (column + _GAP_INCHES) for i, method in enumerate(methods)}
        tops, top = {}, _TITLE_INCHES + _LINE_INCHES * lines
        for path, group in layers.items():
            top += _PATH_INCHES if len(layers) > 1 else 0.0
            tops[path] = top
            top += _ROW_INCHES * len(group) + _GAP_INCHES
        return cls(lefts, tops, {path: len(group) for path, group in layers.items()}, column, least)

    @property
    def right(self) -> float:
        return max(self.lefts.values()) + self.column

    @property
    def top(self) -> float:
        return min(self.tops.values())

    @property
    def bottom(self) -> float:
        return max(top + _ROW_INCHES * self.rows[path] for path, top in self.tops.items())

    def figure(self) -> Figure:
        """An empty one of the right size."""
        figure = new_figure(max(self.right + _BAR_INCHES, self.least), max(self.bottom + 0.5, self.top + 1.6))
        figure.set_layout_engine("none")
        return figure

    def axes(self, figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at a place in inches."""
        across, down = figure.get_size_inches()
        return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))

    def panel(self, figure: Figure, method: str, path: str) -> Axes:
        """The axes of a method and a path."""
        return self.axes(figure, self.lefts[method], self.tops[path], self.column, _ROW_INCHES * self.rows[path])


def _network_order(layers: pd.Series[str]) -> list[str]:
    """The layers from input to output: modules are named so that this is the natural order, but for the ends."""
    from qbench.report.entries import natural

    return sorted(dict.fromkeys(layers), key=lambda name: (_ENDS.get(name.partition(".")[0], 1), natural(name)))


def _grid(part: pd.DataFrame, layers: list[str], epochs: range) -> NDArray[np.float64]:
    """Values [layer, epoch]; NaN where there is none."""
    wide = part.pivot(index="layer", columns="epoch", values="value")
    return wide.reindex(index=layers, columns=list(epochs)).to_numpy(dtype=float)


def _panel(axes: Axes, grid: NDArray[np.float64], colors: Normalize, quantity: Quantity) -> None:
    """Colours of the values; an infinite one has a colour of its own, a missing one the ground's."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    finite = np.where(np.isfinite(grid), grid, 0.0)
    image = colormaps[_color_map(quantity)](colors(finite))[..., :3]
    for value, color in _INFINITE.items():
        image[grid == value] = to_rgb(color)
    image[np.isnan(grid)] = to_rgb(_UNDEFINED)
    axes.imshow(image, aspect="auto", interpolation="nearest", extent=(0, grid.shape[1], len(grid), 0))
    axes.set_axis_off()


def _color_map(quantity: Quantity) -> str:
    return "viridis" if quantity.centre is None else "vlag"


def _normalization(table: Table) -> Normalize:
    import numpy as np
    from matplotlib.colors import Normalize

    quantity = table.quantity
    values = table.values["value"].to_numpy(dtype=float)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if quantity.centre is not None:
        reach = max(high - quantity.centre, quantity.centre - low) or 1.0
        return Normalize(quantity.centre - reach, quantity.centre + reach)
    low = low if quantity.low is None else quantity.low
    high = high if quantity.high is None else quantity.high
    return Normalize(low, high if high > low else low + 1)


def _label_row(figure: Figure, place: Place, path: str, layers: list[str], *, only: bool) -> None:
    """The layers' names; and the path's, where there are several."""
    left = min(place.lefts.values())
    for index, name in enumerate(layers):
        top = place.tops[path] + _ROW_INCHES * (index + 0.5)
        _write(figure, left - 0.06, top, clean(name), ha="right", va="center", fontsize=7)
    if not only:
        _write(figure, left, place.tops[path] - 0.06, path, ha="left", va="bottom", fontsize=8, fontweight="bold")


def _label_columns(figure: Figure, place: Place, methods: list[str], epochs: range) -> None:
    """The methods above, the epochs below."""
    above = place.top - 0.08 - (_PATH_INCHES if len(place.tops) > 1 else 0.0)
    cell = place.column / len(epochs)
    for method in methods:
        left = place.lefts[method]
        _write(figure, left + place.column / 2, above, _wrapped(method), ha="center", va="baseline", fontsize=8)
        for epoch in epoch_ticks(epochs[0], epochs[-1]):
            middle = left + cell * (epoch - 0.5)
            _write(figure, middle, place.bottom + 0.06, str(epoch), ha="center", va="top", fontsize=7)
        _write(figure, left + place.column / 2, place.bottom + 0.21, "epoch", ha="center", va="top", fontsize=8)


def _write(figure: Figure, left: float, top: float, text: str, **look: Any) -> None:
    """``text`` at a place in inches."""
    across, down = figure.get_size_inches()
    figure.text(left / across, 1 - top / down, literal(text), color=INK, linespacing=1.1, **look)


def _wrapped(method: str) -> str:
    import textwrap

    width = 16 if columns(method) == len(method) else 8
    return "\n".join(textwrap.wrap(method, width, break_long_words=True))


def _color_bar(figure: Figure, place: Place, table: Table, colors: Normalize) -> None:
    from matplotlib.cm import ScalarMappable

    height = min(max(place.bottom - place.top, 1.2), 4.0)
    axes = place.axes(figure, place.right + 0.15, place.top, 0.13, height)
    bar = figure.colorbar(ScalarMappable(colors, _color_map(table.quantity)), cax=axes)
    bar.formatter = plain_numbers()
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.set_label(literal(table.axis), fontsize=8)
    bar.outline.set_visible(False)  # type: ignore[operator]


def _title(figure: Figure, scene: Scene, table: Table, what: str, blank: bool) -> None:
    values = table.values["value"]
    parts = [what, seeds_note(scene)]
    if blank:
        parts.append("grey: no value")
    if (values == math.inf).any():
        parts.append("light blue: infinite")
    if (values == -math.inf).any():
        parts.append("brown: minus infinity")
    write_head(figure, scene, table, "; ".join(parts))
