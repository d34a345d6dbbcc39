"""One cell: build, train, measure.

The names below are loaded when first used: describing a cell (:mod:`qbench.cell`) needs the settings, not torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qbench.train.build import BuiltCell as BuiltCell
    from qbench.train.build import build_cell as build_cell
    from qbench.train.loop import train_cell as train_cell
    from qbench.train.measure import measure_cell as measure_cell
    from qbench.train.progress import Progress as Progress

_HOME = {
    "BuiltCell": "qbench.train.build",
    "Progress": "qbench.train.progress",
    "build_cell": "qbench.train.build",
    "measure_cell": "qbench.train.measure",
    "train_cell": "qbench.train.loop",
}

__all__ = ["BuiltCell", "Progress", "build_cell", "measure_cell", "train_cell"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'qbench.train' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
