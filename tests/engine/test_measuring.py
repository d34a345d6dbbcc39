"""Speed and memory passes: alone, interleaved, every round kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qbench.cell import Cell, Measurement, MeasureRecord, Status
from qbench.engine import RoundFinished, RoundStarted
from qbench.engine.measuring import Due, num_missing, visits
from qbench.report.aggregate import method_table
from qbench.store import Store
from qbench.train.settings import TrainSettings


def due(name, missing):
    cell = Cell(
        suite="s", method=name, label=name, options={}, model="mlp", dataset="digits", seed=0, arithmetic="simulated",
        device="cpu", train=TrainSettings(),
    )  # fmt: skip
    return Due(cell, name, missing)


def names(order):
    return [(visit.round, visit.key) for visit in order]


def test_each_round_visits_every_method_and_starts_with_another():
    order = visits([due("a", 3), due("b", 3), due("c", 3)])
    assert "".join(visit.key for visit in order) == "abcbcacab"
    assert [visit.round for visit in order] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_baselines_are_measured_again_beside_a_method_that_is_new():
    order = visits([due("fp32", 0), due("a", 0), due("bf16", 0), due("new", 2)])
    assert names(order) == [(0, "fp32"), (0, "bf16"), (0, "new"), (1, "bf16"), (1, "new"), (1, "fp32")]


def test_baselines_of_other_models_are_left_alone():
    elsewhere = due("fp32", 0)
    elsewhere = replace(elsewhere, key="fp32 elsewhere", cell=elsewhere.cell.model_copy(update={"model": "resnet8"}))
    assert names(visits([elsewhere, due("fp32", 0), due("new", 1)])) == [(0, "fp32"), (0, "new")]


def test_nothing_missing_is_nothing_to_do():
    assert visits([due("fp32", 0), due("a", 0)]) == []
    assert visits([]) == []


def rounds(*statuses):
    made = tuple(Measurement(status=status) for status in statuses)
    return MeasureRecord(key="k", run="r", cell=due("a", 0).cell, rounds=made, environment={}, finished="")


@pytest.mark.parametrize(
    ("record", "retry", "missing"),
    [
        (None, True, 3),
        (None, False, 3),
        (rounds(Status.OK), True, 2),
        (rounds(Status.OK, Status.ERROR), True, 2),
        (rounds(Status.OK, Status.ERROR), False, 0),
        (rounds(*[Status.OK] * 4), True, 0),
        (rounds(Status.DIVERGED), True, 0),
        (rounds(Status.OK, Status.DIVERGED), True, 0),
    ],
)
def test_missing_rounds(record, retry, missing):
    assert num_missing(record, 3, retry=retry) == missing


ONE, TWO = [("one", 0), ("one", 1)], [("two", 0), ("two", 1)]


def measured(visited, status=Status.OK):
    made = tuple(Measurement(status=status, run=run, round=number) for run, number in visited)
    return MeasureRecord(key="k", run="r", cell=due("a", 0).cell, rounds=made, environment={}, finished="")


@pytest.mark.parametrize(
    ("anchors", "missing"),
    [
        ([measured(ONE)], 0),
        ([measured(ONE + TWO)], 0),
        ([measured(TWO)], 2),
        ([measured(ONE[:1])], 1),
        ([None], 2),
        ([measured(ONE), measured(TWO)], 2),
        ([measured(TWO, Status.OOM)], 0),
    ],
)
def test_a_round_counts_where_every_baseline_has_it(anchors, missing):
    assert num_missing(measured(ONE), 2, anchors, retry=True) == missing


@pytest.mark.parametrize("lost", ["fp32", "bf16", "other"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("{")])
def test_a_lost_measurement_is_made_again_with_those_whose_ratios_need_it(bench, lost, damage):
    suite = bench.suite("- fp32\n- bf16\n- ./fakes.py:other\n- ./fakes.py:fake", more="measure: {rounds: 2}")
    bench.run(suite)
    (key,) = [measure.key for measure in Store.open(bench.out).measures() if measure.cell.label == lost]
    damage(bench.out / "measures" / f"{key}.json")
    again = bench.run(suite)
    assert again.measured == (6 if lost == "other" else 8)
    store = Store.open(bench.out)
    for baseline in ("fp32", "bf16"):
        table = method_table(store.records(), store.measures(), baseline=baseline)
        assert [note for row in table.rows for note in row.notes if "no ratios" in note] == []
    assert bench.run(suite).measured == 0


def test_a_method_that_diverges_while_measured_is_done(bench):
    suite = bench.suite("- fp32\n- ./fakes.py:fake: {measured: diverge}", more="measure: {rounds: 3}")
    first, second = bench.run(suite), bench.run(suite)
    assert (first.failures, first.exit_code, first.measured) == ((), 0, 4)  # of fp32 all rounds, of the other the first
    assert (second.failures, second.exit_code, second.measured) == ((), 0, 0)


def test_a_method_added_later_leaves_the_ratios_of_the_others_as_they_are(bench):
    more = "measure: {rounds: 2}"
    bench.run(bench.suite("- fp32\n- ./fakes.py:other", more=more))
    before = next(m for m in Store.open(bench.out).measures() if m.cell.label == "other")
    assert bench.run(bench.suite("- fp32\n- ./fakes.py:fake", more=more)).measured == 4
    measures = {measure.cell.label: measure for measure in Store.open(bench.out).measures()}
    assert measures["other"] == before
    visited = {label: {(r.run, r.round) for r in measure.rounds} for label, measure in measures.items()}
    assert visited["fp32"] == visited["other"] | visited["fake"]
    assert len(visited["fp32"]) == 4


def test_rounds_follow_the_training_and_are_stored_one_by_one(bench, recorder):
    stored = []

    class Reader:
        def on_event(self, event):
            recorder.on_event(event)
            if isinstance(event, RoundFinished):
                stored.append([len(measure.rounds) for measure in Store.open(bench.out).measures()])

    suite = bench.suite("- ./fakes.py:other\n- ./fakes.py:fake", seeds="[5, 6]", more="measure: {rounds: 2}")
    summary = bench.run(suite, observer=Reader())
    assert summary.measured == 4
    assert stored == [[1], [1, 1], [1, 2], [2, 2]]
    assert bench.labels("measure") == ["other", "fake", "fake", "other"]
    assert {line["seed"] for line in bench.ran("measure")} == {5}
    assert [event.round for event in recorder.of(RoundStarted)] == [0, 0, 1, 1]
    for measure in Store.open(bench.out).measures():
        assert [(r.run, r.round) for r in measure.rounds] == [(summary.run, 0), (summary.run, 1)]
        assert measure.rounds[0].train_step_s == (0.1, 0.2)


def test_a_finished_measurement_is_not_repeated(bench):
    suite = bench.suite("- ./fakes.py:other", more="measure: {rounds: 2}")
    bench.run(suite)
    assert bench.run(suite).measured == 0
    assert len(bench.ran("measure")) == 2


def test_more_rounds_add_to_those_there_are(bench):
    bench.run(bench.suite("- ./fakes.py:other", more="measure: {rounds: 1}"))
    bench.run(bench.suite("- ./fakes.py:other", more="measure: {rounds: 3}"))
    (measure,) = Store.open(bench.out).measures()
    assert len(measure.rounds) == 3
    assert len(bench.ran("measure")) == 3


def test_a_method_that_fails_a_round_is_left_out_of_the_next_and_tried_again_by_the_next_run(bench):
    suite = bench.suite("- ./fakes.py:other\n- ./fakes.py:fake: {measured: flaky}", more="measure: {rounds: 2}")
    summary = bench.run(suite)
    assert [(f.what, f.label, f.message) for f in summary.failures] == [
        ("measure", "fake[measured=flaky]", "ValueError: not yet")
    ]
    assert bench.labels("measure") == ["other", "fake[measured=flaky]", "other"]
    bench.runs_file.with_name("runs.jsonl.mended").touch()
    assert bench.run(suite).exit_code == 0
    (measure,) = [m for m in Store.open(bench.out).measures() if m.cell.label == "fake[measured=flaky]"]
    assert [r.status for r in measure.rounds] == [Status.ERROR, Status.OK, Status.OK]


def test_measuring_can_be_off(bench):
    bench.run(bench.suite("- ./fakes.py:other"))
    assert bench.ran("measure") == []
    assert Store.open(bench.out).measures() == []
