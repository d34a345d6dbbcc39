"""WAGEUBN's norm, residual addition, ReLU and the error E1 as one node of the graph (Yang et al. 2020, section III).

The norm's input is kept, in float32: the gradient needs the normalised value before it was rounded. From it every pass
makes the rest anew, forwards the next layer's codes and backwards the mask of the ReLU. E1 goes into the gradient's
passes as codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from qbench.kernels import passes
from qbench.kernels.checks import dense
from qbench.kernels.direct import (
    LARGEST_CODE,
    DirectLine,
    direct_gradient,
    direct_gradient_line,
    direct_gradient_sums,
    direct_line,
)
from qbench.nn.between import Between
from qbench.nn.deferred import defer, materialised, parted, sink_of
from qbench.nn.fused.base import BlockParts
from qbench.nn.gradient_sink import GradientSink, added_up, is_scaled, joined_codes, placeholder, sent
from qbench.nn.kept import keep, kept
from qbench.nn.layers import QuantizedLayer
from qbench.nn.norms.base import from_rows, rows_of
from qbench.nn.norms.direct import DirectBatchNorm
from qbench.nn.once import differentiable_once
from qbench.nn.remembered import Remembered
from qbench.nn.site import GradientSite, Site, ValueSite, through
from qbench.nn.views import DirectView, Held, Source
from qbench.quant.formats import Direct
from qbench.quant.qtensor import QTensor
from qbench.recipe import DirectNorm, Recipe


def fits(recipe: Recipe) -> bool:
    """Whether the recipe's norm can be one node with what follows it."""
    norm = recipe.norm
    if not isinstance(norm, DirectNorm) or recipe.norm_error is not None:
        return False
    grids = (norm.mean, norm.deviation, norm.normalised, norm.affine)
    return all(grid is not None and not grid.is_stochastic for grid in grids)


class DirectBlock:
    """The parts: the layer, its norm, the sites of the gradient at the output and of the residual stream (None: not
    quantised), ReLU or not."""

    def __init__(
        self,
        layer: QuantizedLayer,
        norm: DirectBatchNorm,
        branch_error: Site | None,
        trunk_site: ValueSite | None,
        relu: bool,
    ) -> None:
        self.layer = layer
        self.norm = norm
        self.branch_error = branch_error
        self.trunk_site = trunk_site
        self.relu = relu
        sites = (norm.mean_site, norm.deviation_site, norm.weight_site, norm.bias_site, norm.normalised_site)
        self.sites = [cast(ValueSite, site).site for site in sites]
        mean, deviation, affine, _, normalised = (cast(Direct, site.spec) for site in self.sites)
        self.grids = [number for grid in (mean, deviation, affine) for number in steps_and_top(grid)]
        self.unit, self.top = steps_and_top(normalised)
        self._evaluated = Remembered[DirectLine]()

    @classmethod
    def of(cls, parts: BlockParts) -> DirectBlock | None:
        """The block of these modules; None where the recipe asks for more."""
        if not fits(parts.recipe):
            return None
        branch_error = parts.branch_error.site if isinstance(parts.branch_error, GradientSite) else None
        trunk_site = parts.trunk if isinstance(parts.trunk, ValueSite) else None
        return cls(parts.layer, cast(DirectBatchNorm, parts.norm), branch_error, trunk_site, parts.relu)

    def __call__(self, x: Tensor, trunk: Tensor | None) -> Tensor:
        """x [N, C_in, H, W] or [N, C_in] -> the block's output; ``trunk`` is added before the ReLU."""
        return through(self.trunk_site, self.train(x, trunk) if self.norm.training else self.evaluate(x, trunk))

    def train(self, x: Tensor, trunk: Tensor | None) -> Tensor:
        """The output in training, before it is rounded as the residual stream."""
        self._evaluated.forget()
        outcome, error_range, sink = list[Source](), Between(), GradientSink()
        y = self.layer.product_with_bias(x, error_range)
        token = _DirectBlock.apply(  # type: ignore[no-untyped-call]
            y, self.norm.weight, self.norm.bias, *parted(trunk), self, error_range, sink_of(trunk), sink, outcome
        )
        return defer(token, outcome[0], sink)

    @property
    def serves(self) -> bool:
        """Whether it can stand for the modules: in training, in evaluation if nobody looks at floats or gradients."""
        is_watched = any(site.watcher is not None for site in self.sites)
        return self.norm.training or not (is_watched or torch.is_grad_enabled())

    def evaluate(self, x: Tensor, trunk: Tensor | None) -> Tensor:
        """As the modules in evaluation, bit for bit."""
        norm = self.norm
        y = dense(self.layer(x))
        sources = (norm.running_mean, norm.running_scale, norm.weight, norm.bias)
        line = self._evaluated.get(sources, lambda: self._line(norm.running_mean.double(), norm.running_scale.double()))
        view = self.view(y, line, self.relu)
        if trunk is not None:
            return view.values(materialised(trunk))[0]
        return defer(placeholder(y.shape, y.device), view)

    def _line(self, mean: Tensor, variance: Tensor) -> DirectLine:
        """The norm as vectors, from statistics (float64 [C])."""
        norm = self.norm
        return direct_line(mean, variance, norm.weight.detach(), norm.bias.detach(), self.grids, self.unit, norm.eps)

    def normalise(self, y: Tensor) -> DirectLine:
        """The norm of ``y`` as vectors. Moves the running statistics."""
        norm = self.norm
        mean, variance, _, _ = passes.moments(y)
        norm.track(mean, variance)
        line = self._line(mean, variance)

        def normalised() -> Tensor:
            return from_rows((rows_of(y) - line.mean) * line.inverse, y)

        exact: tuple[Callable[[], Tensor], ...] = (
            mean.float, lambda: variance.sqrt().float(), norm.weight.detach, norm.bias.detach, normalised
        )  # fmt: skip
        for site, make in zip(self.sites, exact, strict=True):
            if site.is_observed:
                site(make())  # the kernels have rounded it already, but hold no codes to show
        return line

    def view(self, y: Tensor, line: DirectLine, relu: bool) -> DirectView:
        """The norm's output, behind a ReLU or not."""
        return DirectView(y, line.mean, line.inverse, self.unit, self.top, line.slope, line.offset, relu)

    def encode_gradient(self, g: Tensor, *, keeps_codes: bool) -> tuple[Tensor, Tensor | None]:
        """The gradient at the output behind E1: codes and their scale, where they are wanted, or floats and None."""
        if self.branch_error is None:
            return g, None
        q = self.branch_error(g)
        return (q.codes, q.scale) if keeps_codes and is_scaled(q) else (q.dequantize(), None)


def steps_and_top(grid: Direct) -> tuple[float, float]:
    """Steps per unit, and the largest code."""
    return 2.0 ** (grid.bits - 1), float(math.trunc(min(grid.largest_integer, LARGEST_CODE)))


def gathered(sink: GradientSink, arrived: Tensor, mask: Tensor | None) -> Tensor:
    """The whole gradient at a block's output, 0 where the ReLU behind a residual addition lets none through.

    arrived: what came through the graph. mask: of that ReLU, [value > 0] in bits; None or empty without one.
    """
    total, smaller = sink.taken(arrived)
    mask = mask if mask is not None and mask.numel() else None
    if len(smaller) == 1 and isinstance(smaller[0], QTensor):
        return joined_codes(smaller[0], total, mask)
    g = added_up(total, smaller, arrived.shape)
    return g if mask is None else passes.apply_mask(g, mask)[0]


class _DirectBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, weight: Tensor, bias: Tensor, trunk: Tensor | None, shortcut: Source | None,
        block: DirectBlock, error_range: Between, trunk_sink: GradientSink | None, sink: GradientSink,
        outcome: list[Source],
    ) -> Tensor:  # fmt: skip
        y = dense(y)
        line = block.normalise(y)
        view, mask = block.view(y, line, block.relu), None
        if trunk is None:
            outcome.append(view)
        else:
            values, mask = view.values(trunk if shortcut is None else shortcut.values()[0])
            outcome.append(Held(values, None, None))
        ctx.block, ctx.error_range, ctx.trunk_sink, ctx.sink = block, error_range, trunk_sink, sink
        keep(ctx, [], [y, mask, *line])
        return placeholder(y.shape, y.device)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        block: DirectBlock = ctx.block
        _, (y, mask, *vectors) = kept(ctx)
        line = DirectLine._make(vectors)
        gradient, grad_trunk = gathered(ctx.sink, grads[0], mask), None
        if mask is not None and ctx.needs_input_grad[3]:
            # Without a mask it may be what came through the graph, which somebody else may hold.
            grad_trunk = sent(gradient, ctx.trunk_sink) if mask.numel() else gradient
        g, scale = block.encode_gradient(gradient, keeps_codes=mask is None)
        view = block.view(y, line, block.relu and mask is None).arguments
        sums = direct_gradient_sums(g, scale, *view)
        rows = y.numel() // max(y.shape[1], 1)
        found = direct_gradient_line(sums, rows, block.unit, line.inverse, line.weight, line.over_deviation, line.shift)
        grad_y, extremes = direct_gradient(g, scale, *view, found.a, found.b, found.c)
        if ctx.needs_input_grad[0]:
            ctx.error_range.put(extremes)
        return grad_y, found.grad_weight, found.grad_bias, grad_trunk, *[None] * 6
