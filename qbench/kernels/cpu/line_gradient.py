"""The weight gradient with an error that is a line of codes, in C++; see :mod:`qbench.kernels.line_gradient`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cpu.products import empty, image, multiply, weight_grad_geometry


def conv2d_weight_grad_line(
    x: Tensor,
    x_zero: Tensor | None,
    x_scale: Tensor,
    e: Tensor,
    slope: Tensor,
    mean: Tensor,
    pull: Tensor,
    at: Tensor,
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """float32 of ``weight_shape``, channels-last."""
    grad, pixels, errors = empty(weight_shape, torch.float32), image(x, x_zero, x_scale), image(e, None)
    if grad.numel():
        geometry = weight_grad_geometry(pixels, errors, weight_shape, (stride, padding, dilation, groups))
        line = (*(of.data_ptr() for of in (slope, mean, pull, at)), at.numel() // len(slope))
        multiply("conv2d_weight_grad_line", pixels, errors, grad, geometry, line=line)
    return grad
