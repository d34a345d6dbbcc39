"""Max pooling that keeps a byte or less per output for backward: which element of the window was the largest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from qbench.kernels.pooling import Pooled, max_pool2d
from qbench.nn.deferred import defer, is_deferred, materialised, token_of
from qbench.nn.gradient_sink import GradientSink, placeholder
from qbench.nn.kept import Recomputed, keep, kept
from qbench.nn.once import differentiable_once
from qbench.nn.site import apply_function
from qbench.nn.uncompiled import uncompiled
from qbench.nn.views import AnyView, Held, PooledView, stored, stored_codes


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """One number for both directions, or one for each."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class CompactMaxPool(nn.Module):
    """:class:`torch.nn.MaxPool2d` with the same results. Its kernels take x [N, C, H, W] float32; all else PyTorch."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = pair(pool.kernel_size), pair(pool.stride), pair(pool.padding)

    @staticmethod
    def replaces(pool: nn.MaxPool2d) -> bool:
        """Whether it can stand in for ``pool``: no dilation, no ceiling, a window of at most 256 elements."""
        height, width = pair(pool.kernel_size)
        is_plain = pair(pool.dilation) == (1, 1) and not pool.ceil_mode and not pool.return_indices
        return is_plain and height * width <= 256

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """The largest value of each window."""
        geometry = (self.kernel, self.stride, self.padding)
        if x.dim() != 4 or x.dtype != torch.float32:
            return functional.max_pool2d(x, *geometry)
        if not (is_deferred(x) and isinstance(x.source, AnyView)):
            return apply_function(_MaxPool, materialised(x), *geometry)
        sink, outcome = GradientSink(), list[Held]()
        token = apply_function(_ViewMaxPool, token_of(x), x.source, x.sink, sink, outcome, *geometry)
        return defer(token, outcome[0], sink)


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *geometry: tuple[int, int]) -> Tensor:
        y, window = max_pool2d(x, *geometry)
        ctx.shape, ctx.geometry, ctx.out_shape = x.shape, geometry, y.shape
        ctx.bits = place_bits(geometry[0])
        ctx.save_for_backward(stored(window, ctx.bits))
        return y

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (kept_places,) = ctx.saved_tensors
        window = stored_codes(kept_places, ctx.bits, ctx.out_shape)
        return Pooled(grads[0], window, *ctx.geometry).values(ctx.shape), None, None, None


class _ViewMaxPool(torch.autograd.Function):
    """Max pooling of a view, which is kept anyway: the places are found anew for backward."""

    @staticmethod
    def forward(
        ctx: Any, token: Tensor, view: AnyView, x_sink: GradientSink | None, sink: GradientSink, outcome: list[Held],
        *geometry: tuple[int, int],
    ) -> Tensor:  # fmt: skip
        kernel, stride, padding = geometry
        pooled = PooledView(view, (kernel, stride, padding))
        (y,) = pooled.values()
        ctx.shape, ctx.x_sink, ctx.sink = token.shape, x_sink, sink
        keep(ctx, [Recomputed(pooled)])
        outcome.append(Held(y, None, lambda: pooled.values()[0], pooled))
        return placeholder(y.shape, y.device)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (recomputed,), _ = kept(ctx)
        assert isinstance(recomputed, Recomputed) and isinstance(recomputed.view, PooledView)
        view, geometry = recomputed.view.view, recomputed.view.geometry
        _, places = view.pooled(*geometry)
        pooled = Pooled(ctx.sink.joined(grads[0]), places, *geometry)
        if ctx.x_sink is not None and ctx.x_sink.is_wanted:
            return ctx.x_sink.leave(pooled, ctx.shape), *[None] * 7
        return pooled.values(ctx.shape), *[None] * 7


def place_bits(kernel: tuple[int, int]) -> int:
    """Bits for a place in the window: few share bytes."""
    return max(1, (kernel[0] * kernel[1] - 1).bit_length())
