"""Ends and steps of a number format's grid, as values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from qbench.quant.formats import Affine, Binary, FixedPoint, Flag, Float, Levels, Quantizer

if TYPE_CHECKING:
    from torch import Tensor

    from qbench.quant.qtensor import QTensor


class Ends(NamedTuple):
    """The outermost codes, and the distance from each to its neighbour, in codes."""

    low: float
    high: float
    step: float


def ends(spec: Quantizer) -> Ends:
    """Of a format with a scale: codes as stored, before the zero point is taken off."""
    if isinstance(spec, Affine):
        return Ends(0, spec.largest_integer, 1)
    if isinstance(spec, FixedPoint):
        return Ends(-spec.largest_integer, spec.largest_integer - 1, 1)
    if isinstance(spec, Binary):
        return Ends(-1, 1, 2)
    # Codes of the flag format count its fine grid; the largest values lie on the coarse one.
    step = 2.0 ** (spec.bits - 1) if isinstance(spec, Flag) else 1
    return Ends(-spec.largest_integer, spec.largest_integer, step)


def clipped(q: QTensor, exact: Tensor) -> Tensor:
    """Which elements of ``exact`` lie outside the values of ``q``'s format by more than half the outermost step: so
    far that clipping and not rounding made the error. bool, of the same shape."""
    if isinstance(q.format, Float):
        return q.codes.isinf() & exact.isfinite()
    if isinstance(q.format, Levels):
        assert q.table is not None
        half = (q.table[1] - q.table[0]) / 2
        return (exact < q.table[0] - half) | (exact > q.table[-1] + half)
    assert q.scale is not None
    low, high, step = ends(q.format)
    position = exact.double() / q.scale.double() + (0.0 if q.zero_point is None else q.zero_point.double())
    return (position < low - step / 2) | (position > high + step / 2)


def spacing(spec: Quantizer) -> int:
    """How much two neighbouring codes of a format differ."""
    return 2 if isinstance(spec, Binary) else 1


def scale_of(q: QTensor) -> float:
    """The mean step between codes, in the unit of the values; NaN for a format without one (floats, level tables)."""
    if q.scale is None or not q.scale.numel():
        return math.nan
    return float(q.scale.double().mean()) * spacing(q.format)
