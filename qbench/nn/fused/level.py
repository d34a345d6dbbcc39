"""Graham's norm on levels, residual addition and ReLU as one node of the graph that keeps only packed codes.

With t the level of (x - mean) / sigma: y = gamma * t + beta, m the gradient behind the ReLU and g = gamma * m,
dx = (g - mean(g) - t * mean(g t)) / sigma: batch norm's backward with t in place of the exact value. The norm's options
change g and the mean of g t, and need no more than the codes either.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from qbench.kernels import passes
from qbench.kernels.encoding import extremes, look_up
from qbench.nn.deferred import defer, materialised, parted
from qbench.nn.fused.base import BlockParts
from qbench.nn.gradient_sink import placeholder
from qbench.nn.kept import keep, kept
from qbench.nn.layers import QuantizedLayer
from qbench.nn.norms.base import from_rows, rows_of
from qbench.nn.norms.level import LevelBatchNorm, not_saturated
from qbench.nn.once import differentiable_once
from qbench.nn.remembered import Remembered
from qbench.nn.views import Source, View, added, stored
from qbench.quant.formats import Levels
from qbench.quant.levels import decision_points, level_table
from qbench.quant.qtensor import QTensor
from qbench.recipe import LevelNorm, Recipe


def fits(recipe: Recipe) -> bool:
    """Whether the recipe's norm can be one node with what follows it."""
    norm = recipe.norm
    is_plain = isinstance(norm, LevelNorm) and norm.levels is not None
    paths = (recipe.norm_error, recipe.branch_error, recipe.trunk)
    return is_plain and all(path is None for path in paths)


class EvaluatedNorm(NamedTuple):
    """The norm in evaluation as vectors [C], and the table of its levels, NaN where the statistics have none."""

    inverse: Tensor
    slope: Tensor
    offset: Tensor
    table: Tensor


class LevelBlock:
    """The parts: the layer, which stays a node of its own, its norm, and whether a ReLU follows."""

    def __init__(self, layer: QuantizedLayer, norm: LevelBatchNorm, relu: bool) -> None:
        self.layer = layer
        self.norm = norm
        self.relu = relu
        self.spec = cast(Levels, norm.spec.levels)
        self._evaluated = Remembered[EvaluatedNorm]()

    @classmethod
    def of(cls, parts: BlockParts) -> LevelBlock | None:
        """The block of these modules; None where the recipe asks for more."""
        return cls(parts.layer, cast(LevelBatchNorm, parts.norm), parts.relu) if fits(parts.recipe) else None

    def __call__(self, x: Tensor, trunk: Tensor | None) -> Tensor:
        """x [N, C_in, H, W] or [N, C_in] -> the block's output; ``trunk`` is added before the ReLU."""
        y = self.layer(x)
        if not self.norm.training:
            return self.evaluate(y, trunk)
        self._evaluated.forget()
        outcome: list[Source] = []
        norm = self.norm
        token = _LevelBlock.apply(  # type: ignore[no-untyped-call]
            materialised(y), norm.weight, norm.bias, *parted(trunk), self, outcome
        )
        return defer(token, outcome[0])

    @property
    def serves(self) -> bool:
        """Whether it can stand for the modules: in training, in evaluation if nobody looks at floats or gradients."""
        norm = self.norm
        return norm.training or (norm.normalised_site.watcher is None and not torch.is_grad_enabled())

    def evaluate(self, y: Tensor, trunk: Tensor | None) -> Tensor:
        """As the modules in evaluation, bit for bit; ``y`` is the layer's output."""
        norm = self.norm
        sources = (norm.running_mean, norm.running_scale, norm.weight, norm.bias)
        known = self._evaluated.get(sources, self._evaluated_norm)
        points = decision_points(self.spec, y.device)
        codes = passes.encode_normalised_levels(y, norm.running_mean, known.inverse, points)
        # A tensor with NaN in it has no levels; NaN stands for all of them.
        table = torch.where(extremes(y)[0].isnan(), torch.nan, known.table)
        view = View(codes, codes.shape, 8, known.slope, known.offset, self.relu, table=table)
        if trunk is not None:
            return view.values(materialised(trunk))[0]
        return defer(placeholder(codes.shape, codes.device), view)

    def _evaluated_norm(self) -> EvaluatedNorm:
        """Copies: the parameters may be others by the time that somebody reads the values."""
        norm = self.norm
        inverse = torch.rsqrt(norm.running_scale + norm.eps)
        has_none = (norm.running_mean * inverse).isnan().any()
        table = torch.where(has_none, torch.nan, level_table(self.spec, inverse.device))
        return EvaluatedNorm(inverse, norm.weight.detach().clone(), norm.bias.detach().clone(), table)

    def encode(self, y: Tensor) -> tuple[QTensor, passes.LevelLine]:
        """Levels of the normalised ``y``, and the norm as vectors. Moves the running statistics."""
        norm = self.norm
        mean, variance, _, _ = passes.moments(y)
        line = passes.level_line(mean, variance, norm.weight.detach(), norm.bias.detach(), rows_in(y), norm.eps)
        norm.track(line.mean, line.unbiased)
        codes = passes.encode_normalised_levels(y, line.mean, line.inverse, decision_points(self.spec, y.device))
        q = QTensor(codes, None, None, self.spec, level_table(self.spec, y.device))

        def exact() -> Tensor:
            return from_rows((rows_of(y) - line.mean) * line.inverse, y)

        return norm.normalised_site.observe(q, exact), line


def rows_in(x: Tensor) -> int:
    """N * H * W, or N."""
    return x.numel() // max(x.shape[1], 1)


class _LevelBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, gamma: Tensor, beta: Tensor, trunk: Tensor | None, shortcut: Source | None,
        block: LevelBlock, outcome: list[Source],
    ) -> Tensor:  # fmt: skip
        q, line = block.encode(y)
        bits = block.spec.bits
        view = View(stored(q.codes, bits), q.codes.shape, bits, line.slope, line.offset, block.relu, table=q.table)
        mask = None
        if trunk is None:
            outcome.append(view)
        else:
            held, mask = added(view, trunk, shortcut)
            outcome.append(held)
        ctx.relu, ctx.shape, ctx.spec = block.relu, q.codes.shape, block.norm.spec
        keep(ctx, [], [view.stored, line.slope, line.offset, q.table, line.inverse, mask])
        return placeholder(q.codes.shape, y.device)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        _, (packed, slope, offset, table, inverse, mask) = kept(ctx)
        view = View(packed, ctx.shape, ctx.spec.levels.bits, slope, offset, ctx.relu, table=table)
        codes, g, relu, grad_trunk = view.codes, grads[0], ctx.relu, None
        if mask is not None:
            g = passes.apply_mask(g, mask)[0] if mask.numel() else g
            relu, grad_trunk = False, g
        line = (codes, table, slope, offset, relu)
        sums = passes.level_gradient_sums(g, *line)
        found = passes.level_gradient_line(sums, rows_in(codes), inverse, slope)
        grad_gamma, grad_beta = found.grad_weight, found.grad_bias
        if ctx.spec.saturate or ctx.spec.energy_correction:
            g, sums = _through_norm(g, sums, line, ctx.spec)
            found = passes.level_gradient_line(sums, rows_in(codes), inverse, slope)
        grad_y = passes.level_gradient(g, *line, found.a, found.b, found.c)
        return grad_y, grad_gamma, grad_beta, grad_trunk, None, None, None


def _through_norm(
    g: Tensor, sums: Tensor, line: tuple[Tensor, Tensor, Tensor, Tensor, bool], spec: LevelNorm
) -> tuple[Tensor, Tensor]:
    """What of ``g`` goes on through the normalisation, and its sums: without saturated elements, and with the sum of
    g t over the mean of t^2, where ``spec`` asks for it."""
    codes, table, slope, offset, _ = line
    if spec.saturate:
        g = not_saturated(g, codes, spec)
        sums = passes.level_gradient_sums(g, *line)
    if spec.energy_correction:
        _, energy = passes.level_gradient_sums(look_up(codes, table), codes, table, slope, offset, False)
        sums = torch.stack([sums[0], sums[1] * rows_in(codes) / energy])
    return g, sums
