"""Plots of made-up runs, and what stands in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.text import Text
from synthetic_records import make_measure, make_record

from qbench.cell import MeasureRecord, Record
from qbench.report.entries import gather
from qbench.report.plots import PLOTS, write_plots
from qbench.report.plots.scene import scenes
from qbench.report.plots.style import plot_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox


def figure_of(
    name: str, records: list[Record], measures: list[MeasureRecord] | None = None, *, baseline: str = "fp32"
) -> Figure:
    """The picture ``name`` of a run in one setting, with its layout settled."""
    with plot_style():
        drawn = PLOTS[name].draw(scenes(gather(records, measures or []), baseline)[0])
        assert not isinstance(drawn, Iterator)
        drawn.draw_without_rendering()
    return drawn


def words(figure: Figure) -> str:
    """All text of a figure, a line each."""
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def with_curve(record: Record, **columns: list[float]) -> Record:
    """``record`` with other values in its learning curve."""
    rows = tuple(
        row.model_copy(update={name: values[index] for name, values in columns.items()})
        for index, row in enumerate(record.outcome.curve)
    )
    return record.model_copy(update={"outcome": record.outcome.model_copy(update={"curve": rows})})


def written(tmp_path: Path, records: list[Record], measures: list[MeasureRecord], *only: str) -> dict[str, bytes]:
    drawn = write_plots(records, measures, tmp_path, only=only)
    assert sorted(drawn.paths) == sorted(tmp_path.iterdir())
    return {path.name: path.read_bytes() for path in drawn.paths}


def seeds_of(label: str, *top1: float) -> list[Record]:
    return [make_record(label, seed, value) for seed, value in enumerate(top1)]


def together(**top1: float) -> list[Record]:
    """One seed of each method."""
    return [make_record(label, 0, value) for label, value in top1.items()]


def legend_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.legends[0].get_texts())


def measured(*labels: str) -> list[MeasureRecord]:
    return [make_measure(label, (60.0 + index,)) for index, label in enumerate(labels)]


def text_box(figure: Figure, start: str) -> Bbox:
    """Where the text that begins with ``start`` stands, in pixels."""
    return next(text for text in figure.findobj(Text) if text.get_text().startswith(start)).get_window_extent()
