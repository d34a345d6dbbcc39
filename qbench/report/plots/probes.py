"""What probes observed: per quantity and data path a heat map of layer and epoch, methods side by side; and curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qbench.probes import find_quantity
from qbench.probes.base import DATA_PATHS, Quantity
from qbench.report.plots.heat_maps import draw_map
from qbench.report.plots.observed import Table, observations, variant_of
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
    variants = frame.groupby(["probe", "quantity"])["variant"].nunique().to_dict()
    for (probe, quantity, variant), values in frame.groupby(["probe", "quantity", "variant"], sort=False):
        chosen = _options(scene, str(probe), str(quantity), str(variant))
        found = find_quantity(str(probe), str(quantity), chosen)
        if not found.drawn:
            continue
        means = values.groupby(place, sort=False)["value"].mean().reset_index()
        told = str(variant) if variants[probe, quantity] > 1 else ""
        table = Table(str(probe), found, _axis_label(found, chosen), means, told)
        for letter, word in DATA_PATHS.items():
            part = means[means["data_path"] == letter]
            if not part.empty:
                yield f"probe-{table.name}-{word}", draw_map(scene, table._replace(values=part), letter)
        yield f"probe-{table.name}-curves", draw_curves(scene, table)


def _options(scene: Scene, probe: str, quantity: str, variant: str) -> Mapping[str, Any]:
    """Options of a probe that give this variant of a quantity: a suite's cells may have been observed with several."""
    records = (record for series in scene.series for record in series.entry.records)
    chosen = (choice.options for record in records for choice in record.cell.probes if choice.name == probe)
    return next((options for options in chosen if variant_of(quantity, options) == variant), {})


def _axis_label(quantity: Quantity, options: Mapping[str, object]) -> str:
    """``sign since k = 5 [share]``: a word that names an option of the probe is written with its value."""
    words = quantity.name.split("_")
    name = " ".join(f"{word} = {options[word]}" if word in options else word for word in words)
    return f"{name} [{quantity.unit}]" if quantity.unit else name
