"""Accuracy by method."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_plots import figure_of, seeds_of, text_box, together, words
from matplotlib.markers import CARETLEFT, CARETRIGHT
from synthetic_records import make_record, small_run

from qbench.report.entries import gather
from qbench.report.plots.intervals import Bar
from qbench.report.plots.scene import scenes, upper_cluster


def test_the_bar_of_an_interval_says_where_it_is_cut() -> None:
    assert Bar.of(98.0, 1.0, (90.0, 100.6)) == Bar(97.0, 99.0, cut_low=False, cut_high=False, is_bounded=False)
    assert Bar.of(99.0, 2.0, (98.0, 100.6)) == Bar(98.0, 100.0, cut_low=True, cut_high=False, is_bounded=True)
    assert Bar.of(99.0, 2.0, (90.0, 99.5)) == Bar(97.0, 99.5, cut_low=False, cut_high=True, is_bounded=False)
    assert Bar.of(1.0, 2.0, (-0.5, 9.0)) == Bar(0.0, 3.0, cut_low=False, cut_high=False, is_bounded=True)


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


def test_the_numbers_have_their_head_above_them() -> None:
    figure = figure_of("accuracy", small_run()[0])
    title, numbers = text_box(figure, "mean \N{PLUS-MINUS SIGN}"), text_box(figure, "98.93")
    assert title.x0 == pytest.approx(numbers.x0, abs=2)
    assert title.y0 > numbers.y1
    assert title.x1 < figure.bbox.x1
    assert not title.overlaps(text_box(figure, "points: seeds"))


def test_cluster_only_where_some_lie_far_below() -> None:
    def cluster(**top1: float) -> list[str]:
        scene = scenes(gather([make_record(label, 0, value) for label, value in top1.items()], []), "fp32")[0]
        return [series.name for series in upper_cluster(scene.series)]

    assert cluster(fp32=99.0, banner8=98.0, r=61.0) == ["fp32", "banner8"]
    assert cluster(fp32=99.0, banner8=98.0, r=95.0) == []
    assert cluster(fp32=99.0, r=61.0) == []
    assert cluster(fp32=99.0, banner8=98.0, r=61.0, sr=61.0) == []
