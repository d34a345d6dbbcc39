"""Convolution (or linear layer), Range batch norm on codes, residual addition and ReLU as one node of the graph.

Nothing float-sized is kept for backward: the layer's operand and the norm's input are codes, the ReLU's output is a
view of the latter (or one bit per value, where the residual stream was added), and the errors are codes as well
(Banner et al. 2018 with the norm's input and output gradient quantised, as in the authors' code).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from qbench.kernels import passes
from qbench.kernels.encoding import extremes as extremes_of
from qbench.kernels.random import counted, uncounted
from qbench.kernels.range_norm import range_gradient_line, range_line
from qbench.nn.deferred import Deferred, View, defer, materialised, placeholder, token_of
from qbench.nn.kept import Quantized, keep, kept, operand
from qbench.nn.layers import QuantizedLayer
from qbench.nn.norms.range import RangeBatchNorm, range_constant
from qbench.nn.site import Site
from qbench.quant.formats import Affine, Quantizer, Symmetric
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import code_type, quantize, random_bits
from qbench.recipe import RangeNorm, Recipe


def fits(recipe: Recipe, layer: Recipe) -> bool:
    """Whether blocks of ``recipe`` can be one node. layer: the recipe of the block's convolution or linear layer."""
    norm = recipe.norm
    return (
        isinstance(norm, RangeNorm)
        and all(_is_plain(spec) for spec in (norm.input, recipe.norm_error, layer.activation, layer.error))
        and norm.scale is None and norm.affine is None and norm.tie == "one"
        and layer.weight is not None and (layer.wgrad_error == "error" or isinstance(layer.wgrad_error, Symmetric))
        and recipe.branch_error is None and recipe.trunk is None and layer.output is None
    )  # fmt: skip


def _is_plain(spec: Quantizer | None) -> bool:
    """Affine codes of one byte with a whole zero point and one range for the tensor."""
    return isinstance(spec, Affine) and spec.bits <= 8 and spec.scheme == "zero_point" and spec.takes_extremes


class Line(NamedTuple):
    """A norm of codes as slope * code + offset per channel, and what its backward needs; see
    :mod:`qbench.kernels.range_norm`. extremes: smallest and largest output [2]."""

    slope: Tensor
    offset: Tensor
    extremes: Tensor
    mean: Tensor
    inverse: Tensor
    low_at: Tensor
    high_at: Tensor
    constant: float


class RangeBlock:
    """The parts of one block: its layer, its norm, the site of the gradient at the norm's output, ReLU or not."""

    def __init__(self, layer: QuantizedLayer, norm: RangeBatchNorm, norm_error: Site, relu: bool) -> None:
        self.layer = layer
        self.norm = norm
        self.norm_error = norm_error
        self.relu = relu

    def __call__(self, x: Tensor, trunk: Tensor | None) -> Tensor:
        """As the modules one after another: x [N, C_in, H, W] or [N, C_in], trunk of the output's shape."""
        token, view = (token_of(x), x.view_of_codes) if isinstance(x, Deferred) else (x, None)
        outcome: list[View] = []
        y = _RangeBlock.apply(  # type: ignore[no-untyped-call]
            token, self.layer.in_graph, self.norm.weight, self.norm.bias, materialised(trunk), self, view, outcome
        )
        return defer(y, outcome[0]) if outcome else cast(Tensor, y)

    @property
    def sites(self) -> tuple[Site, Site]:
        """The sites of its norm, whose codes are used as integers."""
        return cast(Site, cast(Any, self.norm.input_site).site), self.norm_error

    def encode_product(self, y: Tensor, extremes: Tensor) -> QTensor:
        """The norm's input as codes."""
        site, _ = self.sites
        return site.observe(quantize(y, site.format, site.key, site.limits(extremes)), lambda: y)

    def line(self, q: QTensor, relu: bool) -> Line:
        """The norm as a line per channel, from the statistics of its input's codes. Moves the running statistics."""
        norm = self.norm
        rows = q.codes.numel() // q.codes.shape[1]
        chunks = math.gcd(norm.spec.chunks, rows)
        constant = range_constant(norm.spec.constant, rows // chunks)
        sums, lows, highs, low_at, high_at = passes.chunk_statistics(q.codes, chunks)
        assert q.scale is not None and q.zero_point is not None
        slope, offset, mean, inverse, batch_mean, spread, extremes = range_line(
            sums, lows, highs, rows, q.scale, q.zero_point, norm.weight.detach(), norm.bias.detach(),
            constant, norm.spec.eps, relu,
        )  # fmt: skip
        norm.track(batch_mean, spread)
        return Line(slope, offset, extremes, mean, inverse, low_at, high_at, constant)

    def encode_gradient(self, g: Tensor, view: View, mask: Tensor | None) -> tuple[QTensor, Tensor, Tensor | None]:
        """The gradient at the norm's output as codes, their sums [2, C], and the residual stream's gradient.

        mask: of the ReLU behind the residual addition; where there is none the ReLU's mask follows from the view.
        """
        relu, to_trunk = view.relu, None
        if mask is not None:
            g, extremes = passes.apply_mask(g, mask) if mask.numel() else (g, extremes_of(g))
            relu, to_trunk = False, g
        else:
            extremes = passes.view_gradient_extremes(g, view.codes, view.slope, view.offset, relu)
        spec = cast(Affine, self.norm_error.format)
        codes, scale, zero, sums = passes.encode_view_gradient(
            g, view.codes, view.slope, view.offset, relu, extremes[0], extremes[1],
            spec.bits, True, random_bits(spec, self.norm_error.key),
        )  # fmt: skip
        q = QTensor(codes, scale, zero, spec)
        return self.norm_error.observe(q, lambda: masked_gradient(g, view, relu)), sums, to_trunk

    def encode_errors(
        self, codes: Tensor, slope: Tensor, offset: Tensor, at: Tensor, values: Tensor
    ) -> tuple[QTensor, QTensor]:
        """The gradient at the layer's output, slope * codes + offset but ``values`` at the elements ``at``, as two
        operands: for the input gradient, and for the weight gradient."""
        line = (codes, slope, offset, False)
        low, high = passes.view_extremes(*line, at, values)
        site = cast(Site, self.layer.error_site)
        spec = cast(Affine, site.format)
        for_input = QTensor(
            *passes.encode_affine_view(*line, low, high, spec.bits, True, random_bits(spec, site.key), at, values),
            spec,
        )

        def exact() -> Tensor:
            return replaced(passes.affine_view(*line, None)[0], at, values)

        site.observe(for_input, exact)
        wide = self.layer.wgrad_error_site
        if wide is None:
            return for_input, for_input
        wide_spec = cast(Symmetric, wide.format)
        top = wide_spec.largest_integer
        codes, scale = passes.encode_scaled_view(
            *line, torch.maximum(-low, high), "linear", top, -top, top, wide_spec.rounding,
            random_bits(wide_spec, wide.key), code_type(wide_spec), at, values,
        )  # fmt: skip
        return for_input, wide.observe(QTensor(codes, scale, None, wide_spec), exact)


def masked_gradient(g: Tensor, view: View, relu: bool) -> Tensor:
    """``g`` where the value of ``view`` is positive, 0 elsewhere; all of it without ``relu``."""
    return torch.where(view.values()[0] > 0, g, 0.0) if relu else g


def replaced(x: Tensor, at: Tensor, values: Tensor) -> Tensor:
    """``x`` [N, C, H, W] or [N, C] with values[p] as its element at[p], counted channels last."""
    order = counted(x)
    flat = order.flatten().index_put((at,), values)
    return uncounted(flat.view(order.shape), x)


class _RangeBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, trunk: Tensor | None,
        block: RangeBlock, view: View | None, outcome: list[View],
    ) -> Tensor:  # fmt: skip
        layer = block.layer
        a, w = layer.encode_activation(x, view), layer.encode_weight()
        y, extremes = layer.product.forward_with_extremes(cast(QTensor, layer.observed(a)), cast(QTensor, w))
        q = block.encode_product(y, extremes)
        del y
        line = block.line(q, block.relu and trunk is None)
        output = View(q.codes, q.codes.shape, 8, line.slope, line.offset, block.relu, line.extremes)
        mask = None
        if trunk is None:
            outcome.append(output)
            value = placeholder(q.codes.shape, q.codes.device)
        else:
            value, _, mask = output.values(trunk)
        ctx.block, ctx.x_shape, ctx.constant = block, x.shape, line.constant
        keep(ctx, [a, operand(w), Quantized(q)], [mask, gamma, *line[:-1]])
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        block: RangeBlock = ctx.block
        (a, w, norm_input), others = kept(ctx)
        mask, gamma, *vectors = others
        line = Line._make([*vectors, ctx.constant])
        q = cast(QTensor, norm_input.value)
        view = View(q.codes, q.codes.shape, 8, line.slope, line.offset, block.relu, line.extremes)
        e, sums, grad_trunk = block.encode_gradient(grads[0], view, mask)
        rows = q.codes.numel() // q.codes.shape[1]
        *error_line, grad_gamma, grad_beta = range_gradient_line(
            sums, rows, cast(Tensor, e.scale), cast(Tensor, e.zero_point), cast(Tensor, q.scale), line.mean,
            line.inverse, gamma, line.constant, e.codes, line.low_at, line.high_at,
        )  # fmt: skip
        for_input, for_weight = block.encode_errors(e.codes, *error_line)
        layer = block.layer
        grad_x = layer.product.input_grad(for_input, w.value, ctx.x_shape) if ctx.needs_input_grad[0] else None
        grad_w = layer.product.weight_grad(a.value, for_weight, layer.weight.shape)
        if layer.gradient_site is not None:
            grad_w = layer.gradient_site(grad_w).dequantize()
        return grad_x, grad_w, grad_gamma, grad_beta, grad_trunk, None, None, None
