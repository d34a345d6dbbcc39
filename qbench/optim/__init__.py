"""Update rules: how a recipe's weights change, given the suite's optimiser settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from qbench.errors import InputError
from qbench.nn import Converted
from qbench.nn.layers import QuantizedLayer
from qbench.optim import clipped_master, on_grid, quantized_momentum, shift_step
from qbench.optim.base import OptimizerConfig, suite_optimizer
from qbench.optim.clock_watch import watch_clock
from qbench.recipe import ClippedMaster, OnGrid, QuantizedMomentum, Recipe, ShiftStep, Update

__all__ = ["OptimizerConfig", "build_optimizer", "optimizer_bytes"]

BUILDERS: dict[type[Update], Callable[[Converted, Any, OptimizerConfig], Optimizer]] = {
    Update: lambda converted, _, settings: suite_optimizer(converted, settings),
    ClippedMaster: clipped_master.build,
    OnGrid: on_grid.build,
    QuantizedMomentum: quantized_momentum.build,
    ShiftStep: shift_step.build,
}


def build_optimizer(converted: Converted, recipe: Recipe, settings: OptimizerConfig) -> Optimizer:
    """The optimiser that applies the recipe's update rule to ``converted``'s parameters.

    Every parameter group holds its learning rate before the schedule as ``base_lr``; the training loop sets ``lr``.
    The rule may change the weights at once (project them onto its grid), always in the same way for one seed.
    Updates whose clock nobody moves give a :class:`~qbench.optim.clock_watch.ClockWarning`.
    Raises InputError for an update of no class known here.
    """
    if type(recipe.update) not in BUILDERS:
        raise InputError(
            f"the recipe's update is {type(recipe.update).__name__}, which qbench has no rule for: take one of its own"
        )
    optimizer = BUILDERS[type(recipe.update)](converted, recipe.update, settings)
    watch_clock(optimizer, converted)
    return optimizer


def optimizer_bytes(optimizer: Optimizer, converted: Converted) -> int:
    """Bytes of training state beside the inference checkpoint, in the method's own storage format: the optimiser's
    state, and a master copy of each weight that the checkpoint holds in fewer bits."""
    update = converted.recipe.update
    if isinstance(optimizer, quantized_momentum.QuantizedMomentumOptimizer):
        return optimizer.storage_bytes()
    state = sum(
        value.numel() * value.element_size()
        for slots in optimizer.state.values()
        for value in slots.values()
        if isinstance(value, torch.Tensor)
    )
    if isinstance(optimizer, shift_step.ShiftStepOptimizer):
        return state + optimizer.master_bytes()
    return state if isinstance(update, OnGrid) else state + _master_bytes(converted)


def _master_bytes(converted: Converted) -> int:
    layers = (layer for _, layer in converted.layers() if isinstance(layer, QuantizedLayer))
    return sum(
        layer.weight.numel() * layer.weight.element_size()
        for layer in layers
        if layer.weight_site is not None and layer.inference_weight == "quantized"
    )
