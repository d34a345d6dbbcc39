"""Cells for the tests of training and measuring."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from digits_cells import digits_cell
from torch_settings import threads

from qbench.cell import Cell
from qbench.train.settings import MeasureSettings, OptimizerSettings

# Steps and batches that several tests share are modules beside them.
sys.path.insert(0, str(Path(__file__).parent))

MakeCell = Callable[..., Cell]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture
def make_cell() -> MakeCell:
    """A small cell on the digits; keywords go to the cell, or where they are its training settings, there."""

    def make(method: str = "fp32", options: dict[str, object] | None = None, **changes: object) -> Cell:
        defaults = {
            "epochs": 2, "batch_size": 32, "max_steps_per_epoch": 4, "max_eval_items": 50,
            "optimizer": OptimizerSettings(lr=0.05), "arithmetic": "simulated",
            "measure": MeasureSettings(steps=3, warmup_steps=1),
        }  # fmt: skip
        return digits_cell(method, options or {}, **(defaults | changes))

    return make
