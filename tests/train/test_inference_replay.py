"""Replayed forward passes in evaluation give what the model gives, bit for bit; and what cannot be replayed is run."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from arithmetics import both_arithmetics
from batches import batch_of
from recorded_steps import CONFIGURATIONS

from qbench.cell import Cell
from qbench.train.build import BuiltCell, build_cell
from qbench.train.replay import VARIABLE
from qbench.train.step import InferencePass, TrainStep

MakeCell = Callable[..., Cell]
METHODS = [*CONFIGURATIONS, ("fp32", {}), ("bf16", {})]
TRAINED, PASSES = 4, 6
UNREPLAYED = 3
"""The first pass makes what evaluation remembers, the next two are recorded."""


def trained(cell: Cell) -> BuiltCell:
    built = build_cell(cell)
    built.model.train()
    train(built)
    built.model.eval()
    return built


def train(built: BuiltCell) -> None:
    step = TrainStep(built)
    for number in range(TRAINED):
        step.update(step.forward(number, *batch_of(built, number)))


def passes(built: BuiltCell, inference: InferencePass) -> list[bool]:
    """Which of some passes were replayed; all of them say what the model says."""
    found = []
    for number in range(PASSES):
        images, _ = batch_of(built, number)
        outputs = inference.run(images)
        found.append(inference.is_replayed)
        expected = InferencePass(built).run(images)
        assert torch.equal(outputs, expected) and not outputs.requires_grad
        outputs.zero_()  # they are the caller's own
    return found


@both_arithmetics
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_replayed_passes_are_the_same(
    method: str, options: dict[str, object], arithmetic: str, make_cell: MakeCell
) -> None:
    built = trained(make_cell(method, options, arithmetic=arithmetic))
    built.converted.clock.step = 0  # where a training step notes its codes
    inference = InferencePass(built, replays=True)
    replayed = passes(built, inference)
    assert inference.is_settled
    if arithmetic == "integer" or any(replayed):  # sums of simulated integers may be split by what they add up to
        assert replayed == [False] * UNREPLAYED + [True] * (PASSES - UNREPLAYED)


def test_a_pass_after_more_training_is_of_the_new_weights(make_cell: MakeCell) -> None:
    built = trained(make_cell("banner8", arithmetic="integer"))
    before = InferencePass(built, replays=True)
    assert passes(built, before)[-1]
    built.model.train()
    train(built)
    built.model.eval()
    assert passes(built, InferencePass(built, replays=True))[-1]


def test_another_batch_size_is_recorded_anew(make_cell: MakeCell) -> None:
    built = trained(make_cell("banner8", arithmetic="integer"))
    inference = InferencePass(built, replays=True)
    passes(built, inference)
    small = batch_of(built, 0)[0][:5]
    assert torch.equal(inference.run(small), InferencePass(built).run(small))
    assert not inference.is_replayed


def test_passes_that_draw_random_numbers_are_run(make_cell: MakeCell) -> None:
    built = trained(make_cell("banner8", arithmetic="integer"))
    built.model.register_forward_hook(lambda *_: None)
    inference = InferencePass(built, replays=True)
    assert not any(passes(built, inference))
    built = trained(make_cell("fp32"))
    layer = next(iter(built.model.children()))
    forward = layer.forward
    layer.forward = lambda x: forward(x) * (1 + 0 * random.random())
    inference = InferencePass(built, replays=True)
    assert not any(passes(built, inference)) and inference.is_settled


def test_none_is_replayed_where_that_is_off(make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    built = trained(make_cell("banner8", arithmetic="integer"))
    inference = InferencePass(built, replays=True)
    assert inference.is_settled and not any(passes(built, inference))
