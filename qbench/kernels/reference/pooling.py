"""Max pooling that keeps one byte per output: which element of the window was the largest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from qbench.kernels.checks import dense
from qbench.kernels.reference.direct import direct_view
from qbench.kernels.reference.passes import affine_view, level_view

MOST_ELEMENTS = 256
"""Of a window, whose places are bytes."""


def max_pool2d(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """y [N, C, H', W'] and the place of the maximum in its window, row by row: the first of equals, NaN first."""
    height, width = pooled_size(x.shape, kernel, stride, padding)
    best = x.new_full((x.shape[0], x.shape[1], height, width), -torch.inf)
    window = torch.full(best.shape, -1, dtype=torch.int64, device=x.device)
    image = _padded(x, padding, -torch.inf)
    is_inside = _padded(torch.ones_like(x, dtype=torch.bool), padding, False)
    for place, view in _taps(kernel, stride, (height, width)):
        candidate = image[view]
        better = (candidate > best) | (candidate.isnan() & ~best.isnan()) | (window < 0)
        better &= is_inside[view]
        best = torch.where(better, candidate, best)
        window = torch.where(better, place, window)
    return dense(best), dense(window.to(torch.uint8))


def max_pool2d_view(
    codes: Tensor, table: Tensor | None, slope: Tensor, offset: Tensor, relu: bool, kernel: Sequence[int],
    stride: Sequence[int], padding: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """:func:`max_pool2d` of relu(slope * code + offset), with table[code] in place of the code where there is one."""
    line = (slope, offset, relu, None)
    values = (affine_view(codes, *line) if table is None else level_view(codes, table, *line))[0]
    return max_pool2d(values, kernel, stride, padding)


def max_pool2d_direct_view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool,
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """:func:`max_pool2d` of the view of a norm on direct grids."""
    values, _ = direct_view(x, mean, inverse, unit, top, slope, offset, relu, None)
    return max_pool2d(values, kernel, stride, padding)


def max_pool2d_backward(
    g: Tensor,
    window: Tensor,
    input_shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """Each gradient [N, C, H', W'] goes to its window's maximum; an element of several windows adds them in row-major
    order of the output, in float32."""
    n, c, height, width = input_shape
    image = g.new_zeros((n, c, height + 2 * padding[0], width + 2 * padding[1]))
    # Going through a window backwards meets the outputs of one element forwards.
    for place, view in reversed(list(_taps(kernel, stride, (g.shape[2], g.shape[3])))):
        image[view] += torch.where(window == place, g, 0.0)
    return dense(image[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width])


def pooled_size(
    shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[int, int]:
    """(H', W'): as many whole windows as fit."""
    height, width = ((shape[2 + i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    return height, width


def _padded(x: Tensor, padding: Sequence[int], value: float) -> Tensor:
    return torch.nn.functional.pad(x, (padding[1], padding[1], padding[0], padding[0]), value=value)


def _taps(
    kernel: Sequence[int], stride: Sequence[int], size: Sequence[int]
) -> Iterator[tuple[int, tuple[slice, slice, slice, slice]]]:
    """For each place of the window: its number and the padded elements that stand there, one per output."""
    everything = slice(None)
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            rows = slice(r, r + (size[0] - 1) * stride[0] + 1, stride[0])
            columns = slice(s, s + (size[1] - 1) * stride[1] + 1, stride[1])
            yield r * kernel[1] + s, (everything, everything, rows, columns)
