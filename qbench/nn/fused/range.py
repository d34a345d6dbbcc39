"""Convolution (or linear layer), Range batch norm on codes, residual addition and ReLU as two nodes of the graph.

Nothing float-sized is kept for backward: the layer's operand and the norm's input are codes, the ReLU's output is a
view of the latter (or one bit per value, where the residual stream was added), and the errors are codes as well
(Banner et al. 2018 with the norm's input and output gradient quantised, as in the authors' code).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from qbench.kernels import passes
from qbench.kernels.blocks import (
    Normalised,
    NormGradient,
    encode_error,
    encode_error_pair,
    range_norm,
    range_norm_gradient_,
)
from qbench.kernels.checks import dense
from qbench.kernels.encoding import encode_affine
from qbench.kernels.pooling import Pooled
from qbench.kernels.random import counted, uncounted
from qbench.nn.between import Between
from qbench.nn.deferred import defer, materialised, parted, sink_of
from qbench.nn.error_line import ErrorLine
from qbench.nn.fused.base import BlockParts
from qbench.nn.gradient_sink import GradientSink, placeholder, sent
from qbench.nn.kept import Quantized, keep, keeps_graph, kept
from qbench.nn.layers import QuantizedLayer, product_gradients
from qbench.nn.norms.range import RangeBatchNorm, num_chunks, range_constant
from qbench.nn.once import differentiable_once
from qbench.nn.remembered import Remembered
from qbench.nn.site import GradientSite, Site
from qbench.nn.views import NOTHING, Held, Source, View
from qbench.quant.formats import Affine, Quantizer, Symmetric
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import code_type, random_bits
from qbench.quant.ranges import pair_of, poisoned
from qbench.recipe import RangeNorm, Recipe


def fits(recipe: Recipe, layer: Recipe) -> bool:
    """Whether blocks of ``recipe`` can be one node. layer: the recipe of the block's convolution or linear layer."""
    norm = recipe.norm
    return (
        isinstance(norm, RangeNorm)
        and all(_is_plain(spec) for spec in (norm.input, recipe.norm_error, layer.activation, layer.error))
        and norm.scale is None and norm.affine is None and norm.tie == "one"
        and layer.weight is not None
        and (layer.wgrad_line or layer.wgrad_error == "error" or isinstance(layer.wgrad_error, Symmetric))
        and recipe.branch_error is None and recipe.trunk is None and layer.output is None
    )  # fmt: skip


def _is_plain(spec: Quantizer | None) -> bool:
    """Affine codes of one byte with a whole zero point and one range for the tensor."""
    return isinstance(spec, Affine) and spec.bits <= 8 and spec.scheme == "zero_point" and spec.takes_extremes


class Line(NamedTuple):
    """A norm of codes as slope * code + offset per channel, and what its backward needs; see
    :mod:`qbench.kernels.blocks`. extremes: smallest and largest output [2]."""

    slope: Tensor
    offset: Tensor
    extremes: Tensor
    mean: Tensor
    inverse: Tensor
    low_at: Tensor
    high_at: Tensor
    constant: float

    @classmethod
    def of(cls, found: Normalised, constant: float) -> Line:
        """That of a norm just computed."""
        vectors = (found.slope, found.offset, found.extremes, found.mean, found.inverse)
        return cls(*vectors, found.low_at, found.high_at, constant)


class RangeBlock:
    """The parts of one block: its layer (without a bias), its norm, the site of the gradient at the norm's output, ReLU
    or not. takes_line: whether the weight gradient is formed with the line of that gradient's codes."""

    def __init__(
        self, layer: QuantizedLayer, norm: RangeBatchNorm, norm_error: Site, *, relu: bool, takes_line: bool
    ) -> None:
        self.layer = layer
        self.norm = norm
        self.norm_error = norm_error
        self.relu = relu
        self.takes_line = takes_line
        self._evaluated = Remembered[tuple[Tensor, Tensor]]()

    @classmethod
    def of(cls, parts: BlockParts) -> RangeBlock | None:
        """The block of these modules; None where the recipe asks for more, or the layer has a bias."""
        if parts.layer.bias is not None or not fits(parts.recipe, parts.layer_recipe):
            return None
        norm, norm_error = cast(RangeBatchNorm, parts.norm), cast(GradientSite, parts.norm_error).site
        return cls(parts.layer, norm, norm_error, relu=parts.relu, takes_line=parts.layer_recipe.wgrad_line)

    def __call__(self, x: Tensor, trunk: Tensor | None) -> Tensor:
        """As the modules one after another: x [N, C_in, H, W] or [N, C_in], trunk of the output's shape."""
        if not self.layer.training:
            return self.evaluate(x, trunk)
        self._evaluated.forget()
        between, sink, outcome = Between(), GradientSink(), list[Source]()
        token, view = parted(x)
        product = _Product.apply(  # type: ignore[no-untyped-call]
            token, self.layer.in_graph, view, self, between, sink_of(x)
        )
        y = _NormAndReLU.apply(  # type: ignore[no-untyped-call]
            product, self.norm.weight, self.norm.bias, *parted(trunk), self, between, sink_of(trunk), sink, outcome
        )
        return defer(y, outcome[0], sink) if outcome else cast(Tensor, y)

    @property
    def serves(self) -> bool:
        """Whether it can stand for the modules: in training of layer and norm; in evaluation if ranges are known,
        weights are codes and nobody looks at floats."""
        site = self.sites[0]
        has_codes = site.has_fixed_range and self.layer.inference_weight != "float"
        evaluates = has_codes and site.watcher is None and not torch.is_grad_enabled()
        return self.norm.training if self.layer.training else evaluates

    def evaluate(self, x: Tensor, trunk: Tensor | None) -> Tensor:
        """As the modules in evaluation, but for roundings of the norm, which is one line per channel.

        Where no residual is added it goes from codes to codes.
        """
        norm, layer, site = self.norm, self.layer, self.sites[0]
        token, view = parted(x)
        a = layer.observed(layer.encode_activation(token, view))
        w = cast(QTensor, layer.encode_weight())
        assert isinstance(a, QTensor) and a.scale is not None
        q = layer.product.forward_encoded(a, w, cast(Affine, site.format), pair_of(site.limits(a.scale)))
        assert q.scale is not None
        parameters = (norm.weight, norm.bias, norm.running_mean, norm.running_scale, site.tracked)
        sources = (*parameters, layer.weight, *layer.weight_buffers())
        slope, offset = self._evaluated.get(sources, lambda: self._line_of(w))
        output = View(q.codes, q.codes.shape, 8, slope, poisoned(offset, q.scale), self.relu)
        source: Source = output
        if trunk is not None:
            values, extremes, _ = output.values(materialised(trunk))
            source = Held(values, extremes, None)
        return defer(placeholder(q.codes.shape, q.codes.device), source)

    def _line_of(self, w: QTensor) -> tuple[Tensor, Tensor]:
        """The norm in evaluation as slope * code + offset. Every offset is NaN where a parameter or the scale of the
        weight ``w`` is not finite: behind a fixed range, codes do not show it."""
        norm, site = self.norm, self.sites[0]
        spec = cast(Affine, site.format)
        # The scale of the range itself: that of a batch may be NaN.
        _, scale, zero = encode_affine(site.tracked.new_empty(0), *pair_of(site.tracked), spec.bits, True)
        assert w.scale is not None
        inner = norm.weight.double() / norm.running_scale.double()
        offset = norm.bias.double() - inner * (scale.double() * zero.double() + norm.running_mean.double())
        return (inner * scale.double()).float(), poisoned(offset, (inner + offset).sum() + w.scale.sum()).float()

    @property
    def sites(self) -> tuple[Site, Site]:
        """The sites of its norm, whose codes are used as integers."""
        return cast(Site, cast(Any, self.norm.input_site).site), self.norm_error

    def normalise(self, y: Tensor, extremes: Tensor, relu: bool) -> tuple[QTensor, Line]:
        """The product as codes, and their norm as a line per channel. Moves the running statistics.

        extremes: of ``y``. relu: whether a ReLU follows at once.
        """
        norm, (site, _) = self.norm, self.sites
        spec, (low, high) = cast(Affine, site.format), pair_of(site.limits(extremes))
        rows = y.numel() // y.shape[1]
        chunks = num_chunks(norm.spec.chunks, rows)
        constant = range_constant(norm.spec.constant, rows // chunks)
        found = range_norm(
            y, low, high, spec.bits, random_bits(spec, site.key), chunks, norm.weight.detach(), norm.bias.detach(),
            constant, norm.spec.eps, relu,
        )  # fmt: skip
        norm.track(found.batch_mean, found.spread)
        q = site.observe(QTensor(found.codes, found.scale, found.zero, spec), lambda: y)
        return q, Line.of(found, constant)

    def encode_gradient(
        self, g: Tensor | Pooled, mask: Tensor | None, q: QTensor, line: Line, weight: Tensor
    ) -> NormGradient:
        """The gradient at the norm's output as codes, and what follows from them.

        q: the norm's input, whose codes are overwritten. mask: of the ReLU behind the residual addition; where there is
        none the ReLU's mask follows from the norm.
        """
        assert q.scale is not None
        spec, relu = cast(Affine, self.norm_error.format), self.relu and mask is None
        behind = mask if mask is not None and mask.numel() else None
        exact = None
        if self.norm_error.watcher is not None and behind is None:
            exact = masked_gradient(g, q, line, relu)
        found = range_norm_gradient_(
            g, behind, q.codes, line.slope, line.offset, relu, spec.bits, random_bits(spec, self.norm_error.next_key()),
            q.scale, line.mean, line.inverse, weight, line.constant, line.low_at, line.high_at,
        )  # fmt: skip
        e = QTensor(found.codes, found.scale, found.zero, spec)
        self.norm_error.observe(e, lambda: found.masked if exact is None else exact)
        return found

    def encode_errors(self, found: NormGradient) -> tuple[QTensor, QTensor | ErrorLine]:
        """The gradient at the layer's output as two operands: for the input gradient, and for the weight gradient."""
        site, wide = cast(Site, self.layer.error_site), self.layer.wgrad_error_site
        spec = cast(Affine, site.format)
        line, key = (found.codes, found.slope, found.offset), random_bits(spec, site.next_key())
        replaced_by = (found.at, found.values)

        def exact() -> Tensor:
            return replaced(passes.affine_view(*line, False, None)[0], *replaced_by)

        if self.takes_line or wide is None:
            encoded = encode_error(*line, *replaced_by, spec.bits, key)
            for_input = site.observe(QTensor(*encoded, spec), exact)
            return for_input, ErrorLine.of(found) if self.takes_line else for_input
        wide_spec = cast(Symmetric, wide.format)
        codes, scale, zero, wide_codes, wide_scale = encode_error_pair(
            *line, *replaced_by, spec.bits, key, wide_spec.largest_integer, wide_spec.rounding,
            random_bits(wide_spec, wide.next_key()), code_type(wide_spec),
        )  # fmt: skip
        for_input = site.observe(QTensor(codes, scale, zero, spec), exact)
        return for_input, wide.observe(QTensor(wide_codes, wide_scale, None, wide_spec), exact)


def masked_gradient(g: Tensor | Pooled, q: QTensor, line: Line, relu: bool) -> Tensor:
    """``g`` where the norm's output is positive, 0 elsewhere; all of it without ``relu``."""
    g = g.values(q.codes.shape) if isinstance(g, Pooled) else g
    return torch.where(passes.affine_view(q.codes, line.slope, line.offset, False, None)[0] > 0, g, 0.0) if relu else g


def replaced(x: Tensor, at: Tensor, values: Tensor) -> Tensor:
    """``x`` [N, C, H, W] or [N, C] with values[p] as its element at[p], counted channels last."""
    order = counted(x)
    flat = order.flatten().index_put((at,), values)
    return uncounted(flat.view(order.shape), x)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, view: Source | None, block: RangeBlock, between: Between,
        x_sink: GradientSink | None,
    ) -> Tensor:  # fmt: skip
        layer = block.layer
        a, w = layer.encode_activation(x, view), layer.encode_weight()
        y, extremes = layer.product.forward_with_extremes(cast(QTensor, layer.observed(a)), cast(QTensor, w))
        between.put((y, extremes))
        ctx.block, ctx.between, ctx.x_sink, ctx.x_shape = block, between, x_sink, x.shape
        keep(ctx, [layer.input_operand(x, view, a), layer.weight_operand(weight, w)])
        return placeholder(y.shape, y.device)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        block = ctx.block
        # Named here, errors and operands would outlive their use.
        grad_x, grad_weight = product_gradients(
            ctx, block.layer, block.encode_errors(ctx.between.take()), kept(ctx)[0], ctx.x_sink
        )
        return grad_x, grad_weight, None, None, None, None


def _sum(output: View, shortcut: Source) -> tuple[Held, Tensor]:
    """A norm's output plus the residual stream, and the mask of the ReLU behind it. The stream's values end here: they
    are computed again where somebody else reads them."""
    values, extremes, mask = output.values(shortcut.values()[0])
    if isinstance(shortcut, Held):
        shortcut.release()
    return Held(values, extremes, lambda: output.values(shortcut.values()[0])[0]), mask


class _NormAndReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, product: Tensor, gamma: Tensor, beta: Tensor, trunk: Tensor | None, shortcut: Source | None,
        block: RangeBlock, between: Between, trunk_sink: GradientSink | None, sink: GradientSink, outcome: list[Source],
    ) -> Tensor:  # fmt: skip
        y, extremes = between.take()
        q, line = block.normalise(y, extremes, block.relu and trunk is None)
        del y
        output = View(q.codes, q.codes.shape, 8, line.slope, line.offset, block.relu, line.extremes)
        value, mask = placeholder(q.codes.shape, q.codes.device), None
        if trunk is None:
            outcome.append(output)
        elif shortcut is None:
            value, _, mask = output.values(trunk)
        else:
            held, mask = _sum(output, shortcut)
            outcome.append(held)
        ctx.block, ctx.between, ctx.trunk_sink, ctx.sink = block, between, trunk_sink, sink
        ctx.constant = line.constant
        keep(ctx, [Quantized(q)], [mask, gamma, *line[:-1]])
        return value

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (norm_input,), (mask, gamma, *vectors) = kept(ctx)
        q, line = cast(QTensor, norm_input.value), Line._make([*vectors, ctx.constant])
        codes = dense(q.codes)  # hooks of saved tensors may have laid them out otherwise
        q = replace(q, codes=codes.clone() if keeps_graph() else codes)
        g = ctx.sink.joined(grads[0])
        found = ctx.block.encode_gradient(g, mask, q, line, gamma)
        grad_trunk = None
        if mask is not None and ctx.needs_input_grad[3]:
            grad_trunk = sent(found.masked, ctx.trunk_sink) if mask.numel() else g
        if ctx.needs_input_grad[0]:
            # Held here, those would outlive their use, and autograd copies a gradient that somebody else holds.
            ctx.between.put(found._replace(masked=NOTHING, grad_weight=NOTHING, grad_bias=NOTHING))
        grad_product = placeholder(q.codes.shape, q.codes.device, math.inf)  # which no look for NaN mistakes for one
        return grad_product, found.grad_weight, found.grad_bias, grad_trunk, *[None] * 6
