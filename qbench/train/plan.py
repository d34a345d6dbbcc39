"""How many steps of how many items a cell takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qbench.errors import DataError

if TYPE_CHECKING:
    from qbench.train.settings import TrainSettings


@dataclass(frozen=True)
class Plan:
    """batch_size items per optimiser step; an incomplete last batch of an epoch is dropped."""

    batch_size: int
    steps_per_epoch: int
    epochs: int

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.steps_per_epoch * self.epochs


def make_plan(settings: TrainSettings, num_items: int, dataset: str) -> Plan:
    """The plan for ``num_items`` training items; the batch is never larger than the data.

    Raises :class:`DataError` when there is nothing to train on.
    """
    if num_items == 0:
        raise DataError(f"data set '{dataset}' has no training items; prepare it again or choose another data set")
    batch_size = min(settings.batch_size, num_items)
    steps = num_items // batch_size
    return Plan(batch_size, min(steps, settings.max_steps_per_epoch or steps), settings.epochs)
