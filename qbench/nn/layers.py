"""Convolution and linear layers whose operands, errors and weight gradients are quantised.

One autograd function per layer, with two separate backward operands: the error that goes on to the layer below and
the one the weight gradient is formed with (Banner et al. 2018, section 4, "gradient bifurcation").
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from qbench.nn import arithmetic
from qbench.nn.arithmetic import Geometry
from qbench.nn.site import Clock, apply_function, site_for
from qbench.quant.formats import Binary, Quantizer
from qbench.quant.qtensor import QTensor
from qbench.recipe import Recipe

Value = Tensor | QTensor


class Product(Protocol):
    """The three products of a layer: forward, input gradient, weight gradient."""

    def forward(self, x: Value, weight: Value) -> Tensor: ...
    def input_grad(self, error: Value, weight: Value, shape: torch.Size) -> Tensor: ...
    def weight_grad(self, x: Value, error: Value, shape: torch.Size) -> Tensor: ...
    def plain(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor: ...


class ConvProduct:
    """Products of a 2-D convolution; see :mod:`qbench.nn.arithmetic` for shapes."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    def forward(self, x: Value, weight: Value) -> Tensor:
        return arithmetic.conv(x, weight, self.geometry)

    def input_grad(self, error: Value, weight: Value, shape: torch.Size) -> Tensor:
        return arithmetic.conv_input_grad(error, weight, shape, self.geometry)

    def weight_grad(self, x: Value, error: Value, shape: torch.Size) -> Tensor:
        return arithmetic.conv_weight_grad(x, error, shape, self.geometry)

    def plain(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        g = self.geometry
        return functional.conv2d(x, weight, bias, g.stride, g.padding, g.dilation, g.groups)


class LinearProduct:
    """Products of a linear layer."""

    def forward(self, x: Value, weight: Value) -> Tensor:
        return arithmetic.linear(x, weight)

    def input_grad(self, error: Value, weight: Value, shape: torch.Size) -> Tensor:
        return arithmetic.linear_input_grad(error, weight)

    def weight_grad(self, x: Value, error: Value, shape: torch.Size) -> Tensor:
        return arithmetic.linear_weight_grad(x, error)

    def plain(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, weight, bias)


class QuantizedLayer(nn.Module):
    """A convolution or linear layer under a recipe.

    Takes over the float layer's parameters, so names and initial values stay. A path whose slot is empty is float.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layer: nn.Conv2d | nn.Linear, recipe: Recipe, name: str, clock: Clock) -> None:
        super().__init__()
        self.product = product_of(layer)
        self.weight = cast(nn.Parameter, layer.weight)
        self.register_parameter("bias", cast(nn.Parameter | None, layer.bias))
        self.inference_weight = recipe.inference_weight
        self.shares_error = recipe.wgrad_error == "error"
        self.weight_site = site_for(resolve_scale(recipe.weight, self.weight), f"{name}/weight", clock)
        self.activation_site = site_for(recipe.activation, f"{name}/activation", clock)
        self.error_site = site_for(recipe.error, f"{name}/error", clock)
        wgrad_error = None if recipe.wgrad_error == "error" else recipe.wgrad_error
        self.wgrad_error_site = site_for(wgrad_error, f"{name}/wgrad_error", clock)
        self.gradient_site = site_for(recipe.gradient, f"{name}/gradient", clock)

    @property
    def is_float(self) -> bool:
        """Whether no path of this layer is quantised."""
        sites = (self.weight_site, self.activation_site, self.error_site, self.wgrad_error_site, self.gradient_site)
        return all(site is None for site in sites)

    def forward(self, x: Tensor) -> Tensor:
        """x -> product with the (quantised) weight, plus the float bias."""
        if self.training:
            return apply_function(_QuantizedProduct, x, self.weight, self.bias, self)
        return self.multiply(self.encode_activation(x), self.encode_weight())

    def encode_activation(self, x: Tensor) -> Value:
        """The activation operand."""
        return self.activation_site(x) if self.activation_site is not None else x

    def encode_weight(self) -> Value:
        """The weight operand; the float weight where inference uses it by definition of the method."""
        if self.weight_site is None or (not self.training and self.inference_weight == "float"):
            return self.weight.detach()
        return cast(QTensor, self.weight_site(self.weight))

    def multiply(self, x: Value, weight: Value) -> Tensor:
        """The forward product and the bias."""
        if isinstance(x, Tensor) and isinstance(weight, Tensor):
            return self.product.plain(x, weight, self.bias)
        y = self.product.forward(x, weight)
        if self.bias is None:
            return y
        return y + (self.bias if y.dim() == 2 else self.bias[:, None, None])

    def encode_errors(self, error: Tensor) -> tuple[Value, Value]:
        """The gradient at the output as two operands: for the input gradient, and for the weight gradient."""
        for_input = self.error_site(error) if self.error_site is not None else error
        if self.shares_error:
            return for_input, for_input
        return for_input, self.wgrad_error_site(error) if self.wgrad_error_site is not None else error


class _QuantizedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: QuantizedLayer) -> Tensor:
        a, w = layer.encode_activation(x), layer.encode_weight()
        ctx.layer, ctx.x_shape = layer, x.shape
        ctx.formats = _save(ctx, a, w)
        return layer.multiply(a, w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        layer: QuantizedLayer = ctx.layer
        (error,) = grads
        a, w = _restore(ctx)
        for_input, for_weight = layer.encode_errors(error)
        grad_x = layer.product.input_grad(for_input, w, ctx.x_shape) if ctx.needs_input_grad[0] else None
        grad_weight = layer.product.weight_grad(a, for_weight, layer.weight.shape)
        if layer.gradient_site is not None:
            grad_weight = layer.gradient_site(grad_weight).dequantize()
        reduced = tuple(d for d in range(error.dim()) if d != 1)
        grad_bias = error.sum(reduced) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, None


def _save(ctx: Any, *values: Value) -> list[Quantizer | None]:
    """Save operands through autograd, so that memory hooks see them; returns each one's format (None: plain float)."""
    tensors: list[Tensor | None] = []
    for value in values:
        if isinstance(value, QTensor):
            tensors += [value.codes, value.scale, value.zero_point, value.table]
        else:
            tensors += [value, None, None, None]
    ctx.save_for_backward(*tensors)
    return [value.format if isinstance(value, QTensor) else None for value in values]


def _restore(ctx: Any) -> list[Value]:
    saved = ctx.saved_tensors
    rebuilt: list[Value] = []
    for i, spec in enumerate(ctx.formats):
        codes, scale, zero_point, table = saved[4 * i : 4 * i + 4]
        rebuilt.append(codes if spec is None else QTensor(codes, scale, zero_point, spec, table))
    return rebuilt


def product_of(layer: nn.Conv2d | nn.Linear) -> Product:
    """The products of a float layer. Only zero padding is supported: integer kernels pad with a code."""
    if isinstance(layer, nn.Linear):
        return LinearProduct()
    assert layer.padding_mode == "zeros" and not isinstance(layer.padding, str), "only zero padding can be quantised"
    stride, padding, dilation = (cast(tuple[int, int], tuple(v)) for v in (layer.stride, layer.padding, layer.dilation))
    return ConvProduct(Geometry(stride, padding, dilation, layer.groups))


def glorot_coefficient(weight: Tensor) -> float:
    """c = sqrt(1.5 / (n_in + n_out)) with n = kernel area times channels (BinaryConnect, authors' code).

    weight: [K, C, R, S] or [K, C].
    """
    area = weight[0, 0].numel()
    return float((1.5 / (area * (weight.shape[0] + weight.shape[1]))) ** 0.5)


def resolve_scale(spec: Quantizer | None, weight: Tensor) -> Quantizer | None:
    """Replace a layer-dependent scale by its number."""
    if isinstance(spec, Binary) and spec.scale == "glorot":
        return Binary(glorot_coefficient(weight), spec.rounding)
    return spec
