"""Small cells on the digits, and tensors in every state that a training can bring them into."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from qbench.catalog import find_method
from qbench.cell import Cell, ProbeChoice
from qbench.probes import probe_names, registry
from qbench.train.settings import MeasureSettings, OptimizerSettings, TrainSettings

MakeCell = Callable[..., Cell]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def all_probes() -> tuple[ProbeChoice, ...]:
    return tuple(ProbeChoice(name=name, options=registry.get(name).resolve({})) for name in probe_names())


@pytest.fixture
def make_cell() -> MakeCell:
    """A cell of two epochs of two steps; keywords go to the cell, or where they are training settings, there."""

    def make(method: str = "fp32", options: dict[str, object] | None = None, **changes: object) -> Cell:
        train = {name: changes.pop(name) for name in list(changes) if name in TrainSettings.model_fields}
        defaults = {
            "epochs": 2, "batch_size": 16, "max_steps_per_epoch": 2, "max_eval_items": 20,
            "optimizer": OptimizerSettings(lr=0.05, weight_decay=1e-4),
        }  # fmt: skip
        base = {
            "suite": "test", "method": method, "label": method, "options": find_method(method).resolve(options or {}),
            "model": "resnet8", "model_options": {"width": 8}, "dataset": "digits", "seed": 3, "device": "cpu",
            "arithmetic": "integer", "train": TrainSettings.model_validate(defaults | train),
            "measure": MeasureSettings(enabled=False),
        }  # fmt: skip
        return Cell.model_validate(base | changes)

    return make
