"""Max pooling that keeps one byte per output for backward: which element of the window was the largest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qbench.kernels.pooling import max_pool2d, max_pool2d_backward
from qbench.nn.deferred import AnyView, Deferred, token_of
from qbench.nn.site import apply_function

PARTS = 8
"""Of a batch whose activations are pooled one part after another."""


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """One number for both directions, or one for each."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class CompactMaxPool(nn.Module):
    """:class:`torch.nn.MaxPool2d` with the same results; x [N, C, H, W] float32."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = pair(pool.kernel_size), pair(pool.stride), pair(pool.padding)

    @staticmethod
    def replaces(pool: nn.MaxPool2d) -> bool:
        """Whether it can stand in for ``pool``: no dilation, no ceiling, a window of at most 256 elements."""
        height, width = pair(pool.kernel_size)
        is_plain = pair(pool.dilation) == (1, 1) and not pool.ceil_mode and not pool.return_indices
        return is_plain and height * width <= 256

    def forward(self, x: Tensor) -> Tensor:
        """The largest value of each window."""
        token, view = (token_of(x), x.view_of_codes) if isinstance(x, Deferred) else (x, None)
        return apply_function(_MaxPool, token, view, self.kernel, self.stride, self.padding)


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, view: AnyView | None, *geometry: tuple[int, int]) -> Tensor:
        y, window = max_pool2d(x, *geometry) if view is None else pooled_view(view, *geometry)
        ctx.shape, ctx.geometry = x.shape, geometry
        ctx.save_for_backward(window)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (window,) = ctx.saved_tensors
        return max_pool2d_backward(grads[0], window, ctx.shape, *ctx.geometry), None, None, None, None


def pooled_view(view: AnyView, *geometry: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """:func:`~qbench.kernels.pooling.max_pool2d` of a view's values, of which only a part exists at any time."""
    parts = [max_pool2d(part.values()[0], *geometry) for part in view.parts(PARTS)]
    y, window = (torch.cat(results) for results in zip(*parts, strict=True))
    return y, window
