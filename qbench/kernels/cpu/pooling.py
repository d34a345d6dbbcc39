"""Max pooling in C++: as :mod:`qbench.kernels.reference.pooling`, bit for bit but for the sign of zeros that several
codes of a view stand for."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cpu.calls import call, numbers, pointer
from qbench.kernels.reference.pooling import pooled_size


def max_pool2d(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """y, window."""
    y, window, geometry = _results(x, kernel, stride, padding)
    call("max_pool", x.data_ptr(), x.shape[0], x.shape[1], geometry, y.data_ptr(), window.data_ptr())
    return y, window


def max_pool2d_view(
    codes: Tensor, table: Tensor | None, slope: Tensor, offset: Tensor, relu: bool, kernel: Sequence[int],
    stride: Sequence[int], padding: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """y, window."""
    y, window, geometry = _results(codes, kernel, stride, padding)
    call(
        "max_pool_view", codes.data_ptr(), codes.shape[0], codes.shape[1], geometry, pointer(table),
        0 if table is None else table.numel(), slope.data_ptr(), offset.data_ptr(), relu, y.data_ptr(),
        window.data_ptr(),
    )  # fmt: skip
    return y, window


def max_pool2d_direct_view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool,
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """y, window."""
    y, window, geometry = _results(x, kernel, stride, padding)
    call(
        "max_pool_direct_view", x.data_ptr(), x.shape[0], x.shape[1], geometry, mean.data_ptr(), inverse.data_ptr(),
        unit, top, slope.data_ptr(), offset.data_ptr(), relu, y.data_ptr(), window.data_ptr(),
    )  # fmt: skip
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


def _results(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, Tensor, ctypes.Array[ctypes.c_int64]]:
    """Room for y and window, and the geometry as C++ takes it."""
    size = pooled_size(x.shape, kernel, stride, padding)
    y = torch.empty((*x.shape[:2], *size), dtype=torch.float32, memory_format=torch.channels_last)
    return y, torch.empty_like(y, dtype=torch.uint8), numbers(*x.shape[2:], *size, *kernel, *stride, *padding)
