"""What probes observed: per quantity and data path a heat map of layer and epoch, methods side by side; and curves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from qbench.cell import Status
from qbench.probes import find_quantity
from qbench.probes.base import DATA_PATHS, Quantity, data_path
from qbench.report.plots.names import columns, room_for
from qbench.report.plots.scene import NothingToDrawError, Scene, Series
from qbench.report.plots.style import (
    INK,
    MUTED,
    epoch_ticks,
    keep_possible_ticks,
    label_epochs,
    literal,
    new_figure,
    tidy_axes,
    title_width,
)
from qbench.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import Formatter
    from numpy.typing import NDArray

    from qbench.cell import Record

# Inches of a heat map: a layer's row, an epoch's column, and the least and most of all columns.
_ROW_INCHES = 0.16
_COLUMN_INCHES = 0.13
_WIDTHS = (1.15, 3.2)
_LETTER_INCHES = 0.066
_LINE_INCHES = 0.14
_PATH_INCHES = 0.22
_GAP_INCHES = 0.09
_TITLE_INCHES = 0.62
# Of the colour bar with its numbers, and of a whole picture.
_BAR_INCHES = 1.05
_LEAST_WIDTH = 6.4

# The first part of the name of a layer at the network's input (0) or output (2).
_ENDS = {"stem": 0, "conv1": 0, "bn1": 0, "classifier": 2, "fc": 2}

_UNDEFINED = "#e4e4e4"
_HUGE = 1e300  # stands for infinity where quartiles are interpolated
_INFINITE = {-math.inf: "#b5651d", math.inf: "#7fb2e5"}


class Table(NamedTuple):
    """What one figure shows. axis: the quantity's name and unit, for an axis. values: method, data path, layer, path,
    epoch, value (mean over the finished seeds, or the diverged ones of a method that never finished)."""

    probe: str
    quantity: Quantity
    axis: str
    values: pd.DataFrame

    @property
    def name(self) -> str:
        """``cosine-angle``; a quantity called like its probe is not said twice."""
        return self.probe if self.quantity.name == self.probe else f"{self.probe}-{self.quantity.name}"


def draw(scene: Scene) -> Iterator[tuple[str, Figure]]:
    """The name and the figure of each picture. Raises NothingToDrawError, at once, where no probe was recorded."""
    frame = observations(scene)
    if frame.empty:
        raise NothingToDrawError("no probe was recorded; ask for some with 'probes:' in the suite, or --probe")
    return _pictures(scene, frame)


def observations(scene: Scene) -> pd.DataFrame:
    """The values in long form: probe, quantity, method, seed, data_path, layer, path, epoch, value."""
    import pandas as pd

    fields = ("probe", "quantity", "method", "seed", "data_path", "layer", "path", "epoch", "value")
    rows = [
        (s.probe, s.quantity, series.name, record.cell.seed, data_path(s.path), s.layer, s.path, epoch, value)
        for series in scene.series
        for record in _observed(series)
        for s in record.outcome.probes
        for epoch, value in enumerate(s.values, start=1)
        if value is not None
    ]
    return pd.DataFrame(rows, columns=list(fields))


def _observed(series: Series) -> list[Record]:
    """The seeds that finished, so that every epoch's mean is of the same runs; where none did, those that diverged."""
    results = [r for r in series.entry.records if r.outcome.probes and r.outcome.status.is_result]
    return [record for record in results if record.outcome.status is Status.OK] or results


def _pictures(scene: Scene, frame: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    place = ["method", "data_path", "layer", "path", "epoch"]
    options = _options(scene)
    for (probe, quantity), values in frame.groupby(["probe", "quantity"], sort=False):
        chosen = options.get(str(probe), {})
        found = find_quantity(str(probe), str(quantity), chosen)
        if not found.drawn:
            continue
        means = values.groupby(place, sort=False)["value"].mean().reset_index()
        table = Table(str(probe), found, _axis_label(found, chosen), means)
        for letter, word in DATA_PATHS.items():
            part = means[means["data_path"] == letter]
            if not part.empty:
                yield f"probe-{table.name}-{word}", _heat_map(scene, table._replace(values=part), letter)
        yield f"probe-{table.name}-curves", _curves(scene, table)


def _options(scene: Scene) -> dict[str, dict[str, Any]]:
    """The options of each probe, the same in all cells of a suite."""
    cells = (record.cell for series in scene.series for record in series.entry.records)
    return {probe.name: probe.options for cell in cells for probe in cell.probes}


# --- heat maps


def _heat_map(scene: Scene, table: Table, letter: str) -> Figure:
    """A panel per method (column) and tensor of the data path (row); in each, layers and epochs."""
    values = table.values
    methods = [series.name for series in scene.series if (values["method"] == series.name).any()]
    layers = {str(path): _network_order(group["layer"]) for path, group in values.groupby("path", sort=False)}
    epochs = range(1, int(values["epoch"].max()) + 1)
    place = Place.of(methods, layers, epochs, _least_width(scene, table))
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
    bar.formatter = _plain_numbers()
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.set_label(literal(table.axis), fontsize=8)
    bar.outline.set_visible(False)  # type: ignore[operator]


def _plain_numbers() -> Formatter:
    """Numbers in full: 0.99987 and 0.0003, no offset or power of ten that stands elsewhere."""
    from matplotlib.ticker import ScalarFormatter

    formatter = ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    return formatter


def _axis_label(quantity: Quantity, options: Mapping[str, object]) -> str:
    """``sign since k = 5 [share]``: a word that names an option of the probe is written with its value."""
    words = quantity.name.split("_")
    name = " ".join(f"{word} = {options[word]}" if word in options else word for word in words)
    return f"{name} [{quantity.unit}]" if quantity.unit else name


def _title(figure: Figure, scene: Scene, table: Table, what: str, blank: bool) -> None:
    values = table.values["value"]
    parts = [what, _seeds(scene)]
    if blank:
        parts.append("grey: no value")
    if (values == math.inf).any():
        parts.append("light blue: infinite")
    if (values == -math.inf).any():
        parts.append("brown: minus infinity")
    _head(figure, scene, table, "; ".join(parts))


def _head(figure: Figure, scene: Scene, table: Table, note: str) -> None:
    """Title and note at fixed distances from the upper edge."""
    down = figure.get_figheight()
    look = {"fontsize": 11, "fontweight": "bold", "color": INK}
    figure.suptitle(literal(_titled(scene, table)), x=0.01, y=1 - 0.08 / down, ha="left", va="top", **look)
    figure.text(0.01, 1 - 0.31 / down, literal(note), fontsize=8, color=MUTED, va="top")


def _titled(scene: Scene, table: Table) -> str:
    return f"{scene.where}: {table.quantity.title}"


def _least_width(scene: Scene, table: Table) -> float:
    """Inches in which the title has room."""
    return max(_LEAST_WIDTH, title_width(_titled(scene, table)))


def _seeds(scene: Scene) -> str:
    counts = {len(_observed(series)) for series in scene.series} - {0}
    if counts == {1}:
        return "one seed"
    return f"mean over {max(counts)} seeds" if len(counts) == 1 else f"mean over up to {max(counts)} seeds"


# --- curves


def _curves(scene: Scene, table: Table) -> Figure:
    """A panel per tensor, as in the heat maps: per method the median over its layers, and their quartiles as a band.

    Tensors of one data path are kept apart: their formats may differ by many bits, and a median of all is none's.
    """
    tensors = list(dict.fromkeys(zip(table.values["data_path"], table.values["path"], strict=True)))
    tensors.sort(key=lambda tensor: list(DATA_PATHS).index(tensor[0]))
    across = min(len(tensors), 3)
    rows = math.ceil(len(tensors) / across)
    width = max(3.3 * across + 2.0, _least_width(scene, table)) + room_for(series.name for series in scene.series)
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
    _head(figure, scene, table, "; ".join(["median over layers, band: quartiles", _seeds(scene), *_left_out(table)]))
    return figure


def _left_out(table: Table) -> Iterator[str]:
    values = table.values["value"]
    if values.abs().eq(math.inf).any():
        yield "infinite ones, as where nothing is lost, are not drawn"
    if values.isna().any():
        yield "layers without a value left out"


def quartiles(part: pd.DataFrame) -> pd.DataFrame:
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
    spread = quartiles(part).dropna(subset=[0.5])
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
    axes.yaxis.set_major_formatter(_plain_numbers())
    most = 1.0 if table.quantity.unit == "share" else table.quantity.high
    keep_possible_ticks(axes.yaxis, table.quantity.low, most)
    tidy_axes(axes)
