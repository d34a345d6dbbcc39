"""Max pooling that keeps one byte per output for backward: which element of the window was the largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qbench.kernels.checks import Pair, dense, each_per_channel, pair, require_like, require_type
from qbench.kernels.direct import checked_view
from qbench.kernels.encoding import checked_table
from qbench.kernels.library import ops
from qbench.kernels.reference.pooling import MOST_ELEMENTS, pooled_size


def max_pool2d(x: Tensor, kernel: Pair, stride: Pair | None = None, padding: Pair = 0) -> tuple[Tensor, Tensor]:
    """y[n, c, h, w] = the largest of the window of x (float32 [N, C, H, W]); elements outside x do not count.

    stride: the kernel where None. padding: at most half the kernel. H' = (H + 2 padding - kernel) / stride + 1, rounded
    down. Returns y float32 [N, C, H', W'] and its place in the window, row by row, as uint8: the first of equals, and
    the first NaN where there is one.
    """
    sizes = _fitting(x, "x", torch.float32, kernel, stride, padding)
    result: tuple[Tensor, Tensor] = ops.max_pool2d(dense(x), *sizes)
    return result


def max_pool2d_view(
    codes: Tensor, table: Tensor | None, slope: Tensor, offset: Tensor, relu: bool, kernel: Pair,
    stride: Pair | None = None, padding: Pair = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """:func:`max_pool2d` of the values slope[c] * t + offset[c], each operation rounded to float32, then max(value, 0)
    if ``relu``; these never exist.

    codes: uint8 [N, C, H, W]. t: the code, or table[code] where there is a table (float32,
    a value for each code that occurs). slope, offset: float32 [C]. Raises TypeError and ValueError as it does, and for
    vectors that do not fit.
    """
    sizes = _fitting(codes, "codes", torch.uint8, kernel, stride, padding)
    slope, offset = each_per_channel(codes.shape[1], slope=slope, offset=offset)
    table = None if table is None else checked_table(table)
    result: tuple[Tensor, Tensor] = ops.max_pool2d_view(dense(codes), table, slope, offset, relu, *sizes)
    return result


def max_pool2d_direct_view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool,
    kernel: Pair, stride: Pair | None = None, padding: Pair = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """:func:`max_pool2d` of the values y of :func:`~qbench.kernels.direct.direct_view`, which never exist.

    x: float32 [N, C, H, W]. Raises TypeError and ValueError as these two do.
    """
    sizes = _fitting(x, "x", torch.float32, kernel, stride, padding)
    view = checked_view(x, mean, inverse, unit, top, slope, offset, relu)
    result: tuple[Tensor, Tensor] = ops.max_pool2d_direct_view(*view, *sizes)
    return result


def max_pool2d_backward(
    g: Tensor, window: Tensor, input_shape: Sequence[int], kernel: Pair, stride: Pair | None = None, padding: Pair = 0
) -> Tensor:
    """The gradient of x (float32 of ``input_shape``) from that of y (g, float32) and the places ``window``.

    Where windows overlap, gradients are added in float32, in row-major order of the output.
    """
    pooled = Pooled(g, window, kernel, stride, padding)
    sizes = pooled.checked_geometry(input_shape)
    result: Tensor = ops.max_pool2d_backward(
        dense(g), dense(window), list(input_shape), sizes[:2], sizes[2:4], sizes[4:]
    )
    return result


@dataclass(frozen=True)
class Pooled:
    """The gradient at the input of :func:`max_pool2d`, as that of its output (float32) and its places ``window``."""

    gradient: Tensor
    window: Tensor
    kernel: Pair
    stride: Pair | None = None
    padding: Pair = 0

    def checked_geometry(self, input_shape: Sequence[int]) -> list[int]:
        """[kernel, stride, padding], two numbers each; raises TypeError or ValueError for what does not fit."""
        sizes = _geometry(self.kernel, self.stride, self.padding)
        if len(input_shape) != 4:
            raise ValueError(
                f"max pooling takes an input_shape of four numbers, [N, C, H, W], got {tuple(input_shape)}"
            )
        _check(self.gradient, "g")
        require_type(self.window, "window", torch.uint8)
        require_like(self.window, "window", self.gradient, "g")
        expected = (*input_shape[:2], *pooled_size(input_shape, *sizes))
        if tuple(self.gradient.shape) != expected:
            shape = tuple(self.gradient.shape)
            raise ValueError(f"g has shape {shape}, but pooling {tuple(input_shape)} gives {expected}")
        return [number for pair_of_numbers in sizes for number in pair_of_numbers]

    def values(self, input_shape: Sequence[int]) -> Tensor:
        """That gradient, float32 of ``input_shape``."""
        return max_pool2d_backward(self.gradient, self.window, input_shape, self.kernel, self.stride, self.padding)


def _geometry(kernel: Pair, stride: Pair | None, padding: Pair) -> tuple[list[int], list[int], list[int]]:
    size = pair(kernel, "kernel", 1)
    border = pair(padding, "padding", 0)
    if size[0] * size[1] > MOST_ELEMENTS:
        raise ValueError(f"a window has at most {MOST_ELEMENTS} elements, got {size[0]} x {size[1]}")
    if 2 * border[0] > size[0] or 2 * border[1] > size[1]:
        raise ValueError(f"padding must be at most half the kernel {tuple(size)}, got {tuple(border)}")
    return size, size if stride is None else pair(stride, "stride", 1), border


def _fitting(
    x: Tensor, name: str, dtype: torch.dtype, kernel: Pair, stride: Pair | None, padding: Pair
) -> tuple[list[int], list[int], list[int]]:
    """Kernel, stride and padding; raises TypeError or ValueError unless a window of them fits in ``x``."""
    sizes = _geometry(kernel, stride, padding)
    _check(x, name, dtype)
    # Padding alone makes room for windows, but none of them holds an element of an image without any.
    if min(*pooled_size(x.shape, *sizes), *x.shape[2:]) < 1:
        raise ValueError(f"no window of {tuple(sizes[0])} fits in {name} of shape {tuple(x.shape)}")
    return sizes


def _check(x: Tensor, name: str, dtype: torch.dtype = torch.float32) -> None:
    require_type(x, name, dtype)
    if x.dim() != 4:
        raise ValueError(f"{name} must be [N, C, H, W], got shape {tuple(x.shape)}")
