"""The derived files of a run: the cells as Parquet, the tables in every format, the plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qbench.report.aggregate import MethodTable, method_table
from qbench.report.cells import cells_frame, write_cells
from qbench.report.entries import BASELINE
from qbench.report.files import write_file
from qbench.report.render import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qbench.cell import MeasureRecord, Record
    from qbench.report.plots import Drawn


@dataclass(frozen=True)
class Published:
    """What was written. table: the method table, for showing. drawn: the plots, and what is to be said of them."""

    table: MethodTable
    cells: Path
    tables: tuple[Path, ...]
    drawn: Drawn


def publish(
    records: Sequence[Record],
    measures: Sequence[MeasureRecord],
    out: Path,
    *,
    baseline: str = BASELINE,
    waiting: int = 0,
) -> Published:
    """Write ``cells.parquet``, ``tables/methods.*``, ``tables/cells.csv`` and ``plots/`` below ``out``.

    They are derived from the records and replaced each time. waiting: cells of the plan without a record. Raises
    InputError where ``out`` cannot be written.
    """
    from qbench.report.plots import PLOTS, write_plots

    table = method_table(records, measures, baseline=baseline, waiting=waiting)
    frame = cells_frame(records, measures)
    write_cells(frame, out / "cells.parquet")
    contents = {f"methods{form.suffix}": form.methods(table) for form in FORMATS.values()}
    contents["cells.csv"] = FORMATS["csv"].cells(frame)
    for name, content in contents.items():
        write_file(out / "tables" / name, content)
    names = [plot.name for plot in PLOTS.values() if not plot.extra]
    drawn = write_plots(records, measures, out / "plots", only=names, baseline=baseline)
    tables = tuple(out / "tables" / name for name in contents)
    return Published(table, out / "cells.parquet", tables, drawn)
