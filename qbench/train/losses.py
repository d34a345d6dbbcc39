"""The training losses of a run, and the exact step at which they stop being finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CUDA_INTERVAL = 16


class DivergedError(Exception):
    """A loss is NaN or infinite. step: the optimiser step, counted from 0, with the first such loss."""

    def __init__(self, step: int, loss: float, where: str = "training") -> None:
        super().__init__(f"the {where} loss became {loss} at step {step}")
        self.step = step


class LossLog:
    """Collects one loss per step; raises :class:`DivergedError` with the first step whose loss is not finite.

    On the CPU every loss is read at once. On CUDA reading one waits for the device, so they are read ``CUDA_INTERVAL``
    at a time: the run may go on for that many steps after it diverged, the step reported is exact all the same.
    """

    def __init__(self, device: torch.device) -> None:
        self.interval = CUDA_INTERVAL if device.type == "cuda" else 1
        self.newest: float | None = None
        self._waiting: list[tuple[int, Tensor]] = []
        self._sum = 0.0
        self._count = 0

    def add(self, step: int, loss: Tensor) -> None:
        """Note the loss (a scalar tensor) of optimiser step ``step``."""
        self._waiting.append((step, loss.detach()))
        if len(self._waiting) >= self.interval:
            self.read()

    def read(self) -> None:
        """Read the losses still on the device."""
        if not self._waiting:
            return
        steps, tensors = zip(*self._waiting, strict=True)
        self._waiting = []
        values = [tensors[0].item()] if len(tensors) == 1 else torch.stack(tensors).tolist()
        for step, value in zip(steps, values, strict=True):
            if not math.isfinite(value):
                raise DivergedError(step, value)
            self._sum += value
        self._count += len(values)
        self.newest = values[-1]

    def take_mean(self) -> float:
        """The mean since the last call; at least one loss must have been added."""
        self.read()
        mean = self._sum / self._count
        self._sum, self._count = 0.0, 0
        return mean
