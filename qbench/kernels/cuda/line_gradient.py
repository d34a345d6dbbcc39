"""The weight gradient of an error that is a line of codes: launcher of line_gradient.cu. See
:mod:`qbench.kernels.line_gradient`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from qbench.kernels.cuda.convolutions import Factor, is_plain
from qbench.kernels.cuda.launch import THREADS, launch
from qbench.kernels.cuda.layout import dense
from qbench.kernels.cuda.operands import WARP, padded
from qbench.kernels.cuda.outcome import Outcome
from qbench.kernels.cuda.shapes import Shape
from qbench.kernels.cuda.weight_gradients import weight_gradient

CHANNELS = 4
"""Of a thread."""


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
    """x [N, C, H, W], e [N, K, H', W'] -> float32 of ``weight_shape``, in channels-last memory."""
    y = dense(weight_shape, torch.float32, x.device)
    if not y.numel():
        return y
    shape = Shape.of(x.shape, weight_shape, stride, padding, dilation, groups)
    sums = torch.empty_like(y, dtype=torch.int64)
    met, pixels = _sums((x, x_zero), (e, None), shape, sums)
    items = shape.num_taps * -(-shape.channels // CHANNELS)  # of a filter
    blocks = -(-items // THREADS)
    launch(
        "finish_line_gradient", len(y) * blocks,
        sums, met, met.numel() // (shape.groups * shape.num_taps), pixels, x, x_zero, x_scale, slope, mean, pull,
        at, at.numel() // len(y), *shape.size, shape.channels, *shape.out_size, shape.filters, shape.groups,
        *shape.window, y, device=y.device, threads=-(-items // (blocks * WARP)) * WARP,
    )  # fmt: skip
    return y


def _sums(x: Factor, e: Factor, shape: Shape, sums: Tensor) -> tuple[Tensor, int]:
    """Fills ``sums``, int64 laid out as the weight, with those of x and e.

    Also what each tap meets in all, int64 [groups, taps, channels or more], and how many zero points too many.
    """
    if not is_plain(shape):  # the product adds it up beside its own sums
        met = torch.zeros((shape.groups, shape.num_taps, padded(shape.channels)), dtype=torch.int64, device=sums.device)
        weight_gradient(x, e, shape, Outcome(sums), met)
        return met, shape.pixels
    weight_gradient(x, e, shape, Outcome(sums))
    # The gradient of one filter per group whose error is 1 everywhere.
    met = dense((shape.groups, shape.channels, *shape.taps), torch.int64, sums.device)
    ones = torch.ones((shape.pixels, shape.groups), dtype=torch.uint8, device=sums.device)
    weight_gradient(x, (ones, None), replace(shape, filters=1), Outcome(met))
    return met, 0
