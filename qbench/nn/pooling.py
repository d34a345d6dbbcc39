"""Max pooling that keeps a byte or less per output for backward: which element of the window was the largest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qbench.kernels.pooling import Pooled, max_pool2d
from qbench.nn.deferred import (
    AnyView,
    Deferred,
    Held,
    LeftGradient,
    defer,
    materialised,
    placeholder,
    stored,
    stored_codes,
    token_of,
    while_kept,
)
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
        geometry = (self.kernel, self.stride, self.padding)
        if not isinstance(x, Deferred) or isinstance(x.source, Held):
            return apply_function(_MaxPool, materialised(x), None, None, None, *geometry)
        outcome: list[Held] = []
        token = apply_function(_MaxPool, token_of(x), x.source, x.left, outcome, *geometry)
        return defer(token, outcome[0])


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, view: AnyView | None, left: LeftGradient | None, outcome: list[Held] | None,
        *geometry: tuple[int, int],
    ) -> Tensor:  # fmt: skip
        y, window = max_pool2d(x, *geometry) if view is None else pooled_view(view, *geometry)
        ctx.shape, ctx.left, ctx.geometry, ctx.out_shape = x.shape, left, geometry, y.shape
        ctx.bits = place_bits(geometry[0])
        ctx.save_for_backward(stored(window, ctx.bits))
        if view is None or outcome is None:
            return y
        outcome.append(Held(y, None, while_kept(view, lambda: pooled_view(view, *geometry)[0])))
        return placeholder(y.shape, y.device)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (kept_places,) = ctx.saved_tensors
        window = stored_codes(kept_places, ctx.bits, ctx.out_shape)
        pooled = Pooled(grads[0], window, *ctx.geometry)
        if ctx.left is None or not ctx.left.is_wanted:
            return pooled.values(ctx.shape), None, None, None, None, None, None
        ctx.left.leave(pooled)
        return placeholder(ctx.shape, window.device, 0.0), None, None, None, None, None, None


def place_bits(kernel: tuple[int, int]) -> int:
    """Bits for a place in the window: few share bytes."""
    return max(1, (kernel[0] * kernel[1] - 1).bit_length())


def pooled_view(view: AnyView, *geometry: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """:func:`~qbench.kernels.pooling.max_pool2d` of a view's values, of which only a part exists at any time."""
    parts = [max_pool2d(part.values()[0], *geometry) for part in view.parts(PARTS)]
    y, window = (torch.cat(results) for results in zip(*parts, strict=True))
    return y, window
