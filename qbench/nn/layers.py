"""Convolution and linear layers whose operands, errors and weight gradients are quantised.

One autograd function per layer, with two separate backward operands: the error that goes on to the layer below and
the one the weight gradient is formed with (Banner et al. 2018, section 4, "gradient bifurcation").
"""

from __future__ import annotations

from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from qbench.kernels.checks import require_type
from qbench.nn.between import Between
from qbench.nn.clock import Clock
from qbench.nn.coded import CodedWeight
from qbench.nn.deferred import materialised, parted, sink_of
from qbench.nn.gradient_sink import GradientSink, sent
from qbench.nn.kept import Operand, Quantized, Recomputed, Reencoded, keep, kept, operand, release
from qbench.nn.once import differentiable_once
from qbench.nn.products import Value, WeightError, product_of
from qbench.nn.remembered import Remembered, count_step
from qbench.nn.site import Site, apply_function, backward_site_for, nearest_version, site_for, through, value_site_for
from qbench.nn.uncompiled import uncompiled
from qbench.nn.views import Coded, DirectView, Held, Source
from qbench.quant.formats import Affine, Binary, Direct, Quantizer
from qbench.quant.qtensor import QTensor
from qbench.quant.ranges import pair_of
from qbench.recipe import Arithmetic, Recipe

MANY_CODES = 2**17
"""So many codes of a tensor that exists anyway are made again for backward; for fewer the call costs more than they."""


class QuantizedLayer(CodedWeight):
    """A convolution or linear layer under a recipe.

    Takes over the float layer's parameters, so names and initial values stay. A path whose slot is empty is float.
    """

    bias: nn.Parameter | None

    def __init__(
        self, layer: nn.Conv2d | nn.Linear, recipe: Recipe, name: str, clock: Clock, arithmetic: Arithmetic
    ) -> None:
        super().__init__()
        self.product = product_of(layer, arithmetic)
        self.weight = cast(nn.Parameter, layer.weight)
        self.register_parameter("bias", cast(nn.Parameter | None, layer.bias))
        self.inference_weight = recipe.inference_weight
        self.shares_error = recipe.wgrad_error == "error"
        self.weight_site = site_for(resolve_scale(recipe.weight, self.weight), f"{name}/weight", clock)
        self.activation_site = site_for(recipe.activation, f"{name}/activation", clock)
        self.error_site = backward_site_for(recipe.error, f"{name}/error", clock)
        wgrad_error = None if recipe.wgrad_error == "error" else recipe.wgrad_error
        self.wgrad_error_site = backward_site_for(wgrad_error, f"{name}/wgrad_error", clock)
        self.gradient_site = backward_site_for(recipe.gradient, f"{name}/gradient", clock)
        self.bias_site = site_for(None if self.bias is None else recipe.bias, f"{name}/bias", clock)
        self.output = value_site_for(recipe.output, f"{name}/output", clock)
        self._evaluated = Remembered[QTensor]()

    @property
    def is_float(self) -> bool:
        """Whether no path of this layer is quantised."""
        sites = (self.weight_site, self.activation_site, self.error_site, self.wgrad_error_site, self.gradient_site)
        return all(site is None for site in (*sites, self.bias_site, self.output))

    def train(self, mode: bool = True) -> Self:
        """As every module. An evaluation begins so, and what an earlier one remembers is no longer certain: averages of
        weights are put in their place by ``weight.data.copy_()``, which nothing counts."""
        count_step()
        return super().train(mode)

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """x -> product with the (quantised) weight, plus the bias. A linear layer takes x [..., C], a convolution
        x [C, H, W] too."""
        if self.weight.dim() == 4 and x.dim() == 3:
            return self.product_with_bias(cast(Tensor, materialised(x))[None], None)[0]
        if self.weight.dim() != 2 or x.dim() == 2:
            return self.product_with_bias(x, None)
        rows = cast(Tensor, materialised(x)).reshape(-1, x.shape[-1])
        return self.product_with_bias(rows, None).view(*x.shape[:-1], self.weight.shape[0])

    def product_with_bias(self, x: Tensor, error_range: Between | None) -> Tensor:
        """As ``forward``. error_range: where the extremes of the gradient at the output will be found, if something
        measures them."""
        if self.training:
            token, view = parted(x)
            y = apply_function(_QuantizedProduct, token, self.in_graph, self.bias, self, view, error_range, sink_of(x))
        elif torch.is_grad_enabled():
            y = apply_function(_EvaluatedProduct, x, self.in_graph, self.bias, self)
        else:
            y = self.multiply(self.observed(self.encode_activation(*parted(x))), self.encode_weight())
        return through(self.output, y)

    def encode_activation(self, x: Tensor, view: Source | None) -> Operand:
        """The activation operand: of ``view`` where the activation is one, else of the tensor ``x``."""
        if view is None:
            if self.activation_site is None and self.weight_site is not None:
                require_type(x, "x", torch.float32)  # the product would be one of this type, which is no format here
            return operand(x if self.activation_site is None else self.activation_site(x))
        if self.activation_site is None:
            if isinstance(view, Coded):
                return operand(view.values()[0])
            return held_operand(view) if isinstance(view, Held) else Recomputed(view)
        return encode_view(self.activation_site, view)

    def observed(self, activation: Operand) -> Value:
        """The value of ``activation``; the codes of a deferred one are noted here, because no site made them."""
        value = activation.value
        if self.activation_site is not None and isinstance(activation, Recomputed) and isinstance(value, QTensor):
            self.activation_site.observe(value, lambda: activation.view.values()[0])
        return value

    def encode_weight(self) -> Value:
        """The weight operand; the float weight where inference uses it by definition of the method."""
        if self.training and self.is_frozen:
            raise RuntimeError("the weights come from an inference checkpoint: the model can be evaluated, not trained")
        site, master = self.weight_site, self.master
        if site is not None and master is not None and master.format == nearest_version(site.spec):
            return site.observe(master, master.dequantize)
        if self.training:
            self._evaluated.forget()

        def weight() -> Tensor:
            return self.weight.detach() if master is None else master.dequantize()

        if site is None or (not self.training and self.inference_weight == "float"):
            return weight()
        if not self.training and self.inference_weight == "ensemble":
            return site.draw(weight())
        if self.training or site.watcher is not None:
            return cast(QTensor, site(weight()))
        sources = (self.weight, *self.weight_buffers(), *site.buffers())
        return self._evaluated.get(sources, lambda: cast(QTensor, site(weight())))

    def weight_operand(self, weight: Tensor, encoded: Value) -> Operand:
        """The weight as it is kept for backward. weight: the parameter, encoded: what :meth:`encode_weight` gave."""
        site = self.weight_site
        if site is None or self.master is not None or not is_worth_repeating(site, encoded):
            return operand(encoded)
        return Reencoded(weight, site.encode_again)

    def input_operand(self, x: Tensor, view: Source | None, encoded: Operand) -> Operand:
        """The activation as it is kept for backward. encoded: what :meth:`encode_activation` gave for ``x`` and
        ``view``. A tensor ``x`` that needs no gradient is the network's own input: whoever trains holds it during the
        step."""
        site = self.activation_site
        if view is not None or x.requires_grad or site is None or not isinstance(encoded, Quantized):
            return encoded
        return Reencoded(x, site.encode_again) if is_worth_repeating(site, encoded.value) else encoded

    def multiply(self, x: Value, weight: Value) -> Tensor:
        """The forward product and the bias."""
        bias: Tensor | None = self.bias
        if bias is not None and self.bias_site is not None:
            bias = self.bias_site.rounded(bias.detach())
        if isinstance(x, Tensor) and isinstance(weight, Tensor):
            return self.product.plain(x, weight, bias)
        y = self.product.forward(x, weight)
        if bias is None:
            return y
        return y + (bias if y.dim() == 2 else bias[:, None, None])

    def encode_errors(self, error: Tensor, measured: Tensor | None) -> tuple[Value, Value]:
        """The gradient at the output as two operands: for the input gradient, and for the weight gradient.

        measured: its extremes [2], if they are known.
        """
        for_input = self.error_site(error, measured) if self.error_site is not None else error
        if self.shares_error:
            return for_input, for_input
        return for_input, self.wgrad_error_site(error, measured) if self.wgrad_error_site is not None else error

    def weight_gradient(self, activation: Value, error: WeightError) -> Tensor:
        """The (quantised) gradient of the weight."""
        grad = self.product.weight_grad(activation, error, self.weight.shape)
        return grad if self.gradient_site is None else self.gradient_site.rounded(grad)


class _QuantizedProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None,
        layer: QuantizedLayer, view: Source | None, error_range: Between | None, x_sink: GradientSink | None,
    ) -> Tensor:  # fmt: skip
        a, w = layer.encode_activation(x, view), layer.encode_weight()
        ctx.layer, ctx.x_shape, ctx.error_range, ctx.x_sink = layer, x.shape, error_range, x_sink
        keep(ctx, [layer.input_operand(x, view, a), layer.weight_operand(weight, w)])
        return layer.multiply(layer.observed(a), w)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        layer: QuantizedLayer = ctx.layer
        (error,) = grads
        measured = None if ctx.error_range is None else ctx.error_range.take()
        # Named here, errors and operands would outlive their use.
        grad_x, grad_weight = product_gradients(
            ctx, layer, layer.encode_errors(error, measured), kept(ctx)[0], ctx.x_sink
        )
        grad_bias = over_channels(error) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, *[None] * 4


class _EvaluatedProduct(torch.autograd.Function):
    """The product in evaluation: its rounding passes the gradient unchanged, and the gradients are floats, because the
    formats of errors belong to training."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: QuantizedLayer) -> Tensor:
        a, w = layer.encode_activation(x, None), layer.encode_weight()
        ctx.product, ctx.x_shape, ctx.weight_shape = layer.product, x.shape, weight.shape
        keep(ctx, [a, operand(w)])
        return layer.multiply(layer.observed(a), w)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (a, w), _ = kept(ctx)
        (error,) = grads
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        grad_x = ctx.product.input_grad(error, w.value, ctx.x_shape) if wants_x else None
        grad_weight = ctx.product.weight_grad(a.value, error, ctx.weight_shape) if wants_weight else None
        return grad_x, grad_weight, over_channels(error) if wants_bias else None, None


def over_channels(error: Tensor) -> Tensor:
    """The gradient of a bias [C]; error [N, C] or [N, C, H, W]."""
    return error.sum([d for d in range(error.dim()) if d != 1])


def product_gradients(
    ctx: Any,
    layer: QuantizedLayer,
    errors: tuple[Value, WeightError],
    operands: list[Operand],
    sink: GradientSink | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of a layer's input and of its weight, where they are wanted, from what its node kept.

    ctx: of the node, which has the input's shape as ``x_shape``, and input and weight as its first arguments. errors:
    for the input gradient and for the weight gradient. operands: the two that the node kept; the list is emptied.
    sink: where the input gradient may be left. The larger of the results is made last, when what only the other needs
    is gone.
    """
    a, w = operands
    operands.clear()
    for_input, for_weight = errors
    del errors
    grad_x, (wants_input, wants_weight) = None, ctx.needs_input_grad[:2]
    weight_is_last = ctx.x_shape.numel() < layer.weight.numel()
    if wants_input and weight_is_last:
        grad_x = _input_gradient(layer, for_input, w.value, ctx.x_shape, sink)
        del for_input, w
    grad_weight = layer.weight_gradient(a.value, for_weight) if wants_weight else None
    del a, for_weight
    release(ctx)
    if wants_input and not weight_is_last:
        grad_x = _input_gradient(layer, for_input, w.value, ctx.x_shape, sink)
    return grad_x, grad_weight


def _input_gradient(
    layer: QuantizedLayer, error: Value, weight: Value, shape: torch.Size, sink: GradientSink | None
) -> Tensor | None:
    """What the layer sends to its input: the gradient, or what stands for it where it is left."""
    if sink is not None and sink.is_wanted and sink.total is not None:
        layer.product.add_input_grad_(sink.total, error, weight)
        return None
    return sent(layer.product.input_grad(error, weight, shape), sink)


def is_worth_repeating(site: Site, encoded: Value) -> bool:
    """Whether the codes that ``site`` made of a tensor that exists anyway are better made again than kept."""
    return isinstance(encoded, QTensor) and encoded.codes.numel() >= MANY_CODES and site.is_repeatable


def held_operand(held: Held) -> Operand:
    """The float values of ``held``, kept as what says them where something does."""
    values = held.values()[0]
    return operand(values) if held.view is None else Recomputed(held.view, found=values)


def encode_view(site: Site, view: Source) -> Operand:
    """A deferred activation quantised at ``site``: from what it is a view of where its format allows, else by way of
    floats."""
    spec = site.format
    if isinstance(view, Coded):
        is_known = spec == view.q.format and not spec.is_stochastic
        return operand(site.observe(view.q, lambda: view.values()[0]) if is_known else site(view.values()[0]))
    if isinstance(view, Held):
        return operand(site.encode_held(view))
    if isinstance(view, DirectView):
        if not isinstance(spec, Direct) or spec.is_stochastic:
            return operand(site(view.values()[0]))
        return operand(site.observe(view.encode(spec), lambda: view.values()[0]))
    is_plain = isinstance(spec, Affine) and spec.takes_extremes and spec.bits <= 8
    # Behind a fixed range, what is not finite shows in the line alone.
    extremes = view.offset[:1] if site.has_fixed_range else view.extremes
    if not is_plain or view.table is not None or extremes is None:
        return operand(site(view.values()[0]))
    assert isinstance(spec, Affine)
    return Recomputed(view, (spec, pair_of(site.limits(extremes)), site.key))


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
