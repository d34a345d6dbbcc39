"""Max pooling that keeps one byte per output: launchers of pooling.cu."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cuda.columns import column_width
from qbench.kernels.cuda.launch import Argument, flat_grid, launch
from qbench.kernels.cuda.layout import dense
from qbench.kernels.reference.pooling import MOST_ELEMENTS, pooled_size

LARGEST_INT32 = 2**31 - 1


def max_pool2d(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """y and the place of the maximum in its window: the first of equals, a NaN before all."""
    return _pooled("max_pool2d", x, (), kernel, stride, padding)


def max_pool2d_view(
    codes: Tensor, table: Tensor | None, slope: Tensor, offset: Tensor, relu: bool, kernel: Sequence[int],
    stride: Sequence[int], padding: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The same of relu(slope * code + offset), with table[code] in place of the code where there is one."""
    return _pooled("max_pool2d_view", codes, (table, slope, offset, relu), kernel, stride, padding)


def max_pool2d_direct_view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool,
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The same of the view of a norm on direct grids."""
    view = (mean, inverse, float(unit), float(top), slope, offset, relu)
    return _pooled("max_pool2d_direct_view", x, view, kernel, stride, padding)


def _pooled(
    name: str, x: Tensor, view: tuple[Argument, ...], kernel: Sequence[int], stride: Sequence[int],
    padding: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    shape = (*x.shape[:2], *pooled_size(x.shape, kernel, stride, padding))
    y, window = dense(shape, torch.float32, x.device), dense(shape, torch.uint8, x.device)
    sizes = (x.shape[1], *x.shape[2:], *shape[2:], *kernel, *stride, *padding)
    _launch(name, x, (x, *view, y.numel(), *sizes, y, window), y.numel())
    return y, window


def max_pool2d_backward(
    g: Tensor,
    window: Tensor,
    input_shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """Each gradient goes to its window's maximum; an element of several windows adds them in the output's order."""
    result = dense(input_shape, torch.float32, g.device)
    sizes = (result.shape[1], *result.shape[2:], *g.shape[2:], *kernel, *stride, *padding)
    _launch("max_pool2d_backward", result, (g, window, result.numel(), *sizes, result), result.numel())
    return result


def _launch(kernel: str, image: Tensor, arguments: tuple[Argument, ...], elements: int) -> None:
    """Indices are 32-bit where every element's number fits, and every window's end, which may lie behind the image."""
    width = column_width(image.shape[1], *(value for value in arguments if isinstance(value, Tensor) and value.dim()))
    index = "i32" if max(image.numel(), elements) <= LARGEST_INT32 - MOST_ELEMENTS else "i64"
    grid = flat_grid(elements, image.device, per_thread=width)
    launch(f"{kernel}<{index}, {width}>", grid, *arguments, device=image.device)
