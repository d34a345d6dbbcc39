"""What probes observed: per quantity and data path a heat map of layer and epoch, methods side by side; and curves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from qbench.probes import find_quantity
from qbench.probes.base import DATA_PATHS, Quantity, data_path
from qbench.report.plots.scene import NothingToDrawError, Scene, Series
from qbench.report.plots.style import INK, MUTED, literal, new_figure, tidy_axes
from qbench.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# Inches of a heat map: a layer's row, an epoch's column, and the least and most of all columns.
_ROW_INCHES = 0.16
_COLUMN_INCHES = 0.13
_WIDTHS = (1.15, 3.2)
_LETTER_INCHES = 0.075
_TITLE_INCHES = 0.75

_UNDEFINED = "#e4e4e4"
_INFINITE = {False: "#b5651d", True: "#7fb2e5"}
"""Colour of minus infinity and infinity."""


class Table(NamedTuple):
    """What one figure shows. values: method, data path, layer, path, epoch, value (mean over the finished seeds)."""

    probe: str
    quantity: Quantity
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
    """All recorded values in long form: probe, quantity, method, seed, data_path, layer, path, epoch, value."""
    import pandas as pd

    columns = ("probe", "quantity", "method", "seed", "data_path", "layer", "path", "epoch", "value")
    rows = [
        (s.probe, s.quantity, series.name, record.cell.seed, data_path(s.path), s.layer, s.path, epoch, value)
        for series in scene.series
        for record in series.entry.records
        for s in record.outcome.probes
        for epoch, value in enumerate(s.values, start=1)
        if value is not None
    ]
    return pd.DataFrame(rows, columns=list(columns))


def _pictures(scene: Scene, frame: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    place = ["method", "data_path", "layer", "path", "epoch"]
    for (probe, quantity), values in frame.groupby(["probe", "quantity"], sort=False):
        means = values.groupby(place, sort=False)["value"].mean().reset_index()
        table = Table(str(probe), find_quantity(str(probe), str(quantity)), means)
        for letter, word in DATA_PATHS.items():
            part = means[means["data_path"] == letter]
            if not part.empty:
                yield f"probe-{table.name}-{word}", _heat_map(scene, table._replace(values=part), letter)
        yield f"probe-{table.name}-curves", _curves(scene, table)


# --- heat maps


def _heat_map(scene: Scene, table: Table, letter: str) -> Figure:
    """A panel per method (column) and tensor of the data path (row); in each, layers and epochs."""
    values = table.values
    methods = [series.name for series in scene.series if (values["method"] == series.name).any()]
    paths = list(dict.fromkeys(values["path"]))
    layers = {path: _network_order(values[values["path"] == path]["layer"]) for path in paths}
    epochs = range(1, int(values["epoch"].max()) + 1)
    width = min(max(len(epochs) * _COLUMN_INCHES, _WIDTHS[0]), _WIDTHS[1])
    label = _LETTER_INCHES * max(len(layer) for group in layers.values() for layer in group)
    rows = [len(group) for group in layers.values()]
    height = _TITLE_INCHES + sum(max(_ROW_INCHES * n, 0.5) for n in rows) + 0.55 * len(rows)
    figure = new_figure(max(label + 1.2 + (width + 0.12) * len(methods), 5.6), height)
    panels = figure.subplots(
        len(paths), len(methods), squeeze=False, sharex=True, gridspec_kw={"height_ratios": [max(n, 3) for n in rows]}
    )
    colors = _normalization(table)
    for row, path in zip(panels, paths, strict=True):
        for axes, method in zip(row, methods, strict=True):
            part = values[(values["path"] == path) & (values["method"] == method)]
            _panel(axes, _grid(part, layers[path], epochs), colors, table.quantity)
        row[0].set_yticks([i + 0.5 for i in range(len(layers[path]))], [literal(clean(name)) for name in layers[path]])
        row[0].set_ylabel(path if len(paths) > 1 or path != DATA_PATHS[letter] else "")
    _label_columns(panels, methods, epochs)
    _color_bar(figure, panels, table, colors)
    _title(figure, scene, table, f"{letter}: {DATA_PATHS[letter]}{'' if letter != 'N' else ' (inside)'}")
    return figure


def _network_order(layers: pd.Series[str]) -> list[str]:
    """The layers, in the order of their first mention; a backward pass mentions the last one first."""
    from qbench.report.entries import natural

    names = list(dict.fromkeys(layers))
    # The modules of a model are named so that the natural order of names is that of the network, but for its ends.
    ends = {"stem": 0, "conv1": 0, "bn1": 0, "classifier": 2, "fc": 2, "head": 2}
    return sorted(names, key=lambda name: (ends.get(name.partition(".")[0], 1), natural(name)))


def _grid(part: pd.DataFrame, layers: list[str], epochs: range) -> NDArray[np.float64]:
    """Values [layer, epoch]; NaN where there is none."""
    wide = part.pivot(index="layer", columns="epoch", values="value")
    return wide.reindex(index=layers, columns=list(epochs)).to_numpy(dtype=float)


def _panel(axes: Axes, grid: NDArray[np.float64], colors: Normalize, quantity: Quantity) -> None:
    import numpy as np

    axes.set_facecolor(_UNDEFINED)
    axes.grid(visible=False)
    drawn = np.ma.masked_invalid(np.where(np.isinf(grid), np.nan, grid))
    axes.pcolormesh(drawn, cmap=_color_map(quantity), norm=colors)
    for positive, color in _INFINITE.items():
        _mark_infinite(axes, grid == (math.inf if positive else -math.inf), color)
    axes.set_ylim(len(grid), 0)
    axes.tick_params(length=0, labelsize=7)
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _mark_infinite(axes: Axes, where: NDArray[np.bool_], color: str) -> None:
    import numpy as np
    from matplotlib.colors import ListedColormap

    if where.any():
        axes.pcolormesh(np.ma.masked_where(~where, np.ones(where.shape)), cmap=ListedColormap([color]))


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


def _label_columns(panels: NDArray[np.object_], methods: list[str], epochs: range) -> None:
    step = max(1, math.ceil(len(epochs) / 6))
    ticks = sorted({1, *range(step, len(epochs) + 1, step)}) if step > 1 else list(epochs)
    for axes, method in zip(panels[0], methods, strict=True):
        axes.set_title(_wrapped(method), fontsize=8, fontweight="normal", loc="center", pad=4)
    for axes in panels[-1]:
        axes.set_xticks([tick - 0.5 for tick in ticks], [str(tick) for tick in ticks])
    for axes in panels[-1]:
        axes.set_xlabel("epoch", fontsize=8)


def _wrapped(method: str) -> str:
    import textwrap

    return literal("\n".join(textwrap.wrap(method, 16, break_long_words=True)))


def _color_bar(figure: Figure, panels: NDArray[np.object_], table: Table, colors: Normalize) -> None:
    from matplotlib.cm import ScalarMappable

    mapped = ScalarMappable(colors, _color_map(table.quantity))
    bar = figure.colorbar(mapped, ax=panels, aspect=24, fraction=0.04, pad=0.02)
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.set_label(_axis_label(table.quantity), fontsize=8)
    bar.outline.set_visible(False)  # type: ignore[operator]


def _axis_label(quantity: Quantity) -> str:
    return f"{quantity.name.replace('_', ' ')} [{quantity.unit}]" if quantity.unit else quantity.name.replace("_", " ")


def _title(figure: Figure, scene: Scene, table: Table, what: str) -> None:
    values = table.values["value"]
    parts = [what, _seeds(scene)]
    if values.isna().any():
        parts.append("grey: not defined")
    if (values == math.inf).any():
        parts.append("light blue: infinite, nothing is lost")
    if (values == -math.inf).any():
        parts.append("brown: minus infinity")
    _head(figure, f"{scene.where}: {table.quantity.title}", "; ".join(parts))


def _head(figure: Figure, title: str, note: str) -> None:
    figure.suptitle(f"{literal(title)}\n", x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    figure.text(0.01, 1 - 0.3 / figure.get_figheight(), literal(note), fontsize=8, color=MUTED, va="top")


def _seeds(scene: Scene) -> str:
    most = max(sum(bool(record.outcome.probes) for record in series.entry.records) for series in scene.series)
    return "one seed" if most == 1 else f"mean over up to {most} seeds"


# --- curves


def _curves(scene: Scene, table: Table) -> Figure:
    """A panel per data path: per method the median over its layers and tensors, and their quartiles as a band."""
    letters = [letter for letter in DATA_PATHS if (table.values["data_path"] == letter).any()]
    columns = min(len(letters), 3)
    rows = math.ceil(len(letters) / columns)
    figure = new_figure(max(3.3 * columns + 2.0, 6.4), 2.7 * rows + 0.75)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(letters) :]:
        axes.set_axis_off()
    for axes, letter in zip(panels.flat, letters, strict=False):
        part = table.values[table.values["data_path"] == letter]
        for series in scene.series:
            _line(axes, part[part["method"] == series.name], series)
        _finish(axes, letter, table.quantity)
    handles = {label: h for axes in panels.flat for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right center", handlelength=2.6)
    infinite = "; infinite values, where nothing is lost, are left out" if _has_infinite(table) else ""
    note = f"median over layers, band: quartiles; {_seeds(scene)}{infinite}"
    _head(figure, f"{scene.where}: {table.quantity.title}", note)
    return figure


def _has_infinite(table: Table) -> bool:
    return bool(table.values["value"].abs().eq(math.inf).any())


def _line(axes: Axes, part: pd.DataFrame, series: Series) -> None:
    finite = part[part["value"].abs() < math.inf]
    if finite.empty:
        return
    spread = finite.groupby("epoch")["value"].describe()
    look, epochs = series.look, spread.index.to_numpy()
    axes.fill_between(epochs, spread["25%"], spread["75%"], color=look.color, alpha=0.13, linewidth=0, zorder=2)
    axes.plot(
        epochs, spread["50%"], color=look.color, linestyle=look.dash, linewidth=1.5, zorder=3,
        marker="o" if len(spread) == 1 else None, markersize=4, label=literal(series.name),
    )  # fmt: skip


def _finish(axes: Axes, letter: str, quantity: Quantity) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(f"{letter}: {DATA_PATHS[letter]}", fontsize=9.5)
    axes.set_xlabel("epoch")
    axes.set_ylabel(_axis_label(quantity))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy_axes(axes)
