"""What becomes of a product's exact sums: integers of either width, scaled float32, or codes of that (outcome.cuh)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qbench.kernels.cuda.launch import Argument, flat_grid, launch

STORE_32, SCALE, ACCUMULATE, STORE_64, ENCODE, ADD = range(6)


@dataclass(frozen=True)
class Outcome:
    """Where sums go. scales: first and second scale, float32; the second 0-d or per channel, as the bias is.

    extremes: float32 [2], which the results narrow down. encoding: scale, zero and largest code, for results as uint8.
    adds: scaled results, to what y holds.
    """

    y: Tensor
    scales: tuple[Tensor, Tensor] | None = None
    bias: Tensor | None = None
    extremes: Tensor | None = None
    encoding: tuple[Tensor, Tensor, float] | None = None
    adds: bool = False

    @property
    def mode(self) -> int:
        """How a sum is stored when it is complete."""
        if self.encoding is not None:
            return ENCODE
        if self.adds:
            return ADD
        if self.scales is not None:
            return SCALE
        return STORE_64 if self.y.dtype == torch.int64 else STORE_32

    def scaling(self) -> tuple[Argument, ...]:
        """First scale, second scale, its step from channel to channel, bias."""
        first, second = self.scales or (None, None)
        return first, second, int(second is not None and second.dim() > 0), self.bias

    def ending(self) -> tuple[Argument, ...]:
        """What becomes of scaled results: scale, zero and largest code; extremes."""
        return *(self.encoding or (None, None, 0.0)), self.extremes

    def finish(self, sums: Tensor, channels: int) -> None:
        """Store complete int64 sums, laid out as y is."""
        grid = flat_grid(sums.numel(), sums.device, per_thread=1)
        arguments = (sums, sums.numel(), channels, self.mode, self.y, *self.scaling(), *self.ending())
        launch("finish_sums", grid, *arguments, device=sums.device)
