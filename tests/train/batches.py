"""Batches of a cell's training split, without augmentation."""

from __future__ import annotations

import torch
from torch import Tensor

from qbench.train.build import BuiltCell

BATCH = 32


def batch_of(built: BuiltCell, number: int) -> tuple[Tensor, Tensor]:
    indices = torch.arange(number * BATCH, (number + 1) * BATCH).numpy()
    return built.to_device(*built.dataset.train.batch(indices, None))
