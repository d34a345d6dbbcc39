"""An error as the line of codes that it is behind Range batch norm; see :mod:`qbench.kernels.line_gradient`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from qbench.kernels.blocks import NormGradient


@dataclass(frozen=True)
class ErrorLine:
    """slope * (codes - mean) per channel, less ``pull`` at the chunks' maxima and with it at their minima, ``at``.

    codes: uint8 [N, K, H, W] or [N, K]. slope, pull: float32 [K], mean: float64 [K]. at: as
    :class:`~qbench.kernels.blocks.NormGradient` has it.
    """

    codes: Tensor
    slope: Tensor
    mean: Tensor
    pull: Tensor
    at: Tensor

    @classmethod
    def of(cls, found: NormGradient) -> ErrorLine:
        """That behind a norm's backward pass."""
        return cls(found.codes, found.slope, found.mean, found.pull, found.at)

    @property
    def line(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the codes stand for, as the kernels take it."""
        return self.slope, self.mean, self.pull, self.at
