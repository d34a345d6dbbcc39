"""Speed and memory passes: alone, interleaved, every round kept."""

from __future__ import annotations

import pytest

from qbench.cell import Cell, Measurement, MeasureRecord, Status
from qbench.engine import RoundFinished, RoundStarted
from qbench.engine.measuring import Due, num_missing, visits
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
    ],
)
def test_missing_rounds(record, retry, missing):
    assert num_missing(record, 3, retry=retry) == missing


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
