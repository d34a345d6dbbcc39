"""QTensor: integer codes, a scale, perhaps a zero point, and the format they are in."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from qbench.kernels.encode import look_up
from qbench.quant.formats import Levels, Quantizer


@dataclass(frozen=True)
class QTensor:
    """A quantised tensor.

    codes: integer values, any shape; simulated arithmetic holds them in float32, which represents them exactly.
    scale: float32, 0-d or broadcastable to codes. zero_point: like scale, or None for 0.
    A float format has no codes: ``codes`` are the rounded values and the scale is None.
    table: the values of a :class:`~qbench.quant.formats.Levels` grid; the codes index it.
    """

    codes: Tensor
    scale: Tensor | None
    zero_point: Tensor | None
    format: Quantizer
    table: Tensor | None = None

    def integers(self) -> Tensor:
        """Codes relative to the zero point: what integer kernels multiply (float32, integer-valued)."""
        return self.codes if self.zero_point is None else self.codes - self.zero_point

    def dequantize(self) -> Tensor:
        """scale * (codes - zero_point), or the table's values."""
        if isinstance(self.format, Levels):
            assert self.table is not None
            return look_up(self.codes, self.table)
        return self.integers() if self.scale is None else self.integers() * self.scale
