"""Convolution (or linear layer), layer scale, residual addition, ReLU and clipped activation as one node of the graph.

The error is quantised where WAGE does it (Wu et al. 2018, Eq. 9; the authors' order of operators): behind the gradient
of the activation's clip, in front of the ReLU's mask. So its codes go through mask and layer scale, a power of two, and
enter the layer's products as they are; re-encoding a float error there would clip other values.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from qbench.kernels.packing import pack_bits, unpack_bits
from qbench.nn.deferred import materialised
from qbench.nn.fused.base import BlockParts
from qbench.nn.kept import keep, kept, operand
from qbench.nn.layers import QuantizedLayer, Value, over_channels
from qbench.nn.norms.layer_scale import LayerScaling
from qbench.nn.once import differentiable_once
from qbench.nn.site import Site, straight_through
from qbench.quant.formats import Quantizer

MASKED, OPEN, CLIPPED = 0, 1, 2
"""What became of a value: set to 0 by the ReLU, passed, clipped by the activation's format."""

STATE_BITS = 2


class BoundedBlock:
    """The parts of one block: its layer, its scale, the site of its output (None: not quantised), ReLU or not."""

    serves = True

    def __init__(self, layer: QuantizedLayer, scaling: LayerScaling, output: Site | None, relu: bool) -> None:
        self.layer = layer
        self.inverse = 1 / scaling.alpha
        self.output = output
        self.relu = relu
        self.limit = torch.inf if output is None else limit_of(output.spec)

    @classmethod
    def of(cls, parts: BlockParts) -> BoundedBlock | None:
        """The block of these modules; None unless the recipe takes its errors at the activation."""
        if parts.recipe.error_at != "activation":
            return None
        return cls(parts.layer, cast(LayerScaling, parts.norm), parts.output, parts.relu)

    def __call__(self, x: Tensor, trunk: Tensor | None) -> Tensor:
        """x [N, C_in, H, W] or [N, C_in] -> the block's output, an activation; ``trunk`` is added before the ReLU."""
        x, trunk = materialised(x), materialised(trunk)
        if not self.layer.training:
            return self.activate(self.scaled(self.layer(x), trunk))
        layer = self.layer
        return cast(Tensor, _BoundedBlock.apply(x, layer.in_graph, layer.bias, trunk, self))  # type: ignore[no-untyped-call]

    def scaled(self, product: Tensor, trunk: Tensor | None) -> Tensor:
        """The layer's output behind the layer scale, plus ``trunk``."""
        y = product * self.inverse
        return y if trunk is None else y + trunk

    def activate(self, y: Tensor) -> Tensor:
        """The activation; its rounding passes the gradient unchanged."""
        value = y.clamp(0 if self.relu else -self.limit, self.limit)
        return value if self.output is None else straight_through(self.output, value)

    def states(self, y: Tensor) -> Tensor:
        """What became of each value of ``y``, uint8."""
        states = torch.where(y > self.limit, CLIPPED, OPEN)
        states = torch.where(y <= 0, MASKED, states) if self.relu else torch.where(y < -self.limit, CLIPPED, states)
        return states.to(torch.uint8)

    def encode_error(self, g: Tensor, states: Tensor) -> tuple[Value, Tensor]:
        """The gradient at the output as the layer's operand (before the layer scale), and as values for the trunk."""
        error = torch.where(states == CLIPPED, 0.0, g)
        site = self.layer.error_site
        if site is None:
            error = torch.where(states == MASKED, 0.0, error)
            return error, error
        q = site(error)
        q = replace(q, codes=torch.where(states == MASKED, 0, q.codes))
        return q, q.dequantize()

    def scaled_error(self, error: Value) -> Value:
        """``error`` as it arrives at the product: divided by the layer scale."""
        if isinstance(error, Tensor):
            return error * self.inverse
        assert error.scale is not None
        return replace(error, scale=error.scale * self.inverse)


def limit_of(spec: Quantizer) -> float:
    """Largest value of a clipped fixed grid; infinite where the format clips nothing."""
    limit = getattr(spec, "limit", None)
    return torch.inf if limit is None else float(limit)


class _BoundedBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, trunk: Tensor | None, block: BoundedBlock
    ) -> Tensor:
        layer = block.layer
        a, w = layer.encode_activation(x, None), layer.encode_weight()
        y = block.scaled(layer.multiply(layer.observed(a), w), trunk)
        value, states = block.activate(y), block.states(y)
        ctx.block, ctx.x_shape, ctx.has_trunk, ctx.shape = block, x.shape, trunk is not None, states.shape
        keep(ctx, [a, operand(w)], [pack_bits(states, STATE_BITS)])
        return value

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        block: BoundedBlock = ctx.block
        layer = block.layer
        (a, w), (packed,) = kept(ctx)
        error, for_trunk = block.encode_error(grads[0], unpack_bits(packed, STATE_BITS, ctx.shape))
        error = block.scaled_error(error)
        grad_x = layer.product.input_grad(error, w.value, ctx.x_shape) if ctx.needs_input_grad[0] else None
        grad_w = layer.weight_gradient(a.value, error) if ctx.needs_input_grad[1] else None
        grad_bias = over_channels(for_trunk * block.inverse) if ctx.needs_input_grad[2] else None
        return grad_x, grad_w, grad_bias, for_trunk if ctx.has_trunk else None, None
