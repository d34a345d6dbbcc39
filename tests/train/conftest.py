"""Cells for the tests of training and measuring."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from qbench.catalog import find_method
from qbench.cell import Cell
from qbench.train.settings import MeasureSettings, OptimizerSettings, TrainSettings

# Steps that several tests share are a module beside them.
sys.path.insert(0, str(Path(__file__).parent))

MakeCell = Callable[..., Cell]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_cell() -> MakeCell:
    """A small cell on the digits; keywords go to the cell, or where they are its training settings, there."""

    def make(method: str = "fp32", options: dict[str, object] | None = None, **changes: object) -> Cell:
        train = {name: changes.pop(name) for name in list(changes) if name in TrainSettings.model_fields}
        defaults = {
            "epochs": 2,
            "batch_size": 32,
            "max_steps_per_epoch": 4,
            "max_eval_items": 50,
            "optimizer": OptimizerSettings(lr=0.05),
        }
        found = find_method(method)
        base = {
            "suite": "test",
            "method": method,
            "label": found.label(options or {}),
            "options": found.resolve(options or {}),
            "model": "resnet8",
            "model_options": {"width": 8},
            "dataset": "digits",
            "seed": 3,
            "arithmetic": "simulated",
            "device": "cpu",
            "train": TrainSettings.model_validate(defaults | train),
            "measure": MeasureSettings(steps=3, warmup_steps=1),
        }
        return Cell.model_validate(base | changes)

    return make
