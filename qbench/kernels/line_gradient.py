"""The weight gradient of a layer in front of Range batch norm, whose error is a line of codes per channel.

Behind the backward pass of the norm (:mod:`qbench.kernels.blocks`) the error of filter k is slope[k] * e + offset[k]
with the 8-bit codes e at the norm's output, but for the few elements that the norm's extremes replace by other values.
So the gradient with that error, a float32 tensor in Banner et al.'s code, follows from one product of 8-bit codes:

    S[k, c, r, s] = sum (x - x_zero) * e            T[c, r, s] = sum (x - x_zero)       over outputs, exact integers
    R[k, c, r, s] = sum over the replaced elements of k of (value - (slope[k] * e + offset[k])) * (x - x_zero)
    gradient      = x_scale * (slope[k] * S + offset[k] * T + R)

where x is what the filter's element (c, r, s) meets at the output; padding contributes 0. The line is computed in
float64 and rounded to float32, and so is the factor in R; R adds up in float32 in the order of the elements; each
operation is rounded. The results are the same bit for bit on every backend.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.checks import Pair, dense, per_channel, require_like, require_number, require_type
from qbench.kernels.library import ops
from qbench.kernels.product_checks import check_weight_grad, geometry


def conv2d_s8_weight_grad_line(
    x: Tensor,
    e: Tensor,
    weight_shape: Sequence[int],
    x_scale: Tensor,
    slope: Tensor,
    offset: Tensor,
    at: Tensor,
    values: Tensor,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    x_zero: Tensor | None = None,
) -> Tensor:
    """x [N, C, H, W], e [N, K, H', W'], both uint8 -> float32 of ``weight_shape`` [K, C / groups, R, S].

    slope, offset: float32 [K]. at, values: replaced elements as :class:`~qbench.kernels.blocks.NormGradient` has them,
    one after another of each filter: i belongs to filter i % K; an element of the second half at the place of the one
    with its number in the first half is the same one. Where they point is trusted.

    Raises TypeError and ValueError as :func:`~qbench.kernels.products.conv2d_s8_weight_grad_scaled` does, and
    ValueError where the replaced elements are not as many of each filter in both halves.
    """
    where = check_weight_grad(x, e, weight_shape, x_zero, None, geometry(stride, padding, dilation, groups))
    require_type(x, "x", torch.uint8)
    require_type(e, "e", torch.uint8)
    require_number(x_scale, "x_scale")
    slope, offset = (per_channel(of, name, e.shape[1]) for of, name in ((slope, "slope"), (offset, "offset")))
    at, values = _replaced(at, values, e.shape[1])
    result: Tensor = ops.conv2d_weight_grad_line(
        dense(x), x_zero, x_scale, dense(e), slope, offset, at, values, list(weight_shape), *where
    )
    return result


def linear_s8_weight_grad_line(
    x: Tensor,
    e: Tensor,
    x_scale: Tensor,
    slope: Tensor,
    offset: Tensor,
    at: Tensor,
    values: Tensor,
    *,
    x_zero: Tensor | None = None,
) -> Tensor:
    """:func:`conv2d_s8_weight_grad_line` of a linear layer: x [N, C], e [N, K] -> float32 [K, C]."""
    if x.dim() != 2 or e.dim() != 2:
        raise ValueError(f"x and e must have 2 dimensions, got shapes {tuple(x.shape)} and {tuple(e.shape)}")
    pixels, errors, weight_shape = x[:, :, None, None], e[:, :, None, None], (e.shape[1], x.shape[1], 1, 1)
    grad = conv2d_s8_weight_grad_line(pixels, errors, weight_shape, x_scale, slope, offset, at, values, x_zero=x_zero)
    return grad.view(weight_shape[:2])


def _replaced(at: Tensor, values: Tensor, filters: int) -> tuple[Tensor, Tensor]:
    require_type(at, "at", torch.int64)
    require_type(values, "values", torch.float32)
    if at.dim() != 1 or at.numel() % (2 * filters or 1):
        raise ValueError(
            f"at must be a list of as many element indices of each of {filters} filters, twice, "
            f"got shape {tuple(at.shape)}"
        )
    require_like(values, "values", at, "at")
    return at.contiguous(), values.contiguous()
