"""Updates within the backward pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from qbench.cell import Cell
from qbench.nn import layers
from qbench.train import step as step_module
from qbench.train.build import build_cell
from qbench.train.settings import OptimizerSettings, ScheduleSettings
from qbench.train.step import TrainStep

STEPS = 4


def weights_after(
    make_cell: Callable[..., Cell], method: str, name: str, large: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Tensor], list[int]]:
    """State after some steps, and how many gradients existed when the update after each backward pass began."""
    monkeypatch.setattr(step_module, "LARGE_BYTES", large)
    monkeypatch.setattr(layers, "MANY_CODES", 1)  # the backward pass makes codes of weights again
    optimizer = OptimizerSettings(name=name, lr=0.01, weight_decay=1e-3)  # type: ignore[arg-type]
    built = build_cell(make_cell(method, optimizer=optimizer, arithmetic="integer"))
    train_step, left = TrainStep(built), []
    images, labels = built.to_device(*built.dataset.train.batch(torch.arange(16).numpy(), None))
    built.model.train()
    for step in range(STEPS):
        loss = train_step.forward(step, images, labels)
        train_step.update(loss)
        left.append(sum(p.grad is not None for p in built.model.parameters()))
    assert all(not p._post_accumulate_grad_hooks for p in built.model.parameters())  # type: ignore[attr-defined]
    return [t.detach().clone() for t in built.state()], left


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("method", ["fp32", "banner8", "graham", "binaryconnect", "sr", "wageubn"])
def test_the_order_of_updates_changes_no_weight(
    method: str, name: str, make_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    late, all_left = weights_after(make_cell, method, name, 10**9, monkeypatch)
    early, few_left = weights_after(make_cell, method, name, 1, monkeypatch)
    assert len(late) == len(early) and all(torch.equal(a, b) for a, b in zip(late, early, strict=True))
    if method in ("fp32", "banner8", "graham", "binaryconnect"):
        assert few_left == [0] * STEPS < all_left
    else:  # update rules of their own wait for all gradients
        assert few_left == all_left


@pytest.mark.parametrize("method", ["fp32", "binaryconnect", "wage"])
def test_every_group_follows_the_schedule_from_its_own_rate(method: str, make_cell: Callable[..., Cell]) -> None:
    built = build_cell(make_cell(method, schedule=ScheduleSettings(name="cosine")))
    train_step = TrainStep(built)
    batch = built.to_device(*built.dataset.train.batch(torch.arange(16).numpy(), None))
    for step in (0, 3, 6):
        train_step.forward(step, *batch)
        for group in built.optimizer.param_groups:
            assert group["lr"] == group["base_lr"] * train_step.lr_factor(step)
    assert train_step.lr_factor(6) < train_step.lr_factor(3) < 1


def test_scaled_gradients_are_applied_when_all_are_there(
    make_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not finite keeps all parameters from being changed."""
    monkeypatch.setattr(step_module, "LARGE_BYTES", 1)
    built = build_cell(make_cell("bf16", {"dtype": "float16"}))
    train_step = TrainStep(built)
    images, labels = built.to_device(*built.dataset.train.batch(torch.arange(16).numpy(), None))
    train_step.update(train_step.forward(0, images, labels))
    assert all(p.grad is not None for p in built.model.parameters())


def test_the_clock_knows_the_training(make_cell: Callable[..., Cell]) -> None:
    """Its length, which schedules of update rules depend on, and where its random bits come from."""
    for generator in ("philox", "hash"):
        clock = build_cell(make_cell("sr", epochs=3, max_steps_per_epoch=4, random_bits=generator)).converted.clock
        assert (clock.total_steps, clock.seed, clock.generator) == (12, 3, generator)
