"""How many steps of how many items a cell takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qbench.errors import DataError

if TYPE_CHECKING:
    from qbench.data import Dataset
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


def make_plan(settings: TrainSettings, num_items: int) -> Plan:
    """The plan for ``num_items`` >= 1 training items; the batch is never larger than the data."""
    batch_size = min(settings.batch_size, num_items)
    steps = num_items // batch_size
    return Plan(batch_size, min(steps, settings.max_steps_per_epoch or steps), settings.epochs)


def require_items(dataset: Dataset) -> None:
    """Raises :class:`DataError` when a split of ``dataset`` is empty."""
    splits = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for name, split in splits.items():
        if len(split) == 0:
            raise DataError(f"data set '{dataset.name}' has no {name} items; give it some or choose another data set")
