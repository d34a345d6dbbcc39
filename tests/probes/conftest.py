"""Small cells on the digits, and tensors in every state that a training can bring them into."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from digits_cells import digits_cell
from torch_settings import threads

from qbench.cell import Cell, ProbeChoice
from qbench.probes import probe_names, registry
from qbench.train.settings import MeasureSettings, OptimizerSettings

MakeCell = Callable[..., Cell]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture
def all_probes() -> tuple[ProbeChoice, ...]:
    return tuple(ProbeChoice(name=name, options=registry.get(name).resolve({})) for name in probe_names())


@pytest.fixture
def make_cell() -> MakeCell:
    """A cell of two epochs of two steps; keywords go to the cell, or where they are training settings, there."""

    def make(method: str = "fp32", options: dict[str, object] | None = None, **changes: object) -> Cell:
        defaults = {
            "epochs": 2, "batch_size": 16, "max_steps_per_epoch": 2, "max_eval_items": 20,
            "optimizer": OptimizerSettings(lr=0.05, weight_decay=1e-4), "arithmetic": "integer",
            "measure": MeasureSettings(enabled=False),
        }  # fmt: skip
        return digits_cell(method, options or {}, **(defaults | changes))

    return make
