"""An error as the line of codes that it is behind Range batch norm; see :mod:`qbench.kernels.line_gradient`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ErrorLine:
    """slope * codes + offset per channel, less ``pull`` at the chunks' maxima and with it at their minima, ``at``.

    codes: uint8 [N, K, H, W] or [N, K]. slope, offset, pull: float32 [K]. at: as
    :class:`~qbench.kernels.blocks.NormGradient` has it.
    """

    codes: Tensor
    slope: Tensor
    offset: Tensor
    pull: Tensor
    at: Tensor

    @property
    def line(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the codes stand for, as the kernels take it."""
        return self.slope, self.offset, self.pull, self.at
