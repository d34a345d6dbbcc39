"""Exact integer products and their scaled forms. See :mod:`qbench.kernels.products` for what each promises."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cuda.convolutions import convolve, convolve_transposed
from qbench.kernels.cuda.encode import affine_parameters
from qbench.kernels.cuda.layout import dense, fresh_extremes, zero_extremes
from qbench.kernels.cuda.matrices import multiply
from qbench.kernels.cuda.outcome import Outcome
from qbench.kernels.cuda.shapes import Shape
from qbench.kernels.cuda.weight_gradients import weight_gradient
from qbench.kernels.reference.products import sum_type


def conv2d(
    x: Tensor,
    x_zero: Tensor | None,
    w: Tensor,
    w_zero: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    wide: bool,
) -> Tensor:
    """x [N, C, H, W], w [K, C / groups, R, S] -> [N, K, H', W'] int32, int64 if ``wide``."""
    shape = Shape.of(x.shape, w.shape, stride, padding, dilation, groups)
    y = dense((x.shape[0], w.shape[0], *shape.out_size), sum_type(wide), x.device)
    if y.numel():
        convolve((x, x_zero), (w, w_zero), shape, Outcome(y))
    return y


def conv2d_input_grad(
    e: Tensor,
    e_zero: Tensor | None,
    w: Tensor,
    w_zero: Tensor | None,
    input_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    wide: bool,
) -> Tensor:
    """e [N, K, H', W'], w [K, C / groups, R, S] -> ``input_shape``."""
    y = dense(input_shape, sum_type(wide), e.device)
    if y.numel():
        shape = Shape.of(input_shape, w.shape, stride, padding, dilation, groups)
        convolve_transposed((e, e_zero), (w, w_zero), shape, Outcome(y))
    return y


def conv2d_weight_grad(
    x: Tensor,
    x_zero: Tensor | None,
    e: Tensor,
    e_zero: Tensor | None,
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    wide: bool,
) -> Tensor:
    """x [N, C, H, W], e [N, K, H', W'] -> ``weight_shape``, in channels-last memory."""
    y = dense(weight_shape, sum_type(wide), x.device)
    if y.numel():
        shape = Shape.of(x.shape, weight_shape, stride, padding, dilation, groups)
        weight_gradient((x, x_zero), (e, e_zero), shape, Outcome(y))
    return y


def matmul(a: Tensor, a_zero: Tensor | None, b: Tensor, b_zero: Tensor | None, wide: bool) -> Tensor:
    """a [M, K], b [K, N] -> [M, N] int32, int64 if ``wide``."""
    y = dense((a.shape[0], b.shape[1]), sum_type(wide), a.device)
    if y.numel():
        multiply((a, a_zero), (b, b_zero), Outcome(y))
    return y


def conv2d_scaled(
    x: Tensor,
    x_zero: Tensor | None,
    x_scale: Tensor,
    w: Tensor,
    w_zero: Tensor | None,
    w_scale: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> tuple[Tensor, Tensor]:
    """float(sum) * x_scale * w_scale + bias, and [min, max] of that."""
    shape = Shape.of(x.shape, w.shape, stride, padding, dilation, groups)
    y = dense((x.shape[0], w.shape[0], *shape.out_size), torch.float32, x.device)
    if not y.numel():
        return y, zero_extremes(x.device)
    extremes = fresh_extremes(x.device)
    convolve((x, x_zero), (w, w_zero), shape, Outcome(y, (x_scale, w_scale), bias, extremes))
    return y, extremes


def conv2d_encoded(
    x: Tensor,
    x_zero: Tensor | None,
    x_scale: Tensor,
    w: Tensor,
    w_zero: Tensor | None,
    w_scale: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    low: Tensor,
    high: Tensor,
    bits: int,
    integer_zero_point: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The result of ``conv2d_scaled`` as affine codes of [low, high], uint8; scale; zero."""
    shape = Shape.of(x.shape, w.shape, stride, padding, dilation, groups)
    scale, zero = affine_parameters(low, high, bits, integer_zero_point)
    codes = dense((x.shape[0], w.shape[0], *shape.out_size), torch.uint8, x.device)
    if codes.numel():
        outcome = Outcome(codes, (x_scale, w_scale), bias, encoding=(scale, zero, 2.0**bits - 1))
        convolve((x, x_zero), (w, w_zero), shape, outcome)
    return codes, scale, zero


def conv2d_input_grad_scaled(
    e: Tensor,
    e_zero: Tensor | None,
    e_scale: Tensor,
    w: Tensor,
    w_zero: Tensor | None,
    w_scale: Tensor,
    input_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """float(sum) * e_scale * w_scale: float32 of ``input_shape``."""
    y = dense(input_shape, torch.float32, e.device)
    if y.numel():
        shape = Shape.of(input_shape, w.shape, stride, padding, dilation, groups)
        convolve_transposed((e, e_zero), (w, w_zero), shape, Outcome(y, (e_scale, w_scale)))
    return y


def add_conv2d_input_grad_(
    total: Tensor,
    e: Tensor,
    e_zero: Tensor | None,
    e_scale: Tensor,
    w: Tensor,
    w_zero: Tensor | None,
    w_scale: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> None:
    """total += the result of ``conv2d_input_grad_scaled``, float32, in the same pass."""
    if total.numel():
        shape = Shape.of(total.shape, w.shape, stride, padding, dilation, groups)
        convolve_transposed((e, e_zero), (w, w_zero), shape, Outcome(total, (e_scale, w_scale), adds=True))


def conv2d_weight_grad_scaled(
    x: Tensor,
    x_zero: Tensor | None,
    x_scale: Tensor,
    e: Tensor,
    e_zero: Tensor | None,
    e_scale: Tensor,
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """float(sum) * x_scale * e_scale: float32 of ``weight_shape``, in channels-last memory."""
    y = dense(weight_shape, torch.float32, x.device)
    if y.numel():
        shape = Shape.of(x.shape, weight_shape, stride, padding, dilation, groups)
        weight_gradient((x, x_zero), (e, e_zero), shape, Outcome(y, (x_scale, e_scale)))
    return y


def matmul_scaled(
    a: Tensor,
    a_zero: Tensor | None,
    a_scale: Tensor,
    b: Tensor,
    b_zero: Tensor | None,
    b_scale: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """float(sum) * a_scale * b_scale + bias: float32 [M, N]. b_scale: 0-d or [N]; bias: [N]."""
    y = dense((a.shape[0], b.shape[1]), torch.float32, a.device)
    if y.numel():
        multiply((a, a_zero), (b, b_zero), Outcome(y, (a_scale, b_scale), bias))
    return y
