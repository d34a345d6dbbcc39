"""The weight gradient of a layer in front of Range batch norm, whose error is a line of codes per channel.

Behind the backward pass of the norm (:mod:`qbench.kernels.blocks`) the error of filter k is slope[k] * (e - mean[k])
with the 8-bit codes e at the norm's output and their mean, less pull[k] at each chunk's maximum and with pull[k] more
at its minimum. So the gradient with that error, a float32 tensor in Banner et al.'s code, follows from one product of
8-bit codes:

    S[k, c, r, s] = sum over outputs of (x - x_zero) * e
    T[c, r, s]    = sum over outputs of (x - x_zero)
    P[k, c, r, s] = sum over the minima of k of (x - x_zero), less that over its maxima
    gradient      = x_scale * (slope[k] * (S - mean[k] * T) + pull[k] * P)

where x is what the filter's element (c, r, s) meets at the output; padding contributes 0. S, T and P are exact
integers; what is in brackets is computed in float64, each operation rounded, and then rounded to float32. So a filter
whose error is the same everywhere gets no gradient, however steep its slope. The results are the same bit for bit on
every backend.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.checks import Pair, dense, each_per_channel, per_channel, require_number, require_type
from qbench.kernels.library import ops
from qbench.kernels.product_checks import check_weight_grad, geometry


def conv2d_s8_weight_grad_line(
    x: Tensor,
    e: Tensor,
    weight_shape: Sequence[int],
    x_scale: Tensor,
    slope: Tensor,
    mean: Tensor,
    pull: Tensor,
    at: Tensor,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    x_zero: Tensor | None = None,
) -> Tensor:
    """x [N, C, H, W], e [N, K, H', W'], both uint8 -> float32 of ``weight_shape`` [K, C / groups, R, S].

    slope, pull: float32 [K], mean: float64 [K]. at: the elements of e at the chunks' maxima, then at their minima, as
    :class:`~qbench.kernels.blocks.NormGradient` has them: int64 [2 * chunks * K], i of filter i % K. Where they point
    is trusted.

    Raises TypeError and ValueError as :func:`~qbench.kernels.products.conv2d_s8_weight_grad_scaled` does, and
    ValueError where ``at`` has not as many maxima as minima of each filter.
    """
    where = check_weight_grad(x, e, weight_shape, x_zero, None, geometry(stride, padding, dilation, groups))
    require_type(x, "x", torch.uint8)
    require_type(e, "e", torch.uint8)
    require_number(x_scale, "x_scale")
    slope, pull = each_per_channel(e.shape[1], slope=slope, pull=pull)
    mean = per_channel(mean, "mean", e.shape[1], torch.float64)
    result: Tensor = ops.conv2d_weight_grad_line(
        dense(x), x_zero, x_scale, dense(e), slope, mean, pull, _extremes(at, e.shape[1]), list(weight_shape), *where
    )
    return result


def linear_s8_weight_grad_line(
    x: Tensor,
    e: Tensor,
    x_scale: Tensor,
    slope: Tensor,
    mean: Tensor,
    pull: Tensor,
    at: Tensor,
    *,
    x_zero: Tensor | None = None,
) -> Tensor:
    """:func:`conv2d_s8_weight_grad_line` of a linear layer: x [N, C], e [N, K] -> float32 [K, C]."""
    if x.dim() != 2 or e.dim() != 2:
        raise ValueError(f"x and e must have 2 dimensions, got shapes {tuple(x.shape)} and {tuple(e.shape)}")
    pixels, errors, weight_shape = x[:, :, None, None], e[:, :, None, None], (e.shape[1], x.shape[1], 1, 1)
    grad = conv2d_s8_weight_grad_line(pixels, errors, weight_shape, x_scale, slope, mean, pull, at, x_zero=x_zero)
    return grad.view(weight_shape[:2])


def _extremes(at: Tensor, filters: int) -> Tensor:
    require_type(at, "at", torch.int64)
    if at.dim() != 1 or at.numel() % (2 * filters or 1):
        raise ValueError(
            f"at must be a list of as many element indices of each of {filters} filters, twice, "
            f"got shape {tuple(at.shape)}"
        )
    return at.contiguous()
