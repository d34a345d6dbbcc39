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
    GRADIENT_CODES,
    LARGEST_CODE,
    DirectLine,
    direct_gradient,
    direct_gradient_line,
    direct_gradient_sums,
    direct_line,
)
from qbench.nn.between import Between
from qbench.nn.deferred import DirectView, defer, materialised, placeholder
from qbench.nn.kept import keep, kept
from qbench.nn.layers import QuantizedLayer
from qbench.nn.norms.base import from_rows, rows_of
from qbench.nn.norms.direct import DirectBatchNorm
from qbench.nn.remembered import Remembered
from qbench.nn.site import Site, ValueSite
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
    """The parts: the layer, its norm, the site of the gradient at the output (None: not quantised), ReLU or not."""

    def __init__(self, layer: QuantizedLayer, norm: DirectBatchNorm, branch_error: Site | None, relu: bool) -> None:
        self.layer = layer
        self.norm = norm
        self.branch_error = branch_error
        self.relu = relu
        sites = (norm.mean_site, norm.deviation_site, norm.weight_site, norm.bias_site, norm.normalised_site)
        self.sites = [cast(ValueSite, site).site for site in sites]
        mean, deviation, affine, _, normalised = (cast(Direct, site.spec) for site in self.sites)
        self.grids = [number for grid in (mean, deviation, affine) for number in steps_and_top(grid)]
        self.unit, self.top = steps_and_top(normalised)
        self._evaluated = Remembered[DirectLine]()

    def __call__(self, x: Tensor, trunk: Tensor | None) -> Tensor:
        """x [N, C_in, H, W] or [N, C_in] -> the block's output; ``trunk`` is added before the ReLU."""
        if not self.norm.training:
            return self.evaluate(x, trunk)
        self._evaluated.forget()
        outcome, error_range = list[DirectView](), Between()
        y = self.layer.product_with_bias(x, error_range)
        value = _DirectBlock.apply(  # type: ignore[no-untyped-call]
            y, self.norm.weight, self.norm.bias, materialised(trunk), self, outcome, error_range
        )
        return defer(value, outcome[0]) if outcome else cast(Tensor, value)

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
        norm.track(mean.float(), variance.float())
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


def is_scaled(q: QTensor) -> bool:
    """Whether the values are codes of the gradient's passes times one scale."""
    has_one_scale = q.scale is not None and q.scale.dim() == 0 and q.zero_point is None
    return q.is_integral and has_one_scale and q.codes.dtype in GRADIENT_CODES


class _DirectBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, weight: Tensor, bias: Tensor, trunk: Tensor | None,
        block: DirectBlock, outcome: list[DirectView], error_range: Between,
    ) -> Tensor:  # fmt: skip
        y = dense(y)
        line = block.normalise(y)
        view, mask = block.view(y, line, block.relu), None
        if trunk is None:
            outcome.append(view)
            value = placeholder(y.shape, y.device)
        else:
            value, mask = view.values(trunk)
        ctx.block, ctx.error_range = block, error_range
        keep(ctx, [], [y, mask, *line])
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        block: DirectBlock = ctx.block
        _, (y, mask, *vectors) = kept(ctx)
        line = DirectLine._make(vectors)
        (g, scale), grad_trunk = block.encode_gradient(grads[0], keeps_codes=mask is None), None
        if mask is not None:
            g = grad_trunk = passes.apply_mask(g, mask)[0] if mask.numel() else g
        view = block.view(y, line, block.relu and mask is None).arguments
        sums = direct_gradient_sums(g, scale, *view)
        rows = y.numel() // max(y.shape[1], 1)
        found = direct_gradient_line(sums, rows, block.unit, line.inverse, line.weight, line.over_deviation, line.shift)
        grad_y, extremes = direct_gradient(g, scale, *view, found.a, found.b, found.c)
        if ctx.needs_input_grad[0]:
            ctx.error_range.put(extremes)
        return grad_y, found.grad_weight, found.grad_bias, grad_trunk, None, None, None
