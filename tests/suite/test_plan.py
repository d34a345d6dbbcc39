"""What --dry-run shows."""

from __future__ import annotations

import pytest

from qbench.cell import ProbeChoice
from qbench.engine import plan_suite
from qbench.suite import Overrides, load_suite, make_plan
from qbench.suite.notes import idle_probes, idle_train, whole_batches
from qbench.train.settings import TrainSettings

PAPER = """name: paper
protocol: paper
model: mlp
dataset: digits
seeds: [0, 1]
train: {epochs: 2}
methods:
  - fp32
  - ./mine.py:whole
  - method: graham
    options: {bits: 3}
    train: {epochs: 9, optimizer: {lr: 0.3}}
    because: section 4
"""


def test_the_plan_shows_what_differs_from_the_defaults(write):
    fp32, _, graham = make_plan(load_suite(write(PAPER))).methods
    assert (fp32.changed, fp32.train_changes, fp32.because, fp32.skipped) == ({}, {}, None, None)
    assert graham.label == "graham[bits=3]"
    assert graham.changed == {"bits": 3}
    assert graham.train_changes == {"epochs": (2, 9), "optimizer.lr": (0.1, 0.3)}
    assert graham.because == "section 4"
    assert graham.origin.rpartition(":")[0].endswith("methods/graham.py")
    assert graham.summary


def test_a_method_without_the_arithmetic_is_skipped_with_the_reason(write):
    plan = make_plan(load_suite(write(PAPER)))
    assert [(skipped.label, skipped.reason) for skipped in plan.skipped] == [
        ("whole", "offers simulated arithmetic, not integer")
    ]
    assert {planned.cell.label for planned in plan.cells} == {"fp32", "graham[bits=3]"}
    simulated = make_plan(load_suite(write(PAPER), overrides=Overrides(arithmetic="simulated")))
    assert "whole" in {planned.cell.label for planned in simulated.cells}


def test_without_results_nothing_is_said_about_what_is_done(write, tmp_path):
    plan = plan_suite(load_suite(write(PAPER)), tmp_path / "none")
    assert {planned.done for planned in plan.cells} == {None}
    assert plan.num_done == 0
    assert not (tmp_path / "none").exists()


def test_cells_that_are_done_are_marked(write):
    suite = load_suite(write(PAPER))
    plan = make_plan(suite, is_done=lambda cell: cell.seed == 0)
    assert [planned.done for planned in plan.cells] == [True, True, False, False]
    assert plan.num_done == 2


def test_settings_without_effect_are_part_of_the_plan(write):
    plan = make_plan(load_suite(write(PAPER + "measure: {enabled: false, steps: 3}\n")), notes=("more",))
    assert plan.notes == ("'measure.steps' has no effect: measure.enabled is false", "more")


@pytest.mark.parametrize(("k", "is_said"), [(3, False), (4, True)])
def test_a_probe_that_looks_back_to_the_start_compares_something(k: int, is_said: bool) -> None:
    choice = ProbeChoice(name="weight_change", options={"k": k})
    assert bool(list(idle_probes([choice], TrainSettings(epochs=3)))) is is_said


def test_settings_that_just_fit_are_not_called_idle(write) -> None:
    assert list(idle_train(TrainSettings(epochs=3, eval_every=3))) == []
    assert len(list(idle_train(TrainSettings(epochs=3, eval_every=4)))) == 1
    (cell, *_) = load_suite(write(PAPER)).cells()
    assert cell.train.batch_size == 128
    assert list(whole_batches(cell, 128)) == []
    assert len(list(whole_batches(cell, 127))) == 1
