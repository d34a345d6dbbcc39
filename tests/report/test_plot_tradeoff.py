"""Accuracy against speed or memory, and its front."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_plots import figure_of, legend_of, measured, seeds_of, together, words
from matplotlib.markers import CARETDOWN, CARETUP
from synthetic_records import make_measure, make_record

from qbench.cell import MeasureRecord, Record, Status
from qbench.report.plots.tradeoff import front_corners, pareto_front


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


def test_a_legend_of_long_texts_stays_inside_the_picture() -> None:
    far = {"fp32": 98.0, "sr": 98.2, "r": 98.1, "graham": 97.9, "wage": 60.0}
    records = [record for label, top1 in far.items() for record in seeds_of(label, top1, top1 + 1)]
    other = [make_record("bf16", seed, 98.0, shas=("init0", "order0", "other")) for seed in range(2)]
    figure = figure_of("speed", [*records, *other], measured(*far, "bf16"))
    assert "of methods that can be compared\nbar: 95 % t-interval" in legend_of(figure)
    assert "drawn at its lower edge" in legend_of(figure)
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width


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


def test_a_logarithmic_cost_is_called_one() -> None:
    records = together(fp32=99.0, sr=98.0)
    near = figure_of("speed", records, measured("fp32", "sr"))
    assert "log scale" not in words(near)
    far = figure_of("speed", records, [make_measure("fp32", (60.0,)), make_measure("sr", (600.0,))])
    assert far.axes[0].get_xlabel().endswith("(log scale)")


def test_pareto_front() -> None:
    points = [(1.0, 99.0), (2.0, 98.0), (1.5, 97.0), (3.0, 98.0), (3.0, 98.0)]
    assert pareto_front(points, "higher") == [0, 3, 4]
    assert pareto_front(points, "lower") == [0]


def test_front_is_a_staircase_between_the_frames() -> None:
    faster = front_corners([(1.0, 99.0), (3.0, 98.0)], "higher", (0.0, 4.0), 90.0)
    assert faster == [(0, 99), (0, 99), (1, 99), (1, 98), (3, 98), (3, 90), (3, 90)]
    smaller = front_corners([(1.0, 98.0), (3.0, 99.0)], "lower", (0.0, 4.0), 90.0)
    assert smaller == [(1, 90), (1, 90), (1, 98), (3, 98), (3, 99), (4, 99), (4, 99)]
