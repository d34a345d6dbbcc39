"""Exact integer products: convolutions, linear layers and their gradients on 8- and 16-bit codes.

Operands are uint8, int8 or int16 in any combination. The exact sum is

    sum over the reduction of (a - a_zero) * (b - b_zero)

where padding contributes 0; a zero point is a 0-d float32 tensor that holds an integer, or None for 0. A sum never
wraps: results are int32 where every sum of that length fits, int64 otherwise. With A and B the largest magnitudes of
the centred operands (uint8 255; int8 128, 255 with a zero point; int16 32768, 65535 with a zero point), int32 is
used up to a reduction of (2^31 - 1) / (A * B) terms: 33025 for uint8 times uint8, 65793 for uint8 times int8,
131071 for int8 times int8.

The ``_scaled`` forms give float32: the same exact sum, rounded once to float32 (nearest, half to even), times the first
operand's scale, times the second's, plus the bias: each operation rounded. They are exact for sums of any length.
A NaN scale (a poisoned operand) makes the result NaN.

Memory of four-dimensional operands and results is channels-last; others are copied into it first.
Every function raises TypeError for operands of another type and ValueError for shapes that do not fit together, for a
stride, padding or dilation beyond 2^30, and for images that have more than 2^31 - 1 elements with their padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from qbench.kernels.checks import Pair, dense, require_dense, require_number, require_type
from qbench.kernels.encoding import check_affine
from qbench.kernels.library import ops
from qbench.kernels.product_checks import (
    check_convolution,
    check_input_grad,
    check_matmul,
    check_weight_grad,
    geometry,
    is_wide,
    per_channels,
)


def conv2d_s8(
    x: Tensor,
    w: Tensor,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
) -> Tensor:
    """x [N, C, H, W], w [K, C / groups, R, S] -> [N, K, H', W'] exact sums over C / groups, R and S.

    H' = (H + 2 padding - dilation (R - 1) - 1) / stride + 1 rounded down, W' alike.
    """
    where = check_convolution(x, w, x_zero, w_zero, geometry(stride, padding, dilation, groups))
    wide = is_wide(w.shape[1] * w.shape[2] * w.shape[3], x, x_zero, w, w_zero)
    result: Tensor = ops.conv2d(dense(x), x_zero, dense(w), w_zero, *where, wide)
    return result


def conv2d_s8_scaled(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor,
    w_scale: Tensor,
    *,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`conv2d_s8` times x_scale (0-d) times w_scale (0-d or [K]) plus bias ([K]): float32, and its extremes.

    extremes: float32 [min, max] of the result; NaN where it holds one, 0 where it is empty.
    """
    where = check_convolution(x, w, x_zero, w_zero, geometry(stride, padding, dilation, groups))
    require_number(x_scale, "x_scale")
    w_scale, bias = per_channels(w_scale, "w_scale", bias, w.shape[0])
    result: tuple[Tensor, Tensor] = ops.conv2d_scaled(
        dense(x), x_zero, x_scale, dense(w), w_zero, w_scale, bias, *where
    )
    return result


def conv2d_s8_encoded(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor,
    w_scale: Tensor,
    low: Tensor,
    high: Tensor,
    bits: int,
    integer_zero_point: bool,
    *,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The result of :func:`conv2d_s8_scaled` as affine codes of a range that is known beforehand, rounded to nearest:
    (uint8, scale, zero) as from :func:`~qbench.kernels.encoding.encode_affine`, with no float tensor in between.

    low, high: 0-d float32. Raises ValueError for more than 8 bits.
    """
    where = check_convolution(x, w, x_zero, w_zero, geometry(stride, padding, dilation, groups))
    require_number(x_scale, "x_scale")
    check_affine(low, high, bits)
    w_scale, bias = per_channels(w_scale, "w_scale", bias, w.shape[0])
    result: tuple[Tensor, Tensor, Tensor] = ops.conv2d_encoded(
        dense(x), x_zero, x_scale, dense(w), w_zero, w_scale, bias, *where, low, high, bits, integer_zero_point
    )
    return result


def conv2d_s8_input_grad(
    e: Tensor,
    w: Tensor,
    input_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    e_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
) -> Tensor:
    """e [N, K, H', W'], w [K, C / groups, R, S] -> ``input_shape`` [N, C, H, W]: exact sums over K / groups and the
    outputs that read a pixel."""
    where = check_input_grad(e, w, input_shape, e_zero, w_zero, geometry(stride, padding, dilation, groups))
    wide = is_wide(w.shape[0] // groups * w.shape[2] * w.shape[3], e, e_zero, w, w_zero)
    result: Tensor = ops.conv2d_input_grad(dense(e), e_zero, dense(w), w_zero, list(input_shape), *where, wide)
    return result


def conv2d_s8_input_grad_scaled(
    e: Tensor,
    w: Tensor,
    input_shape: Sequence[int],
    e_scale: Tensor,
    w_scale: Tensor,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    e_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
) -> Tensor:
    """:func:`conv2d_s8_input_grad` times e_scale (0-d) times w_scale (0-d): float32 of ``input_shape``."""
    where = check_input_grad(e, w, input_shape, e_zero, w_zero, geometry(stride, padding, dilation, groups))
    require_number(e_scale, "e_scale")
    require_number(w_scale, "w_scale")
    result: Tensor = ops.conv2d_input_grad_scaled(
        dense(e), e_zero, e_scale, dense(w), w_zero, w_scale, list(input_shape), *where
    )
    return result


def add_conv2d_s8_input_grad_(
    total: Tensor,
    e: Tensor,
    w: Tensor,
    e_scale: Tensor,
    w_scale: Tensor,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    e_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
) -> None:
    """total += :func:`conv2d_s8_input_grad_scaled` of its shape, in the kernel's epilogue: one more rounding.

    total: float32, dense in channels-last memory; the gradient of a tensor that several layers read is added up in it.
    """
    require_type(total, "total", torch.float32)
    require_dense(total, "total")
    where = check_input_grad(e, w, total.shape, e_zero, w_zero, geometry(stride, padding, dilation, groups))
    require_number(e_scale, "e_scale")
    require_number(w_scale, "w_scale")
    ops.add_conv2d_input_grad_(total, dense(e), e_zero, e_scale, dense(w), w_zero, w_scale, *where)
    increment_version(total)


def conv2d_s8_weight_grad(
    x: Tensor,
    e: Tensor,
    weight_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    x_zero: Tensor | None = None,
    e_zero: Tensor | None = None,
) -> Tensor:
    """x [N, C, H, W], e [N, K, H', W'] -> ``weight_shape`` [K, C / groups, R, S]: exact sums over N, H' and W'."""
    where = check_weight_grad(x, e, weight_shape, x_zero, e_zero, geometry(stride, padding, dilation, groups))
    wide = is_wide(e.shape[0] * e.shape[2] * e.shape[3], x, x_zero, e, e_zero)
    result: Tensor = ops.conv2d_weight_grad(dense(x), x_zero, dense(e), e_zero, list(weight_shape), *where, wide)
    return result


def conv2d_s8_weight_grad_scaled(
    x: Tensor,
    e: Tensor,
    weight_shape: Sequence[int],
    x_scale: Tensor,
    e_scale: Tensor,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    x_zero: Tensor | None = None,
    e_zero: Tensor | None = None,
) -> Tensor:
    """:func:`conv2d_s8_weight_grad` times x_scale (0-d) times e_scale (0-d): float32 of ``weight_shape``."""
    where = check_weight_grad(x, e, weight_shape, x_zero, e_zero, geometry(stride, padding, dilation, groups))
    require_number(x_scale, "x_scale")
    require_number(e_scale, "e_scale")
    result: Tensor = ops.conv2d_weight_grad_scaled(
        dense(x), x_zero, x_scale, dense(e), e_zero, e_scale, list(weight_shape), *where
    )
    return result


def matmul_s8(a: Tensor, b: Tensor, *, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
    """a [M, K], b [K, N] -> [M, N] exact sums over K. Transposed views are read where they are."""
    check_matmul(a, b, a_zero, b_zero)
    wide = is_wide(a.shape[1], a, a_zero, b, b_zero)
    result: Tensor = ops.matmul(_strided(a), a_zero, _strided(b), b_zero, wide)
    return result


def matmul_s8_scaled(
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    *,
    bias: Tensor | None = None,
    a_zero: Tensor | None = None,
    b_zero: Tensor | None = None,
) -> Tensor:
    """:func:`matmul_s8` times a_scale (0-d) times b_scale (0-d or [N]) plus bias ([N]): float32 [M, N]."""
    check_matmul(a, b, a_zero, b_zero)
    require_number(a_scale, "a_scale")
    b_scale, bias = per_channels(b_scale, "b_scale", bias, b.shape[1])
    result: Tensor = ops.matmul_scaled(_strided(a), a_zero, a_scale, _strided(b), b_zero, b_scale, bias)
    return result


def linear_s8(x: Tensor, w: Tensor, *, x_zero: Tensor | None = None, w_zero: Tensor | None = None) -> Tensor:
    """x [N, C], w [K, C] -> [N, K] exact sums over C."""
    return matmul_s8(x, w.t(), a_zero=x_zero, b_zero=w_zero)


def linear_s8_scaled(
    x: Tensor,
    w: Tensor,
    x_scale: Tensor,
    w_scale: Tensor,
    *,
    bias: Tensor | None = None,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
) -> Tensor:
    """:func:`linear_s8` times x_scale (0-d) times w_scale (0-d or [K]) plus bias ([K]): float32 [N, K]."""
    return matmul_s8_scaled(x, w.t(), x_scale, w_scale, bias=bias, a_zero=x_zero, b_zero=w_zero)


def linear_s8_input_grad(e: Tensor, w: Tensor, *, e_zero: Tensor | None = None, w_zero: Tensor | None = None) -> Tensor:
    """e [N, K], w [K, C] -> [N, C] exact sums over K."""
    return matmul_s8(e, w, a_zero=e_zero, b_zero=w_zero)


def linear_s8_input_grad_scaled(
    e: Tensor,
    w: Tensor,
    e_scale: Tensor,
    w_scale: Tensor,
    *,
    e_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
) -> Tensor:
    """:func:`linear_s8_input_grad` times e_scale (0-d) times w_scale (0-d): float32 [N, C]."""
    require_number(w_scale, "w_scale")
    return matmul_s8_scaled(e, w, e_scale, w_scale, a_zero=e_zero, b_zero=w_zero)


def linear_s8_weight_grad(
    x: Tensor, e: Tensor, *, x_zero: Tensor | None = None, e_zero: Tensor | None = None
) -> Tensor:
    """x [N, C], e [N, K] -> [K, C] exact sums over N."""
    return matmul_s8(e.t(), x, a_zero=e_zero, b_zero=x_zero)


def linear_s8_weight_grad_scaled(
    x: Tensor,
    e: Tensor,
    x_scale: Tensor,
    e_scale: Tensor,
    *,
    x_zero: Tensor | None = None,
    e_zero: Tensor | None = None,
) -> Tensor:
    """:func:`linear_s8_weight_grad` times x_scale (0-d) times e_scale (0-d): float32 [K, C]."""
    require_number(e_scale, "e_scale")
    # The scales change places, not the operands: the order of the two roundings is part of the result.
    return matmul_s8_scaled(e.t(), x, x_scale, e_scale, a_zero=e_zero, b_zero=x_zero)


def _strided(x: Tensor) -> Tensor:
    """``x`` itself where it is row-major or a transposed view of that, else a copy."""
    return x if 1 in x.stride() else x.contiguous()
