"""What follows the norm of a block that is no fused one: residual addition, ReLU, and the formats around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from qbench.kernels import passes
from qbench.nn.gradient_sink import is_scaled, joined_codes
from qbench.nn.kept import keep, kept
from qbench.nn.once import differentiable_once
from qbench.nn.site import GradientSite, Known, Site, ValueSite, apply_function, shares_grid
from qbench.quant.formats import Quantizer
from qbench.quant.qtensor import QTensor
from qbench.recipe import Recipe


class BlockEnd(Protocol):
    """From the norm's output, and a residual stream to add, to the block's."""

    def __call__(self, y: Tensor, trunk: Tensor | None, /) -> Tensor: ...


@dataclass(frozen=True)
class EndParts:
    """The modules behind a norm in their order: the gradient at its output, whether a ReLU follows, the residual stream
    and the gradient at the block's output, each of them a site or nn.Identity."""

    norm_error: nn.Module
    relu: bool
    trunk: nn.Module
    branch_error: nn.Module


def block_end(recipe: Recipe, norm: nn.Module, parts: EndParts) -> BlockEnd:
    """The end of a block of ``recipe`` behind ``norm``.

    Where the next layer keeps codes, a ReLU's output would be kept for its signs alone: a node of its own keeps bits.
    """
    if parts.relu and recipe.activation is not None:
        return RectifiedEnd(parts, recipe.activation)
    is_plain = isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and recipe.norm_error is None
    return ModulesEnd(parts, overwrites=is_plain)


class ModulesEnd:
    """The modules one after another.

    overwrites: whether the ReLU's output may take the place of its input, which a float norm does not read again. Where
    the next layer keeps the output, that then serves both, as in a float block.
    """

    def __init__(self, parts: EndParts, *, overwrites: bool) -> None:
        self.parts = parts
        self.overwrites = overwrites

    def __call__(self, y: Tensor, trunk: Tensor | None) -> Tensor:
        """y, trunk: float32 [N, C, H, W] or [N, C]."""
        parts = self.parts
        y = parts.norm_error(y)
        if trunk is not None:
            y = y + trunk
        if parts.relu:
            y = torch.relu_(y) if self.overwrites else torch.relu(y)
        return cast(Tensor, parts.branch_error(parts.trunk(y)))


class RectifiedEnd:
    """All of it as one node of the graph: the sum, its ReLU, the bits that are kept and the extremes that the next
    layer's format wants take one pass, and what is rounded already is not rounded again."""

    def __init__(self, parts: EndParts, reader: Quantizer) -> None:
        self.parts = parts
        self.reader = reader

    def __call__(self, y: Tensor, trunk: Tensor | None) -> Tensor:
        """y, trunk: float32 [N, C, H, W] or [N, C]."""
        found = Found()
        value = apply_function(_RectifiedEnd, y, trunk, self, found)
        if value.requires_grad:  # else it may outlive the step, or be saved, and what is known of it as well
            known = Known.of(value)
            known.extremes, known.grid = found.extremes, found.grid
        return value

    def rounded(self, value: Tensor, found: Found) -> Tensor:
        """``value`` in the residual stream's format; what the next layer's format wants of it goes to ``found``."""
        site = value_site(self.parts.trunk)
        if site is None:
            return value
        extremes, found.extremes = found.extremes, None
        if not shares_grid(site.spec, self.reader):
            return site.rounded(value, extremes)
        found.grid = site(value, extremes)
        return found.grid.dequantize()


@dataclass
class Found:
    """What the node finds of its output, which :class:`~qbench.nn.site.Known` keeps."""

    extremes: Tensor | None = None
    grid: QTensor | None = None


def value_site(module: nn.Module) -> Site | None:
    """That of a module which may be nn.Identity."""
    return module.site if isinstance(module, ValueSite) else None


def gradient_site(module: nn.Module) -> Site | None:
    """The same of a gradient's, which acts in training alone."""
    return module.site if isinstance(module, GradientSite) and module.training else None


class _RectifiedEnd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, trunk: Tensor | None, end: RectifiedEnd, found: Found) -> Tensor:
        value, found.extremes, mask = passes.rectify(y, trunk)
        ctx.norm_error, ctx.branch_error = gradient_site(end.parts.norm_error), gradient_site(end.parts.branch_error)
        keep(ctx, [], [mask])
        return end.rounded(value, found)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        _, (mask,) = kept(ctx)
        g, extremes = masked(grads[0], mask, ctx.branch_error)
        grad_trunk, site = g if ctx.needs_input_grad[1] else None, ctx.norm_error
        if site is not None and (site.is_observed or not is_rounded_by(ctx.branch_error, site)):
            g = site.rounded(g, extremes)
        return g, grad_trunk, None, None


def masked(g: Tensor, mask: Tensor, site: Site | None) -> tuple[Tensor, Tensor | None]:
    """The gradient at a ReLU's input, rounded at ``site`` before the mask, and its extremes, where they are known."""
    if site is None:
        return passes.apply_mask(g, mask)
    q = site(g)
    return (joined_codes(q, None, mask), None) if is_scaled(q) else passes.apply_mask(q.dequantize(), mask)


def is_rounded_by(before: Site | None, site: Site) -> bool:
    """Whether what was rounded ``before`` and set to 0 in places stays as it is at ``site``."""
    return before is not None and shares_grid(before.spec, site.spec)
