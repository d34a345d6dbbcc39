"""Max pooling in C++: as :mod:`qbench.kernels.reference.pooling`, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cpu.calls import call, numbers


def max_pool2d(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """y, window."""
    height, width = ((x.shape[2 + i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    y = torch.empty((*x.shape[:2], height, width), dtype=torch.float32, memory_format=torch.channels_last)
    window = torch.empty_like(y, dtype=torch.uint8)
    geometry = numbers(*x.shape[2:], height, width, *kernel, *stride, *padding)
    call("max_pool", x.data_ptr(), x.shape[0], x.shape[1], geometry, y.data_ptr(), window.data_ptr())
    return y, window


def max_pool2d_backward(
    g: Tensor,
    window: Tensor,
    input_shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """Gradient of the input."""
    n, c, height, width = input_shape
    grad = torch.empty((n, c, height, width), dtype=torch.float32, memory_format=torch.channels_last)
    geometry = numbers(height, width, *g.shape[2:], *kernel, *stride, *padding)
    call("max_pool_backward", g.data_ptr(), window.data_ptr(), n, c, geometry, grad.data_ptr())
    return grad
