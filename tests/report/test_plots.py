from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.markers import CARETDOWN, CARETLEFT, CARETRIGHT, CARETUP
from matplotlib.text import Annotation, Text
from PIL import Image
from synthetic_records import make_measure, make_record, small_run

from qbench.catalog import methods
from qbench.cell import MeasureRecord, Record, Status
from qbench.errors import UnknownNameError
from qbench.report.aggregate import method_table
from qbench.report.entries import gather
from qbench.report.plots import PLOTS, find_plot, write_plots
from qbench.report.plots.fonts import families, undrawable
from qbench.report.plots.intervals import Bar
from qbench.report.plots.labels import Label, place_labels
from qbench.report.plots.names import columns, shortened
from qbench.report.plots.scene import mean_curve, scenes, upper_cluster
from qbench.report.plots.style import looks, new_figure, plot_style
from qbench.report.plots.theory import draw as draw_theory
from qbench.report.plots.tradeoff import front_corners, pareto_front
from qbench.theory.findings import Panel, Picture
from qbench.theory.findings import Series as Points

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


def test_every_plot_is_a_picture_and_the_same_bytes_again(tmp_path: Path) -> None:
    first = written(tmp_path / "a", *small_run())
    assert sorted(first) == sorted(
        f"{p.name}.{suffix}" for p in PLOTS.values() if not p.extra for suffix in ("png", "svg")
    )
    for name, content in first.items():
        assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    with Image.open(tmp_path / "a" / "accuracy.png") as picture:
        assert picture.width > 800
        assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 20  # not blank
    assert written(tmp_path / "b", *small_run()) == first


def test_svg_carries_no_date(tmp_path: Path) -> None:
    content = written(tmp_path, *small_run(), "accuracy")["accuracy.svg"].decode()
    assert "<dc:date>" not in content


def test_only_what_is_asked_for(tmp_path: Path) -> None:
    assert list(written(tmp_path, *small_run(), "curves")) == ["curves.png", "curves.svg"]


def test_one_method_one_seed(tmp_path: Path) -> None:
    assert len(written(tmp_path, [make_record()], [make_measure(train_ms=(60.0,), simulated=False)])) == 8


def test_many_methods_with_all_that_can_go_wrong(tmp_path: Path) -> None:
    labels = [
        "fp32",
        "bf16",
        *(f"graham[bits={bits}]" for bits in range(2, 10)),
        "strange $_{method}$ | with a long name",
    ]
    records = [make_record(label, seed, 98.0 + 0.1 * seed) for label in labels for seed in range(3)]
    records += [
        make_record("r", 0, 61.0),
        make_record("sr", 0, None, status=Status.DIVERGED, diverged_step=3, epochs=1),
        make_record("wageubn", 0, None, status=Status.ERROR, message="boom", epochs=0),
    ]
    measures = [make_measure(label, simulated=label not in {"fp32", "bf16"}) for label in [*labels, "r", "sr"]]
    assert len(written(tmp_path, records, measures)) == 8


def test_nothing_to_show_is_told_and_not_drawn(tmp_path: Path) -> None:
    records = [make_record("fp32", 0, None, status=Status.ERROR, epochs=0)]
    drawn = write_plots(records, [], tmp_path)
    assert drawn.paths == ()
    assert drawn.skipped[0] == "accuracy: no cell finished with an accuracy"
    assert len(drawn.skipped) == 4


def test_file_names_carry_the_setting_where_there_are_several(tmp_path: Path) -> None:
    records = [make_record(model="mlp"), make_record(model="resnet8", model_options={"width": 8})]
    names = {path.name for path in write_plots(records, [], tmp_path, only=["accuracy"]).paths}
    assert {"accuracy-mlp-digits-cpu.png", "accuracy-resnet8-width=8-digits-cpu.png"} < names


def test_unknown_plot() -> None:
    with pytest.raises(UnknownNameError, match="unknown plot 'acuracy', did you mean 'accuracy'"):
        find_plot("acuracy")


LONG = [
    "fp32",
    "方" * 200,
    "$a_{" * 60,
    *(f"mine[{'option=0.125,' * 20}bits={bits},{'option=0.5,' * 20}]" for bits in (4, 5)),
]


def long_run(*, seeds: int = 3) -> tuple[list[Record], list[MeasureRecord]]:
    """Methods whose names are far too long, one of them far below the others."""
    records = [make_record(label, seed, 99 - 0.2 * i) for i, label in enumerate(LONG) for seed in range(seeds)]
    records += [make_record("r", 0, 61.0)]
    return records, [make_measure(label, (60.0 + i,), peak=10**7 + i * 10**6) for i, label in enumerate([*LONG, "r"])]


def test_long_names_are_cut_in_the_middle_and_told_apart() -> None:
    short = shortened(LONG)
    assert short[:2] == ["fp32", "方" * 12 + "…" + "方" * 11]
    assert all(columns(name) <= 48 for name in short)
    assert "bits=4" in short[3]
    assert "bits=5" in short[4]
    assert shortened(["a" * 30, "a" * 30, "b" * 49]) == ["a" * 30, "a" * 30, "b" * 24 + "…" + "b" * 23]
    hard = ["a" * 50 + middle + "a" * 50 for middle in ("", "b", "b" + "a" * 60 + "c")]
    assert len(set(shortened(hard))) == 3


@pytest.mark.filterwarnings("error")
def test_long_and_foreign_names_draw_without_a_warning(tmp_path: Path) -> None:
    drawn = write_plots(*long_run(), tmp_path)
    assert len(drawn.paths) == 8
    assert drawn.skipped == ()
    if "方" in undrawable("方fp32"):
        assert drawn.note.startswith("no font here has 方: pictures show boxes in their place")
    assert write_plots(*small_run(), tmp_path).note == ""


def test_only_fonts_that_are_installed_are_asked() -> None:
    assert families()[0] == "DejaVu Sans"
    assert undrawable("fp32[bits=4] … ± ↓") == ""
    assert undrawable("\U0010fffd" * 2) == "\U0010fffd"


def test_long_names_stay_in_their_places() -> None:
    for name in ("speed", "memory"):
        (axes,) = figure_of(name, *long_run()).axes
        frame = axes.get_window_extent()
        for text in (child for child in axes.texts if isinstance(child, Annotation)):
            box = Text.get_window_extent(text)
            assert frame.x0 - 1 <= box.x0
            assert box.x1 <= frame.x1 + 1
    curves = figure_of("curves", *long_run())
    assert all(not curves.legends[0].get_window_extent().overlaps(axes.get_window_extent()) for axes in curves.axes)
    accuracy = figure_of("accuracy", *long_run())
    assert min(label.get_window_extent().x0 for label in accuracy.axes[0].get_yticklabels()) >= 0


def test_a_caption_does_not_touch_the_title_of_a_tall_picture() -> None:
    axes = figure_of("accuracy", [make_record(f"graham[bits={bits}]") for bits in range(40)]).axes[0]
    caption = next(text for text in axes.texts if "diamond" in text.get_text())
    title = next(text for text in axes.findobj(Text) if "accuracy by method" in text.get_text())
    assert not caption.get_window_extent().overlaps(title.get_window_extent())


def epoch_ticks(records: list[Record]) -> list[float]:
    return [float(tick) for tick in figure_of("curves", records).axes[0].get_xticks()]


def test_epochs_are_labelled_with_whole_numbers_first_and_last() -> None:
    assert epoch_ticks([make_record(epochs=1)]) == [1]
    assert epoch_ticks([make_record(epochs=5)]) == [1, 2, 3, 4, 5]
    assert epoch_ticks([make_record(epochs=20)]) == [1, 5, 10, 15, 20]
    assert epoch_ticks([make_record(epochs=100)]) == [1, 20, 40, 60, 80, 100]


def test_an_epoch_stands_at_one_place_in_both_panels_however_seldom_is_validated() -> None:
    every_other = with_curve(make_record(epochs=4), val_top1=[math.nan, 90.0, math.nan, 95.0])
    accuracy, loss = figure_of("curves", [every_other]).axes
    assert accuracy.get_xlim() == loss.get_xlim()
    assert [axes.get_xticks().tolist() for axes in (accuracy, loss)] == [[1, 2, 3, 4]] * 2


def test_a_method_that_diverged_before_it_had_a_curve_is_named() -> None:
    gone = make_record("$r$", 0, None, status=Status.DIVERGED, diverged_step=1)
    gone = gone.model_copy(update={"outcome": gone.outcome.model_copy(update={"curve": ()})})
    assert r", diverged in the first epoch: \$r\$" in words(figure_of("curves", [make_record(), gone]))
    assert "diverged" not in words(figure_of("curves", [make_record()]))


def test_equal_points_of_one_epoch_stand_side_by_side() -> None:
    figure = figure_of("curves", [make_record(label, epochs=1) for label in ("fp32", "banner8", "sr")])
    for axes in figure.axes:
        places = {str(line.get_label()): np.asarray(line.get_xdata()).tolist() for line in axes.get_lines()}
        assert [places[label] for label in ("fp32", "banner8", "sr")] == [[0.75], [1.0], [1.25]]
        assert axes.get_xlim() == (0.5, 1.5)
    assert "one seed, at a single epoch methods side by side" in words(figure)
    assert "side by side" not in words(figure_of("curves", small_run()[0]))
    assert "side by side" not in words(figure_of("curves", [make_record(epochs=1)]))
    sparse = [with_curve(make_record(label, epochs=2), val_top1=[math.nan, 90]) for label in ("fp32", "sr")]
    assert "side by side" in words(figure_of("curves", sparse))


def test_the_bar_of_an_interval_says_where_it_is_cut() -> None:
    assert Bar.of(98.0, 1.0, (90.0, 100.6)) == Bar(97.0, 99.0, cut_low=False, cut_high=False, is_bounded=False)
    assert Bar.of(99.0, 2.0, (98.0, 100.6)) == Bar(98.0, 100.0, cut_low=True, cut_high=False, is_bounded=True)
    assert Bar.of(99.0, 2.0, (90.0, 99.5)) == Bar(97.0, 99.5, cut_low=False, cut_high=True, is_bounded=False)
    assert Bar.of(1.0, 2.0, (-0.5, 9.0)) == Bar(0.0, 3.0, cut_low=False, cut_high=False, is_bounded=True)


def seeds_of(label: str, *top1: float) -> list[Record]:
    return [make_record(label, seed, value) for seed, value in enumerate(top1)]


def together(**top1: float) -> list[Record]:
    """One seed of each method."""
    return [make_record(label, 0, value) for label, value in top1.items()]


def legend_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.legends[0].get_texts())


def measured(*labels: str) -> list[MeasureRecord]:
    return [make_measure(label, (60.0 + index,)) for index, label in enumerate(labels)]


@pytest.mark.parametrize("name", ["speed", "memory"])
def test_intervals_beside_a_cost_are_explained_and_end_where_they_must(name: str) -> None:
    narrow = [*seeds_of("fp32", 98.0, 98.02), *seeds_of("sr", 96.0, 96.02)]
    assert "bar: 95 % t-interval" in legend_of(figure_of(name, narrow, measured("fp32", "sr"))).splitlines()
    wide = [*seeds_of("fp32", 99.0, 99.8), *seeds_of("sr", 97.0, 97.8)]
    figure = figure_of(name, wide, measured("fp32", "sr"))
    assert "bar: 95 % t-interval, arrowhead: goes on outside" in legend_of(figure)
    (axes,) = figure.axes
    bottom, top = axes.get_ylim()
    ends = [line for line in axes.get_lines() if line.get_marker() in (CARETDOWN, CARETUP)]
    assert {float(np.asarray(line.get_ydata())[0]) for line in ends} == {bottom, top}
    once = figure_of(name, [make_record("fp32"), make_record("sr")], measured("fp32", "sr"))
    assert "interval" not in legend_of(once)


DIVERGED = make_record("sr", 1, None, status=Status.DIVERGED, diverged_step=3)


@pytest.mark.parametrize("second", [[DIVERGED], []], ids=["diverged", "not run"])
def test_the_mean_of_some_of_the_seeds_dominates_nobody(second: list[Record]) -> None:
    measures = [make_measure(label, (ms,)) for label, ms in (("fp32", 60.0), ("r", 80.0), ("sr", 20.0))]
    whole = [*seeds_of("fp32", 98.0, 98.2), *seeds_of("r", 98.4, 98.5)]
    lucky = [make_record("sr", 0, 99.9), *second]
    figure = figure_of("speed", [*whole, *lucky], measures)
    assert "Pareto front of simulations, of methods that finished every seed" in legend_of(figure).splitlines()
    (front,) = [line for line in figure.axes[0].get_lines() if line.is_dashed()]
    assert max(np.asarray(front.get_ydata())) == pytest.approx(98.45)
    assert "finished every seed" not in legend_of(figure_of("speed", whole, measures))


def measured_twice() -> MeasureRecord:
    """The baseline, in the sessions run1 and run2."""
    first, second = (make_measure("fp32", (60.0,), simulated=False, run=run) for run in ("run1", "run2"))
    return first.model_copy(update={"rounds": (*first.rounds, *second.rounds)})


@pytest.mark.parametrize(
    ("name", "base", "run", "shas"),
    [
        ("speed", make_measure("fp32", (60.0,), simulated=False), "run1", ("init0", "order0", "other")),
        ("memory", make_measure("fp32", (60.0,), simulated=False), "run2", None),
        ("speed", measured_twice(), "run2", None),
    ],
    ids=["other evaluation items", "session without the baseline", "session of few"],
)
def test_what_the_table_does_not_compare_dominates_nobody(
    name: str, base: MeasureRecord, run: str, shas: tuple[str, str, str] | None
) -> None:
    tops = {"fp32": 98.0, "bf16": 97.5, "r": 97.0}
    records = [
        *(make_record(label, top1=top1) for label, top1 in tops.items()),
        make_record("sr", top1=99.0, shas=shas),
    ]
    measures = [base, *(make_measure(label, (50.0,), simulated=False) for label in ("bf16", "r"))]
    figure = figure_of(name, records, [*measures, make_measure("sr", (1.0,), simulated=False, peak=10, run=run)])
    assert "Pareto front, of methods that can be compared" in legend_of(figure).splitlines()
    front = max(figure.axes[0].get_lines(), key=lambda line: len(line.get_xydata()))
    assert max(np.asarray(front.get_ydata())) == pytest.approx(98.0)


def test_a_front_of_memory_takes_in_later_sessions_with_the_baseline() -> None:
    records = [make_record("fp32", top1=98.0), make_record("sr", top1=99.0)]
    measures = [measured_twice(), make_measure("sr", (60.0,), simulated=False, peak=10, run="run2")]
    assert "can be compared" not in legend_of(figure_of("memory", records, measures))


def test_most_methods_are_on_the_scale_and_the_arrow_of_others_is_explained() -> None:
    labels = ("fp32", "banner8", "r")
    most = figure_of("speed", together(fp32=99.0, banner8=98.5, r=61.0), measured(*labels))
    assert "accuracy below this scale" in legend_of(most)
    assert most.axes[0].get_ylim()[0] > 90
    few = figure_of("speed", together(fp32=99.0, banner8=61.0, r=61.5), measured(*labels))
    assert "below" not in legend_of(few)
    assert few.axes[0].get_ylim()[0] < 61


def text_box(figure: Figure, start: str) -> Bbox:
    """Where the text that begins with ``start`` stands, in pixels."""
    return next(text for text in figure.findobj(Text) if text.get_text().startswith(start)).get_window_extent()


def test_intervals_of_accuracy_end_at_100_or_in_an_arrowhead() -> None:
    figure = figure_of("accuracy", [*seeds_of("fp32", 99.0, 99.9, 98.8), *seeds_of("sr", 98.0, 98.2, 98.1)])
    assert "bar: 95 % t-interval, cut at 0 and 100 %;" in words(figure)
    bars = [np.asarray(line.get_xdata()) for line in figure.axes[0].get_lines() if line.get_linestyle() != "--"]
    assert max(float(bar.max()) for bar in bars) == 100.0
    figure = figure_of("accuracy", [*seeds_of("fp32", 80.0, 82.0), *seeds_of("sr", 81.0, 81.1)])
    assert "bar: 95 % t-interval, arrowhead: goes on outside;" in words(figure).replace("\n", " ")
    left, right = figure.axes[0].get_xlim()
    ends: dict[object, list[float]] = {
        line.get_marker(): np.asarray(line.get_xdata()).tolist() for line in figure.axes[0].get_lines()
    }
    assert (ends[CARETLEFT], ends[CARETRIGHT]) == ([left], [right])


def test_accuracies_that_the_table_does_not_compare_are_marked() -> None:
    apart = make_record("sr", 0, 99.5, shas=("init0", "other", "eval"))
    text = words(figure_of("accuracy", [make_record("fp32", 0, 99.0), apart, make_record("r", 0, 98.0)]))
    assert "99.50; not comparable" in text
    assert text.count("; not comparable") == 2, "the row and the note"
    assert "not comparable" not in words(figure_of("accuracy", together(fp32=99.0, sr=99.5)))


def test_no_seed_hides_behind_the_mean() -> None:
    (axes,) = figure_of("accuracy", [*seeds_of("fp32", 99.0, 99.2, 99.1), make_record("sr", 0, 98.0)]).axes
    diamond, seeds, only = axes.collections
    assert seeds.get_zorder() > diamond.get_zorder()
    assert np.asarray(diamond.get_facecolor()).tolist() == [[1, 1, 1, 1]]
    assert np.asarray(only.get_facecolor()).tolist() != [[1, 1, 1, 1]]
    assert "filled diamond: the only seed" in words(axes.figure.figure)


def test_a_closer_view_shows_most_methods() -> None:
    assert len(figure_of("accuracy", together(fp32=99.0, banner8=98.5, r=61.0)).axes) == 2
    assert len(figure_of("accuracy", together(fp32=99.0, banner8=98.5, r=61.0, sr=61.0, graham=61.0)).axes) == 1


@pytest.mark.parametrize("name", ["accuracy", "curves", "speed"])
@pytest.mark.parametrize("top1", [0.0, 100.0])
def test_no_axis_names_an_accuracy_below_0_or_above_100(name: str, top1: float) -> None:
    records = [with_curve(record, val_top1=[top1] * 5) for record in together(fp32=top1, sr=top1)]
    axes = figure_of(name, records, measured("fp32", "sr")).axes[0]
    ticks = axes.get_xticks() if name == "accuracy" else axes.get_yticks()
    assert len(ticks) > 1
    assert all(0 <= tick <= 100 for tick in ticks)


def test_the_numbers_have_their_head_above_them() -> None:
    figure = figure_of("accuracy", small_run()[0])
    title, numbers = text_box(figure, "mean \N{PLUS-MINUS SIGN}"), text_box(figure, "98.93")
    assert title.x0 == pytest.approx(numbers.x0, abs=2)
    assert title.y0 > numbers.y1
    assert title.x1 < figure.bbox.x1
    assert not title.overlaps(text_box(figure, "points: seeds"))


def test_a_logarithmic_cost_is_called_one() -> None:
    records = together(fp32=99.0, sr=98.0)
    near = figure_of("speed", records, measured("fp32", "sr"))
    assert "log scale" not in words(near)
    far = figure_of("speed", records, [make_measure("fp32", (60.0,)), make_measure("sr", (600.0,))])
    assert far.axes[0].get_xlabel().endswith("(log scale)")


@pytest.mark.parametrize("x_scale", ["linear", "log", "log2"])
@pytest.mark.parametrize("y_scale", ["linear", "log"])
def test_a_logarithmic_axis_of_an_experiment_is_called_one(x_scale: str, y_scale: str) -> None:
    series = {"label": "SR", "role": "sr", "x": (1, 2), "y": (0.1, 0.2)}
    panel = {"x_label": "spacing", "y_label": "loss", "series": [series], "x_scale": x_scale, "y_scale": y_scale}
    picture = Picture.model_validate({"name": "loss", "title": "loss", "columns": 1, "panels": [panel]})
    with plot_style():
        (axes,) = draw_theory(picture).axes
    assert axes.get_xlabel() == ("spacing" if x_scale == "linear" else "spacing (log scale)")
    assert axes.get_ylabel() == ("loss" if y_scale == "linear" else "loss (log scale)")


def test_names_stand_on_an_axis_that_counts_nothing() -> None:
    series = tuple(
        Points(label=name, role="range", x=(float(index),), y=(0.1,), style="points")
        for index, name in enumerate(("paper, 1 chunk", "code, 16 chunks"))
    )
    panel = Panel(x_label="constant and number of chunks", y_label="points", series=series, x_scale="names")
    with plot_style():
        (axes,) = draw_theory(Picture(name="range", title="norms", columns=1, panels=(panel,))).axes
    assert list(axes.get_xticks()) == [0.0, 1.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["paper,\n1 chunk", "code,\n16 chunks"]
    assert axes.get_xlabel() == "constant and number of chunks"


def test_a_long_title_of_an_experiment_is_not_cut() -> None:
    panel = Panel(x_label="updates", y_label="share", series=(Points(label="SR", role="sr", x=(1.0,), y=(0.1,)),))
    picture = Picture(name="noise", title="binary weights that differ " * 4, columns=1, panels=(panel,))
    with plot_style():
        figure = draw_theory(picture)
        title = next(text for text in figure.texts if "binary" in text.get_text())
        assert title.get_window_extent().x1 < figure.bbox.x1


def test_curves_say_what_their_axes_leave_out_or_distort() -> None:
    plain = figure_of("curves", [with_curve(make_record(), val_top1=[70.0, 80, 90, 95, 96])])
    assert "not shown" not in words(plain)
    assert plain.axes[1].get_ylabel() == "training loss"
    cut = with_curve(make_record(), val_top1=[10.0, 80, 90, 95, 96], train_loss=[2.0, 1, 0.1, 0.1, 0.1])
    figure = figure_of("curves", [cut])
    bottom = figure.axes[0].get_ylim()[0]
    assert bottom > 10
    assert f"one seed, accuracy below {bottom:.0f} % not shown" in words(figure)
    assert figure.axes[1].get_yscale() == "log"
    assert figure.axes[1].get_ylabel() == "training loss (log scale)"


def test_points_of_one_rule_differ_in_their_markers() -> None:
    steps = (
        Points(label=f"SR, step {step}", role="sr", x=(1.0, 2.0), y=(0.1, 0.2), style="points") for step in (0.1, 0.02)
    )
    panel = Panel(x_label="spacing", y_label="loss", series=tuple(steps))
    with plot_style():
        (axes,) = draw_theory(Picture(name="quadratic", title="loss", columns=1, panels=(panel,))).axes
    assert len({line.get_marker() for line in axes.get_lines()}) == 2
    assert {line.get_markerfacecolor() for line in axes.get_lines()} == {"none"}


def test_a_baseline_that_was_not_run_is_refused_as_by_the_table(tmp_path: Path) -> None:
    records = [make_record("fp32"), make_record("banner8")]
    with pytest.raises(UnknownNameError, match="no method 'fp33' in this run, did you mean 'fp32'") as plots:
        write_plots(records, [], tmp_path, baseline="fp33")
    with pytest.raises(UnknownNameError) as table:
        method_table(records, [], baseline="fp33")
    assert str(plots.value) == str(table.value)
    assert list(tmp_path.iterdir()) == []


def test_the_baseline_is_mentioned_where_it_is_drawn() -> None:
    records = [make_record("banner8"), make_record("sr", top1=98.0)]
    assert "dashed" not in words(figure_of("accuracy", records))
    assert "dashed: sr" in words(figure_of("accuracy", records, baseline="sr"))
    failed = make_record("fp32", 0, None, status=Status.ERROR, epochs=0)
    assert "dashed" not in words(figure_of("accuracy", [*records, failed]))
    assert "dashed" not in words(figure_of("accuracy", [make_record("fp32")]))


def test_the_callers_matplotlib_is_left_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    write_plots(*small_run(), tmp_path, only=["speed"])
    assert dict(mpl.rcParams) == before


def test_pareto_front() -> None:
    points = [(1.0, 99.0), (2.0, 98.0), (1.5, 97.0), (3.0, 98.0), (3.0, 98.0)]
    assert pareto_front(points, "higher") == [0, 3, 4]
    assert pareto_front(points, "lower") == [0]


def test_front_is_a_staircase_between_the_frames() -> None:
    faster = front_corners([(1.0, 99.0), (3.0, 98.0)], "higher", (0.0, 4.0), 90.0)
    assert faster == [(0, 99), (0, 99), (1, 99), (1, 98), (3, 98), (3, 90), (3, 90)]
    smaller = front_corners([(1.0, 98.0), (3.0, 99.0)], "lower", (0.0, 4.0), 90.0)
    assert smaller == [(1, 90), (1, 90), (1, 98), (3, 98), (3, 99), (4, 99), (4, 99)]


def test_mean_curve_averages_the_same_runs_everywhere() -> None:
    ragged = [{1: 10.0, 2: 20.0, 3: 30.0}, {1: 20.0, 3: 50.0}, {1: 30.0, 2: 0.0, 3: 10.0, 4: 99.0}]
    assert mean_curve(ragged) == {1: 20.0, 3: 30.0}
    assert mean_curve([]) == {}


def test_cluster_only_where_some_lie_far_below() -> None:
    def cluster(**top1: float) -> list[str]:
        scene = scenes(gather([make_record(label, 0, value) for label, value in top1.items()], []), "fp32")[0]
        return [series.name for series in upper_cluster(scene.series)]

    assert cluster(fp32=99.0, banner8=98.0, r=61.0) == ["fp32", "banner8"]
    assert cluster(fp32=99.0, banner8=98.0, r=95.0) == []
    assert cluster(fp32=99.0, r=61.0) == []
    assert cluster(fp32=99.0, banner8=98.0, r=61.0, sr=61.0) == []


def test_a_family_keeps_its_colour_and_its_members_differ() -> None:
    few = looks([("graham", "graham[bits=2]")])
    many = looks([("fp32", "fp32"), ("mine", "mine"), ("graham", "graham[bits=2]"), ("graham", "graham[bits=3]")])
    assert few["graham[bits=2]"].color == many["graham[bits=2]"].color
    assert len({(look.color, look.dash) for look in many.values()}) == 4


def test_every_method_of_qbench_has_a_colour_of_its_own_in_every_picture() -> None:
    names = [entry.name for entry in methods() if entry.origin.startswith("qbench.methods.")]
    together = looks([(name, name) for name in names])
    assert {name: looks([(name, name)])[name].color for name in names} == {n: k.color for n, k in together.items()}
    strangers = looks([(f"mine{index}", f"mine{index}") for index in range(20)])
    assert len({look.color for look in together.values()} - {look.color for look in strangers.values()}) == len(names)


def test_families_that_share_a_colour_differ_in_their_lines() -> None:
    many = looks([("fp32", "fp32")] + [(f"mine{index}", f"mine{index}") for index in range(20)])
    assert len({(look.color, look.dash) for look in many.values()}) == 21


def test_curves_name_a_method_that_begins_with_an_underscore() -> None:
    figure = figure_of("curves", [make_record("_mine"), make_record("fp32")])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["fp32", "_mine"]
    assert [line.get_color() for line in legend.get_lines()] == [looks([("fp32", "fp32")])["fp32"].color, "#999933"]


def test_labels_do_not_cover_each_other() -> None:
    with plot_style():
        figure = new_figure(6, 4)
        axes = figure.subplots()
        axes.set(xlim=(0, 10), ylim=(0, 10))
        points = [(5 + 0.1 * (i % 3), 5 + 0.1 * (i // 3)) for i in range(9)]
        placed = place_labels(axes, [Label(x, y, f"method {i}", "black") for i, (x, y) in enumerate(points)])
        boxes = [super(type(text), text).get_window_extent() for text in placed]
    overlaps = [a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert fmean(overlaps) == 0


def test_a_label_leaves_the_end_of_a_bar_to_be_seen() -> None:
    with plot_style():
        figure = new_figure(6, 4)
        axes = figure.subplots()
        axes.set(xlim=(0, 10), ylim=(0, 10))
        label, ends = Label(5, 5, "bf16", "black"), [(5, 5.4), (5.4, 5.0), (4.6, 5.0)]
        (near,), (clear,) = (place_labels(axes, [label], ends=of) for of in (ends[1:], ends))
        places = [super(type(text), text).get_window_extent() for text in (near, clear)]
    end = axes.transData.transform(ends[0])
    assert places[0].contains(*end)
    assert not places[1].contains(*end)
