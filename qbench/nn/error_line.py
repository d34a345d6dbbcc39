"""An error as the line of codes that it is behind Range batch norm; see :mod:`qbench.kernels.line_gradient`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ErrorLine:
    """slope * codes + offset per channel, but ``values`` at the elements ``at``.

    codes: uint8 [N, K, H, W] or [N, K]. slope, offset: float32 [K]. at, values: as
    :class:`~qbench.kernels.blocks.NormGradient` has them.
    """

    codes: Tensor
    slope: Tensor
    offset: Tensor
    at: Tensor
    values: Tensor

    @property
    def line(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the codes stand for, as the kernels take it."""
        return self.slope, self.offset, self.at, self.values
