"""What probes observed, as tables; and what their pictures have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qbench.cell import Status
from qbench.probes.base import Quantity, data_path
from qbench.report.plots.scene import Scene, Series
from qbench.report.plots.style import INK, MUTED, literal, title_width

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

    from qbench.cell import Record

_LEAST_WIDTH = 6.4  # inches of a picture


class Table(NamedTuple):
    """What one figure shows. axis: the quantity's name and unit, for an axis. values: method, data path, layer, path,
    epoch, value (mean over the finished seeds, or the diverged ones of a method that never finished). variant: what of
    the probe's options is in the quantity, where methods were observed with several; empty where all had the same."""

    probe: str
    quantity: Quantity
    axis: str
    values: pd.DataFrame
    variant: str = ""

    @property
    def name(self) -> str:
        """``cosine-angle``, ``weight_change-sign_since_k-k=5``; a quantity called like its probe is not said twice."""
        name = self.probe if self.quantity.name == self.probe else f"{self.probe}-{self.quantity.name}"
        return f"{name}-{self.variant}" if self.variant else name


def observations(scene: Scene) -> pd.DataFrame:
    """The values in long form: probe, quantity, variant, method, seed, data_path, layer, path, epoch, value."""
    import pandas as pd

    fields = ("probe", "quantity", "variant", "method", "seed", "data_path", "layer", "path", "epoch", "value")
    rows = [
        (
            s.probe,
            s.quantity,
            variant_of(s.quantity, options_of(record, s.probe)),
            series.name,
            record.cell.seed,
            data_path(s.path),
            s.layer,
            s.path,
            epoch,
            value,
        )
        for series in scene.series
        for record in _observed(series)
        for s in record.outcome.probes
        for epoch, value in enumerate(s.values, start=1)
        if value is not None
    ]
    return pd.DataFrame(rows, columns=list(fields))


def options_of(record: Record, probe: str) -> Mapping[str, Any]:
    """The options that ``probe`` had in a cell."""
    return next((choice.options for choice in record.cell.probes if choice.name == probe), {})


def variant_of(quantity: str, options: Mapping[str, object]) -> str:
    """``k=5`` of ``sign_since_k``: the options of its probe that the name of a quantity names."""
    return ",".join(f"{word}={options[word]}" for word in quantity.split("_") if word in options)


def _observed(series: Series) -> list[Record]:
    """The seeds that finished, so that every epoch's mean is of the same runs; where none did, those that diverged."""
    results = [r for r in series.entry.records if r.outcome.probes and r.outcome.status.is_result]
    return [record for record in results if record.outcome.status is Status.OK] or results


def seeds_note(scene: Scene) -> str:
    """``one seed``, ``mean over 3 seeds``."""
    counts = {len(_observed(series)) for series in scene.series} - {0}
    if counts == {1}:
        return "one seed"
    return f"mean over {max(counts)} seeds" if len(counts) == 1 else f"mean over up to {max(counts)} seeds"


def write_head(figure: Figure, scene: Scene, table: Table, note: str) -> None:
    """Title and note at fixed distances from the upper edge."""
    down = figure.get_figheight()
    look = {"fontsize": 11, "fontweight": "bold", "color": INK}
    figure.suptitle(literal(_titled(scene, table)), x=0.01, y=1 - 0.08 / down, ha="left", va="top", **look)
    figure.text(0.01, 1 - 0.31 / down, literal(note), fontsize=8, color=MUTED, va="top")


def _titled(scene: Scene, table: Table) -> str:
    return f"{scene.where}: {table.quantity.title}"


def least_width(scene: Scene, table: Table) -> float:
    """Inches in which the title has room."""
    return max(_LEAST_WIDTH, title_width(_titled(scene, table)))


def plain_numbers() -> Formatter:
    """Numbers in full: 0.99987 and 0.0003, no offset or power of ten that stands elsewhere."""
    from matplotlib.ticker import ScalarFormatter

    formatter = ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    return formatter
