"""The figures that probes share, each in float64 and defined for every tensor.

Of a tensor that is empty or holds NaN or infinity every figure is NaN: there is nothing to compare.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

RESOLUTION = 1e-15
"""What float64 leaves of a difference between equal vectors, over their length."""


def cosine(value: Tensor, exact: Tensor) -> float:
    """<v, x> / (|v| |x|), in [-1, 1]; 1 where both are zero (nothing is lost), 0 where one is."""
    v, x = flat(value), flat(exact)
    if not comparable(v, x):
        return math.nan
    lengths = norm(v), norm(x)
    if 0.0 in lengths:
        return float(lengths[0] == lengths[1])
    # Scaled to unit length first: the product of two small norms may underflow.
    return max(-1.0, min(1.0, float((v / lengths[0]) @ (x / lengths[1]))))


def angle(value: Tensor, exact: Tensor) -> float:
    """The angle between both in degrees, from 0 to 180: 2 atan2(|v/|v| - x/|x||, |v/|v| + x/|x||), which keeps its
    digits at small angles, where the arc cosine has lost them (Kahan 2006). 0 where both are zero, 90 where one is."""
    v, x = flat(value), flat(exact)
    if not comparable(v, x):
        return math.nan
    lengths = norm(v), norm(x)
    if 0.0 in lengths:
        return 0.0 if lengths[0] == lengths[1] else 90.0
    v, x = v / lengths[0], x / lengths[1]
    return math.degrees(2 * math.atan2(norm(v - x), norm(v + x)))


def sqnr(value: Tensor, exact: Tensor) -> float:
    """10 log10(|x|^2 / |x - v|^2) in dB; infinite where nothing is lost, minus infinite where all of x is zero and v
    is not."""
    v, x = flat(value), flat(exact)
    return decibels(norm(x), norm(x - v)) if comparable(v, x) else math.nan


def scaled_sqnr(value: Tensor, exact: Tensor) -> float:
    """10 log10(|x|^2 / |x - a v|^2) in dB with a = <v, x> / |v|^2, the factor that makes it largest: the ratio of a
    format whose scale does not matter, such as a binary one. It equals -10 log10(1 - cosine^2)."""
    v, x = flat(value), flat(exact)
    if not comparable(v, x):
        return math.nan
    length = norm(v)
    unit = v / length if length else v
    signal, noise = norm(x), norm(x - float(unit @ x) * unit)
    return decibels(signal, noise if noise > RESOLUTION * signal else 0.0)


def decibels(signal: float, noise: float) -> float:
    """20 log10(signal / noise) of two norms; infinite without noise, minus infinite without signal."""
    if noise == 0:
        return math.inf
    return 20 * math.log10(signal / noise) if signal else -math.inf


def share(truth: Tensor) -> float:
    """The share of true elements; NaN of none."""
    return float(truth.double().mean()) if truth.numel() else math.nan


def norm(x: Tensor) -> float:
    """The Euclidean norm, float64; without overflow or underflow of the squares."""
    largest = float(x.abs().max()) if x.numel() else 0.0
    if largest == 0 or not math.isfinite(largest):
        return largest
    return largest * float((x.double() / largest).square().sum().sqrt())


def flat(x: Tensor) -> Tensor:
    """The elements as a float64 vector, in counting order."""
    return x.detach().double().flatten()


def comparable(v: Tensor, x: Tensor) -> bool:
    """Whether both have elements and all of them are finite."""
    return bool(v.numel()) and bool(v.isfinite().all()) and bool(x.isfinite().all())
