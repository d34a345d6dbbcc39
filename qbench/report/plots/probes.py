"""What probes observed: per quantity and data path a heat map of layer and epoch, methods side by side; and curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qbench.probes import find_quantity
from qbench.probes.base import DATA_PATHS, Quantity
from qbench.report.plots.heat_maps import draw_map
from qbench.report.plots.observed import Table, observations
from qbench.report.plots.probe_curves import draw_curves
from qbench.report.plots.scene import NothingToDrawError, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    from matplotlib.figure import Figure


def draw(scene: Scene) -> Iterator[tuple[str, Figure]]:
    """The name and the figure of each picture. Raises NothingToDrawError, at once, where no probe was recorded."""
    frame = observations(scene)
    if frame.empty:
        raise NothingToDrawError("no probe was recorded; ask for some with 'probes:' in the suite, or --probe")
    return _pictures(scene, frame)


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
                yield f"probe-{table.name}-{word}", draw_map(scene, table._replace(values=part), letter)
        yield f"probe-{table.name}-curves", draw_curves(scene, table)


def _options(scene: Scene) -> dict[str, dict[str, Any]]:
    """The options of each probe, the same in all cells of a suite."""
    cells = (record.cell for series in scene.series for record in series.entry.records)
    return {probe.name: probe.options for cell in cells for probe in cell.probes}


def _axis_label(quantity: Quantity, options: Mapping[str, object]) -> str:
    """``sign since k = 5 [share]``: a word that names an option of the probe is written with its value."""
    words = quantity.name.split("_")
    name = " ".join(f"{word} = {options[word]}" if word in options else word for word in words)
    return f"{name} [{quantity.unit}]" if quantity.unit else name
