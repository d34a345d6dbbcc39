"""Convolution (or linear layer), layer scale, residual addition, ReLU and clipped activation as one node of the graph.

The error is quantised where WAGE does it (Wu et al. 2018, Eq. 9; the authors' order of operators): behind the gradient
of the activation's clip, in front of the ReLU's mask. So its codes go through mask and layer scale, a power of two, and
enter the layer's products as they are; re-encoding a float error there would clip other values. Forwards, a block hands
codes to the next, and to the residual additions that read them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from qbench.kernels.bounded import bounded_values, encode_bounded, encode_bounded_error
from qbench.kernels.checks import dense
from qbench.kernels.packing import unpack_bits
from qbench.kernels.passes import apply_mask
from qbench.nn.deferred import defer, materialised, parted, sink_of
from qbench.nn.fused.base import BlockParts
from qbench.nn.gradient_sink import GradientSink, added_up, is_scaled, placeholder, sent, sent_in_codes
from qbench.nn.kept import keep, kept
from qbench.nn.layers import QuantizedLayer, over_channels, product_gradients
from qbench.nn.norms.layer_scale import LayerScaling
from qbench.nn.once import differentiable_once
from qbench.nn.products import Value
from qbench.nn.site import Site, straight_through
from qbench.nn.views import Coded, Source
from qbench.quant.formats import Direct, Shift
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import code_type


class BoundedBlock:
    """The parts of one block: its layer, its scale, the site of its output (None: not quantised), ReLU or not."""

    serves = True

    def __init__(self, layer: QuantizedLayer, scaling: LayerScaling, output: Site | None, relu: bool) -> None:
        self.layer = layer
        self.inverse = 1 / scaling.alpha
        self.output = output
        self.relu = relu
        limit = None if output is None else cast(Direct, output.spec).limit
        self.limit = torch.inf if limit is None else limit

    @classmethod
    def of(cls, parts: BlockParts) -> BoundedBlock | None:
        """The block of these modules; None unless the recipe takes its errors at the activation."""
        if parts.recipe.error_at != "activation":
            return None
        return cls(parts.layer, cast(LayerScaling, parts.norm), parts.output, parts.relu)

    def __call__(self, x: Tensor, trunk: Tensor | None) -> Tensor:
        """x [N, C_in, H, W] or [N, C_in] -> the block's output, an activation; ``trunk`` is added before the ReLU."""
        layer = self.layer
        if layer.training:
            (token, view), (trunk_token, below), sink, outcome = parted(x), parted(trunk), GradientSink(), list[Coded]()
            y = _BoundedBlock.apply(  # type: ignore[no-untyped-call]
                token, layer.in_graph, layer.bias, trunk_token, self, view, below, sink_of(x), sink_of(trunk), sink,
                outcome,
            )  # fmt: skip
            return defer(y, outcome[0], sink) if outcome else cast(Tensor, y)
        if torch.is_grad_enabled():
            return self.activate(layer(x), materialised(trunk))
        value, _, _ = self.bound(dense(layer(x)), *parted(trunk))
        return value if isinstance(value, Tensor) else defer(placeholder(value.codes.shape, x.device), Coded(value))

    def activate(self, product: Tensor, trunk: Tensor | None) -> Tensor:
        """The activation in evaluation; its rounding passes the gradient unchanged."""
        y = product * self.inverse if trunk is None else product * self.inverse + trunk
        value = y.clamp(0 if self.relu else -self.limit, self.limit)
        return value if self.output is None else straight_through(self.output, value)

    def bound(self, product: Tensor, trunk: Tensor | None, below: Source | None) -> tuple[Value, Tensor, Tensor]:
        """The activation, and the bits of the values whose gradient passes and of those that were not clipped.

        product: dense. below: where the trunk's values come from if not from that tensor.
        """
        if isinstance(below, Coded) and is_scaled(below.q):
            trunk, scale = below.q.codes, below.q.scale
        else:
            trunk, scale = trunk if below is None else below.values()[0], None
        arguments = (product, self.inverse, trunk, scale, self.relu, self.limit)
        site = self.output
        if site is None or site.is_observed or site.format.is_stochastic:
            found = bounded_values(*arguments)
            value: Value = found.value if site is None else site(found.value)
            return value, found.passed, found.unclipped
        spec = cast(Direct, site.format)
        top = spec.largest_integer
        coded = encode_bounded(*arguments, 2.0 ** (1 - spec.bits), -top, top, code_type(spec))
        return QTensor(coded.codes, coded.scale, None, spec), coded.passed, coded.unclipped

    def encode_error(self, sink: GradientSink, arrived: Tensor, passed: Tensor, unclipped: Tensor) -> Value:
        """The gradient at the output as the trunk's error and, before the layer scale, the layer's.

        arrived: what of it came through the graph.
        """
        site, (total, smaller) = self.layer.error_site, sink.taken(arrived)
        if site is not None and isinstance(site.spec, Shift) and not site.is_observed:
            joined, joined_scale, spec = None, None, site.spec
            if total is not None and len(smaller) == 1 and isinstance(smaller[0], QTensor):
                joined, joined_scale = smaller[0].codes, smaller[0].scale
            else:
                total = added_up(total, smaller, arrived.shape)
            codes, scale = encode_bounded_error(
                total, joined, joined_scale, passed, unclipped, 2.0 ** (spec.bits - 1), spec.largest_integer,
                code_type(spec),
            )  # fmt: skip
            return QTensor(codes, scale, None, spec)
        error, extremes = apply_mask(added_up(total, smaller, arrived.shape), unclipped)
        if site is None:
            return apply_mask(error, passed)[0]
        q: QTensor = site(error, extremes)
        return replace(q, codes=q.codes * unpack_bits(passed, 1, arrived.shape).to(q.codes.dtype))

    def scaled_error(self, error: Value) -> Value:
        """``error`` as it arrives at the product: divided by the layer scale."""
        if isinstance(error, Tensor):
            return error * self.inverse
        assert error.scale is not None
        return replace(error, scale=error.scale * self.inverse)


class _BoundedBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, trunk: Tensor | None, block: BoundedBlock,
        view: Source | None, below: Source | None, x_sink: GradientSink | None, trunk_sink: GradientSink | None,
        sink: GradientSink, outcome: list[Coded],
    ) -> Tensor:  # fmt: skip
        layer = block.layer
        a, w = layer.encode_activation(x, view), layer.encode_weight()
        product = dense(layer.multiply(layer.observed(a), w))
        value, passed, unclipped = block.bound(product, trunk, below)
        ctx.block, ctx.x_shape = block, x.shape
        ctx.x_sink, ctx.trunk_sink, ctx.sink = x_sink, trunk_sink, sink
        keep(ctx, [layer.input_operand(x, view, a), layer.weight_operand(weight, w)], [passed, unclipped])
        if isinstance(value, Tensor):
            return value
        outcome.append(Coded(value))
        return placeholder(product.shape, product.device)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        block: BoundedBlock = ctx.block
        operands, (passed, unclipped) = kept(ctx)
        at_output = block.encode_error(ctx.sink, grads[0], passed, unclipped)
        error = block.scaled_error(at_output)
        grad_x, grad_w = product_gradients(ctx, block.layer, (error, error), operands, ctx.x_sink)
        grad_bias, grad_trunk = None, None
        if ctx.needs_input_grad[2]:
            floats = at_output if isinstance(at_output, Tensor) else at_output.dequantize()
            grad_bias = over_channels(floats * block.inverse)
        if ctx.needs_input_grad[3]:
            sink = ctx.trunk_sink
            grad_trunk = sent_in_codes(at_output, sink) if isinstance(at_output, QTensor) else sent(at_output, sink)
        return grad_x, grad_w, grad_bias, grad_trunk, *[None] * 7
