"""Batch norm on direct grids (Yang et al. 2020) and its gradient; every pass normalises the float32 rows anew.

Per channel and element: z = (x - mean) * inverse, t = clip(round(z * unit), -top, top) and the value
slope * t + offset, each operation rounded to float32; then max(value, 0) if ``relu``. The gradient's m is g (or its
codes times their scale) where the value before the ReLU is positive, 0 elsewhere (all of it without ``relu``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.checks import dense
from qbench.kernels.reference import encode
from qbench.kernels.reference.encode import extremes, number
from qbench.kernels.reference.packing import marks
from qbench.kernels.reference.passes import per_channel, rows_of


def direct_line(
    mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, grids: Sequence[float], unit: float, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(mean on its grid, inverse, slope, offset, weight on its grid, 1 / deviation or 0, mean's shift by rounding)."""
    exact, deviation = mean.float(), variance.sqrt().float()
    used = _rounded(exact, *grids[:2])
    inverse = 1 / (_rounded(deviation, *grids[2:4]) + number(eps, deviation))
    weight, offset = (_rounded(values, *grids[4:]) for values in (weight, bias))
    over_deviation = torch.where(deviation > 0, 1 / deviation, 0.0)
    return used, inverse, weight / number(unit, weight), offset, weight, over_deviation, exact - used


def direct_gradient_line(
    sums: Tensor, rows: int, unit: float, inverse: Tensor, weight: Tensor, over_deviation: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(gradient of the weight, of the bias, and a, b, c of :func:`direct_gradient`), in float64 until they are done."""
    count = torch.full((), float(rows), dtype=torch.float64, device=sums.device)
    pull = sums[2] / count * over_deviation.double()
    a = weight.double() * inverse.double()
    b = a * (shift.double() * pull - sums[0] / count)
    c = -(weight.double() * pull)
    return (sums[1] / unit).float(), sums[0].float(), a.float(), b.float(), c.float()


def direct_view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool,
    trunk: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """relu(value + trunk), and the packed bits [relu(...) > 0] if ``relu``."""
    value = _value(_on_grid(_normalised(x, mean, inverse), unit, top), slope, offset)
    if trunk is not None:
        value = value + trunk
    if not relu:
        return dense(value), torch.empty(0, dtype=torch.uint8, device=x.device)
    value = dense(value.clamp(min=0))
    return value, marks(value > 0)


def encode_direct_view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool,
    scale: float, low: float, high: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Codes clip(round(relu(value) / scale), low, high) in ``dtype``, and the scale, NaN where a value is."""
    value, _ = direct_view(x, mean, inverse, unit, top, slope, offset, relu, None)
    return encode.encode_scaled(value, number(scale, x), "fixed", 1.0, low, high, "nearest", None, dtype)


def direct_gradient_sums(
    g: Tensor, g_scale: Tensor | None, x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor,
    offset: Tensor, relu: bool,
) -> Tensor:  # fmt: skip
    """float64 [3, C]: the sums of m, of m * t and of m * z."""
    z = _normalised(x, mean, inverse)
    t = _on_grid(z, unit, top)
    m = rows_of(_masked(g, g_scale, _value(t, slope, offset), relu)).double()
    return torch.stack([m.sum(0), (m * rows_of(t)).sum(0), (m * rows_of(z)).sum(0)])


def direct_gradient(
    g: Tensor, g_scale: Tensor | None, x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor,
    offset: Tensor, relu: bool, a: Tensor, b: Tensor, c: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(a * m + b) + c * z, each operation rounded to float32, and its extremes."""
    z = _normalised(x, mean, inverse)
    m = _masked(g, g_scale, _value(_on_grid(z, unit, top), slope, offset), relu)
    a, b, c = (per_channel(values, x) for values in (a, b, c))
    result = dense((a * m + b) + c * z)
    return result, extremes(result)


def _rounded(x: Tensor, steps: float, top: float) -> Tensor:
    """On the grid of ``steps`` steps per unit, within +-top steps."""
    return _on_grid(x, steps, top) / number(steps, x)


def _normalised(x: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
    return (x - per_channel(mean, x)) * per_channel(inverse, x)


def _on_grid(z: Tensor, unit: float, top: float) -> Tensor:
    return (z * number(unit, z)).round().clamp(-top, top)  # which pass NaN on


def _value(t: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    return per_channel(slope, t) * t + per_channel(offset, t)


def _masked(g: Tensor, g_scale: Tensor | None, value: Tensor, relu: bool) -> Tensor:
    gradient = g if g_scale is None else g.float() * g_scale
    return torch.where(value > 0, gradient, 0.0) if relu else gradient
