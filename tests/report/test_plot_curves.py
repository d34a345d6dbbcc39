"""Learning curves."""

from __future__ import annotations

import math

import numpy as np
from drawn_plots import figure_of, with_curve, words
from synthetic_records import make_record, small_run

from qbench.cell import Record, Status
from qbench.report.plots.scene import mean_curve
from qbench.report.plots.style import looks


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


def test_mean_curve_averages_the_same_runs_everywhere() -> None:
    ragged = [{1: 10.0, 2: 20.0, 3: 30.0}, {1: 20.0, 3: 50.0}, {1: 30.0, 2: 0.0, 3: 10.0, 4: 99.0}]
    assert mean_curve(ragged) == {1: 20.0, 3: 30.0}
    assert mean_curve([]) == {}


def test_curves_name_a_method_that_begins_with_an_underscore() -> None:
    figure = figure_of("curves", [make_record("_mine"), make_record("fp32")])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["fp32", "_mine"]
    assert [line.get_color() for line in legend.get_lines()] == [looks([("fp32", "fp32")])["fp32"].color, "#999933"]
