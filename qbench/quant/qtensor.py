"""QTensor: integer codes, a scale, perhaps a zero point, and the format they are in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qbench.kernels.encoding import decode, look_up
from qbench.quant.formats import Affine, Float, Levels, Quantizer

PRODUCT_TYPES = (torch.uint8, torch.int8, torch.int16)
"""What the integer products take."""


@dataclass(frozen=True)
class QTensor:
    """A quantised tensor.

    codes: of any shape, stored in the format's ``code_dtype``. scale: float32, 0-d or broadcastable to codes; NaN
    poisons the tensor: all its values are NaN. zero_point: like scale, or None for 0.
    A float format has no codes: ``codes`` are the rounded values in that float type and the scale is None.
    table: the values of a :class:`~qbench.quant.formats.Levels` grid; the codes index it.
    """

    codes: Tensor
    scale: Tensor | None
    zero_point: Tensor | None
    format: Quantizer
    table: Tensor | None = None

    @property
    def is_integral(self) -> bool:
        """Whether the values are one scale times integers. Not so for floats, tables, and the affine scheme whose
        zero point lies between codes."""
        between_codes = isinstance(self.format, Affine) and self.format.scheme == "min_offset"
        return not (between_codes or isinstance(self.format, Float | Levels))

    @property
    def multiplies(self) -> bool:
        """Whether the integer products take it as a factor."""
        return self.is_integral and self.codes.dtype in PRODUCT_TYPES

    def integers(self) -> Tensor:
        """Codes relative to the zero point, as float32."""
        codes = self.codes.float()
        return codes if self.zero_point is None else codes - self.zero_point

    def dequantize(self) -> Tensor:
        """scale * (codes - zero_point), or the table's values: float32."""
        if isinstance(self.format, Levels):
            assert self.table is not None
            return look_up(self.codes, self.table)
        if self.scale is None:
            return self.codes.float()
        return decode(self.codes, self.scale, self.zero_point)


def dequantize(q: QTensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The values of ``q`` in a float type. Raises TypeError for any other."""
    if not dtype.is_floating_point:
        raise TypeError(f"dtype must be a float type, got {dtype}")
    return q.dequantize().to(dtype)
