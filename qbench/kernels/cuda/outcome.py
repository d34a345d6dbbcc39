"""What becomes of a product's exact sums: integers of either width, or scaled float32 (outcome.cuh)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qbench.kernels.cuda.launch import Argument, flat_grid, launch

STORE_32, SCALE, ACCUMULATE, STORE_64 = range(4)


@dataclass(frozen=True)
class Outcome:
    """Where sums go. scales: first and second scale, float32; the second 0-d or per channel, as the bias is.

    extremes: float32 [2], which the results narrow down.
    """

    y: Tensor
    scales: tuple[Tensor, Tensor] | None = None
    bias: Tensor | None = None
    extremes: Tensor | None = None

    @property
    def mode(self) -> int:
        """How a sum is stored when it is complete."""
        if self.scales is not None:
            return SCALE
        return STORE_64 if self.y.dtype == torch.int64 else STORE_32

    def scaling(self) -> tuple[Argument, ...]:
        """First scale, second scale, its step from channel to channel, bias."""
        first, second = self.scales or (None, None)
        return first, second, int(second is not None and second.dim() > 0), self.bias

    def finish(self, sums: Tensor, channels: int) -> None:
        """Store complete int64 sums, laid out as y is."""
        grid = flat_grid(sums.numel(), sums.device, per_thread=1)
        arguments = (sums, sums.numel(), channels, self.mode, self.y, *self.scaling(), self.extremes)
        launch("finish_sums", grid, *arguments, device=sums.device)
