"""Sees a clock that nobody moves."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

from torch.optim import Optimizer

from qbench.nn import Converted
from qbench.nn.clock import Clock
from qbench.recipe import OnGrid, QuantizedMomentum, ShiftStep, Update

MOST_UPDATES = 3
"""At one step and micro-batch of the clock: probes make an update and take it back."""


class ClockWarning(UserWarning):
    """The clock stands while a model is trained."""


class ClockWatch:
    """Counts an optimiser's updates at one step of the clock and micro-batch: those of its first parameter, because a
    training step may update one parameter after the other. A rule that gathers gradients is called in each micro-batch.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._step = clock.step
        self._num_updates = Counter[int]()  # by micro-batch

    def __call__(self, optimizer: Optimizer, *_: Any) -> None:
        """An update begins."""
        first = next(iter(optimizer.param_groups[0]["params"]), None)
        if first is None or first.grad is None:
            return
        if self._clock.step != self._step:
            self._step = self._clock.step
            self._num_updates.clear()
        self._num_updates[self._clock.micro_batch] += 1
        if self._num_updates[self._clock.micro_batch] == MOST_UPDATES + 1:
            warnings.warn(
                f"the model's clock still stands at step {self._step}, so every step draws the same random bits: "
                "set converted.clock.step to the number of the step before each forward pass",
                ClockWarning,
                stacklevel=3,
            )


def watch_clock(optimizer: Optimizer, converted: Converted) -> None:
    """Warn once where a training loop forgets to move the clock, if anything follows it."""
    if _follows_clock(converted.recipe.update) or any(site.spec.is_stochastic for site in converted.sites()):
        optimizer.register_step_pre_hook(ClockWatch(converted.clock))


def _follows_clock(update: Update) -> bool:
    """Whether the rule draws random bits or has a schedule of its own."""
    if isinstance(update, OnGrid):
        return update.grid.is_stochastic or (update.others is not None and update.others.is_stochastic)
    return isinstance(update, QuantizedMomentum | ShiftStep)
