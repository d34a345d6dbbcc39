"""Passes over channels-last tensors: statistics, encoding and masks of codes seen through a view.

A view reads codes as values: slope[c] * code + offset[c], each operation rounded to float32, then max(value, 0) if
``relu``. Rows are the elements of one channel: N * H * W of a 4-D tensor, N of a 2-D one; channels are dimension 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.checks import dense
from qbench.kernels.random import counted, uncounted
from qbench.kernels.reference import encode
from qbench.kernels.reference.encode import extremes, look_up
from qbench.kernels.reference.packing import marked, marks


def chunk_statistics(codes: Tensor, chunks: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rows split in ``chunks`` equal consecutive parts -> sums int64 [C], lowest and highest codes uint8 [chunks, C],
    and the rows that first attain them, int64 [chunks, C]. Zeros where there are no rows."""
    rows = rows_of(codes).long()
    count, channels = rows.shape
    if not count:
        empty = rows.new_zeros((chunks, channels))
        return rows.sum(0), empty.to(torch.uint8), empty.to(torch.uint8), empty, empty.clone()
    parts = rows.view(chunks, count // chunks, channels)
    starts = torch.arange(chunks, device=codes.device)[:, None] * (count // chunks)
    lows, highs = parts.amin(1), parts.amax(1)
    low_at, high_at = (_first(parts == ends[:, None]) + starts for ends in (lows, highs))
    return rows.sum(0), lows.to(torch.uint8), highs.to(torch.uint8), low_at, high_at


def encode_affine_view(
    codes: Tensor,
    slope: Tensor,
    offset: Tensor,
    relu: bool,
    low: Tensor,
    high: Tensor,
    bits: int,
    integer_zero_point: bool,
    key: Sequence[int] | None,
    at: Tensor | None,
    values: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`encode_affine` of the view, in which element at[p] has the value values[p] instead."""
    view = _replaced(_view(codes, slope, offset, relu), at, values)
    return encode.encode_affine(view, low, high, bits, integer_zero_point, key)


def encode_scaled_view(
    codes: Tensor,
    slope: Tensor,
    offset: Tensor,
    relu: bool,
    magnitude: Tensor,
    kind: str,
    divisor: float,
    low: float,
    high: float,
    rounding: str,
    key: Sequence[int] | None,
    dtype: torch.dtype,
    at: Tensor | None,
    values: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """:func:`encode_scaled` of the view, in which element at[p] has the value values[p] instead."""
    view = _replaced(_view(codes, slope, offset, relu), at, values)
    return encode.encode_scaled(view, magnitude, kind, divisor, low, high, rounding, key, dtype)


def view_extremes(
    codes: Tensor, slope: Tensor, offset: Tensor, relu: bool, at: Tensor | None, values: Tensor | None
) -> Tensor:
    """[min, max] of the view, in which element at[p] has the value values[p] instead."""
    return extremes(_replaced(_view(codes, slope, offset, relu), at, values))


def affine_view(
    codes: Tensor, slope: Tensor, offset: Tensor, relu: bool, trunk: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """value = relu(slope * code + offset + trunk), its extremes, and the packed bits [value > 0] if ``relu``."""
    return _finished(_linear(codes.float(), slope, offset), relu, trunk)


def apply_mask(g: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """``g`` where its bit is set, else 0; and the extremes of that."""
    y = torch.where(marked(mask, g), g, 0.0)
    return y, extremes(y)


def rectify(x: Tensor, trunk: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """max(x + trunk, 0), its extremes, and the packed bits of what is not 0."""
    value = dense((x if trunk is None else x + trunk).clamp(min=0))
    return value, extremes(value), marks(value != 0)


def join_gradients(codes: Tensor, scale: Tensor, g: Tensor | None, mask: Tensor | None) -> Tensor:
    """scale * codes, plus g, where their bit is set, else 0."""
    y = codes.float() * scale
    y = y if g is None else g + y
    return dense(y if mask is None else torch.where(marked(mask, y), y, 0.0))


def view_gradient_extremes(g: Tensor, codes: Tensor, slope: Tensor, offset: Tensor, relu: bool) -> Tensor:
    """[min, max] of g where slope * code + offset is positive, 0 elsewhere; of all of g without ``relu``."""
    return extremes(_masked(g, _linear(codes.float(), slope, offset), relu))


def encode_view_gradient_(
    g: Tensor,
    codes: Tensor,
    slope: Tensor,
    offset: Tensor,
    relu: bool,
    low: Tensor,
    high: Tensor,
    bits: int,
    integer_zero_point: bool,
    key: Sequence[int] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`encode_affine` of that masked gradient over the codes; scale, zero, and int64 [2, C]: the sums of the new
    codes e and of e * code."""
    masked = _masked(g, _linear(codes.float(), slope, offset), relu)
    e, scale, zero = encode.encode_affine(masked, low, high, bits, integer_zero_point, key)
    rows = rows_of(e).long()
    sums = torch.stack([rows.sum(0), (rows * rows_of(codes).long()).sum(0)])
    codes.copy_(e)
    return scale, zero, sums


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Per channel: mean and biased variance float64 [C], min and max float32 [C]. Zeros where there are no rows."""
    rows = rows_of(x)
    if not rows.shape[0]:
        zeros = rows.new_zeros(rows.shape[1])
        return zeros.double(), zeros.double(), zeros, zeros.clone()
    mean = rows.double().mean(0)
    return mean, (rows.double() - mean).square().mean(0), rows.amin(0), rows.amax(0)


def move_average_(average: Tensor, value: Tensor, weight: float) -> None:
    """average + weight * (value - average), from the other end where ``weight`` is 1/2 or more; each operation rounded
    to float32, ``value`` first."""
    value = value.float()
    step = value - average
    if weight < 0.5:
        average.copy_(average + encode.number(weight, average) * step)
    else:
        average.copy_(value - encode.number(1 - weight, average) * step)


def level_line(
    mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, rows: int, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(mean, inverse, slope, offset, unbiased variance), in float64 until they are done."""
    inverse = (1 / (variance + eps).sqrt()).float()
    return mean.float(), inverse, weight.clone(), bias + 0 * inverse, (variance * (rows / max(rows - 1, 1))).float()


def level_gradient_line(
    sums: Tensor, rows: int, inverse: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(gradient of the weight, of the bias, and a, b, c of :func:`level_gradient`), in float64 until they are done."""
    count = torch.full((), float(rows), dtype=torch.float64, device=sums.device)
    a = weight.double() * inverse.double()
    b, c = -(a * sums[0]) / count, -(a * sums[1]) / count
    return sums[1].float(), sums[0].float(), a.float(), b.float(), c.float()


def encode_normalised_levels(x: Tensor, mean: Tensor, inverse: Tensor, thresholds: Tensor) -> Tensor:
    """:func:`encode_levels` of (x - mean) * inverse per channel, each operation rounded to float32."""
    return encode.encode_levels((x - per_channel(mean, x)) * per_channel(inverse, x), thresholds)


def level_view(
    codes: Tensor, table: Tensor, slope: Tensor, offset: Tensor, relu: bool, trunk: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`affine_view` with table[code] in place of the code."""
    return _finished(_linear(look_up(codes, table), slope, offset), relu, trunk)


def level_gradient_sums(g: Tensor, codes: Tensor, table: Tensor, slope: Tensor, offset: Tensor, relu: bool) -> Tensor:
    """float64 [2, C]: the sums of m and of m * table[code], with m = g where slope * table[code] + offset is positive,
    0 elsewhere (m = g without ``relu``)."""
    q = look_up(codes, table)
    m = rows_of(_masked(g, _linear(q, slope, offset), relu)).double()
    return torch.stack([m.sum(0), (m * rows_of(q).double()).sum(0)])


def level_gradient(
    g: Tensor,
    codes: Tensor,
    table: Tensor,
    slope: Tensor,
    offset: Tensor,
    relu: bool,
    a: Tensor,
    b: Tensor,
    c: Tensor,
) -> Tensor:
    """(a * m + b) + c * table[code], each operation rounded to float32; m as above, a, b, c float32 [C]."""
    q = look_up(codes, table)
    m = _masked(g, _linear(q, slope, offset), relu)
    return dense((per_channel(a, g) * m + per_channel(b, g)) + per_channel(c, g) * q)


def rows_of(x: Tensor) -> Tensor:
    """[rows, C]."""
    order = counted(x)
    return order.reshape(order.shape[:-1].numel(), x.shape[1])


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """A value per channel [C] as it meets [N, C] or [N, C, H, W]."""
    return values.view(1, -1, 1, 1) if like.dim() == 4 else values


def _linear(values: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    return values * per_channel(slope, values) + per_channel(offset, values)


def _view(codes: Tensor, slope: Tensor, offset: Tensor, relu: bool) -> Tensor:
    value = _linear(codes.float(), slope, offset)
    return value.clamp(min=0) if relu else value


def _replaced(view: Tensor, at: Tensor | None, values: Tensor | None) -> Tensor:
    if at is None or values is None:
        return view
    flat = counted(view).flatten().index_put((at,), values)
    return uncounted(flat.view(counted(view).shape), view)


def _finished(value: Tensor, relu: bool, trunk: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    if trunk is not None:
        value = value + trunk
    if not relu:
        return dense(value), extremes(value), torch.empty(0, dtype=torch.uint8, device=value.device)
    value = dense(value.clamp(min=0))
    return value, extremes(value), marks(value > 0)


def _masked(g: Tensor, value: Tensor, relu: bool) -> Tensor:
    return torch.where(value > 0, g, 0.0) if relu else g


def _first(truth: Tensor) -> Tensor:
    """Index along dimension 1 of the first true element (there is one)."""
    count = truth.shape[1]
    places = torch.arange(count, device=truth.device)[None, :, None]
    return torch.where(truth, places, count).amin(1)
