"""Plots by name: drawn off screen, written as PNG and SVG, the same bytes for the same records."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qbench.errors import UnknownNameError
from qbench.registry import nearest
from qbench.report.entries import BASELINE, check_baseline, gather
from qbench.report.files import write_file
from qbench.report.plots import accuracy, curves, probes, tradeoff
from qbench.report.plots.fonts import undrawable
from qbench.report.plots.scene import NothingToDrawError, Scene, scenes
from qbench.report.plots.style import plot_style

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from qbench.cell import MeasureRecord, Record


@dataclass(frozen=True)
class Plot:
    """A plot that can be asked for by name: one picture, or several with names of their own.

    draw raises NothingToDrawError where the records hold nothing to show. extra: not drawn at the end of a run, because
    its many pictures take a while, and unasked only where there is something to show.
    """

    name: str
    description: str
    draw: Callable[[Scene], Figure | Iterator[tuple[str, Figure]]]
    extra: bool = False


@dataclass(frozen=True)
class Drawn:
    """What :func:`write_plots` did. skipped: one sentence per plot that had nothing to show. note: what is not as it
    should be in those that were drawn; empty if nothing."""

    paths: tuple[Path, ...]
    skipped: tuple[str, ...]
    note: str = ""


PLOTS = {
    plot.name: plot
    for plot in (
        Plot("accuracy", "test accuracy by method: every seed, mean and 95 % interval", accuracy.draw),
        Plot("curves", "validation accuracy and training loss against epoch", curves.draw),
        Plot("speed", "test accuracy against training speed, with the Pareto front", tradeoff.draw_speed),
        Plot("memory", "test accuracy against peak training memory, with the Pareto front", tradeoff.draw_memory),
        Plot("probes", "heat maps of layer and epoch, and curves, of all that probes recorded", probes.draw, True),
    )
}
SUFFIXES = ("png", "svg")
_MOST_CHARACTERS = 10


def write_plots(
    records: Iterable[Record],
    measures: Iterable[MeasureRecord],
    out: Path,
    *,
    only: Sequence[str] = (),
    baseline: str = BASELINE,
) -> Drawn:
    """Draw the plots named in ``only`` (all, if empty) of every setting into ``out``, as ``NAME.png`` and ``NAME.svg``,
    those of probes as ``probe-QUANTITY-PATH`` and ``probe-QUANTITY-curves``.

    With several models or data sets the file name carries them. Raises UnknownNameError for an unknown plot, and for a
    baseline that was not run, but for the default one: pictures without it do not mention it.
    """
    chosen = [find_plot(name) for name in dict.fromkeys(only)] or list(PLOTS.values())
    entries = gather(records, measures)
    check_baseline(baseline, entries)
    found = scenes(entries, baseline)
    paths: list[Path] = []
    skipped: list[str] = []
    for scene in found:
        for plot in chosen:
            place = "" if len(found) == 1 else f"-{_slug(scene)}"
            try:
                paths += _write(plot, scene, out, place)
            except NothingToDrawError as reason:
                if only or not plot.extra:
                    skipped.append(f"{plot.name}{place}: {reason}")
    return Drawn(tuple(paths), tuple(skipped), _boxes_note(found) if paths else "")


def find_plot(name: str) -> Plot:
    """The plot called ``name``. Raises UnknownNameError."""
    if name not in PLOTS:
        raise UnknownNameError(f"unknown plot '{name}'{nearest(name, list(PLOTS))}")
    return PLOTS[name]


def _boxes_note(found: Iterable[Scene]) -> str:
    """One sentence about characters of names that no font has, for all pictures together."""
    names = [name for scene in found for name in (scene.where, *(series.name for series in scene.series))]
    missing = undrawable("".join(names))
    if not missing:
        return ""
    some = f"{missing[:_MOST_CHARACTERS]}\N{HORIZONTAL ELLIPSIS}" if len(missing) > _MOST_CHARACTERS else missing
    return f"no font here has {some}: pictures show boxes in their place; install one that has, such as Noto Sans CJK"


def _write(plot: Plot, scene: Scene, out: Path, place: str) -> list[Path]:
    """Draw and save; a picture is freed before the next is drawn."""
    with plot_style():
        drawn = plot.draw(scene)
        pictures = drawn if isinstance(drawn, Iterator) else iter([(plot.name, drawn)])
        return [path for name, figure in pictures for path in save_figure(figure, out / f"{name}{place}")]


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write ``figure`` beside ``stem`` with each of the suffixes, within :func:`plot_style`."""
    # The layout is the same for both files: settled once, it costs half the time.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in SUFFIXES]
    for path, suffix in zip(paths, SUFFIXES, strict=True):
        write_file(path, _encoded(figure, suffix))
    return paths


def _encoded(figure: Figure, suffix: str) -> bytes:
    stream = io.BytesIO()
    # No date and no library version in the file: equal records give equal bytes.
    metadata = {"Software": None} if suffix == "png" else {"Date": None, "Creator": None}
    figure.savefig(stream, format=suffix, metadata=metadata)
    return stream.getvalue()


def _slug(scene: Scene) -> str:
    setting = scene.setting
    return re.sub(r"[^A-Za-z0-9.=]+", "-", f"{setting.model}-{setting.dataset}-{setting.device}").strip("-")
