"""Quantised layers: bifurcation, every slot of a recipe, errors at the activation, what is encoded how often."""

from dataclasses import replace

import pytest
import torch
from arithmetics import both_arithmetics
from kept_tensors import noting_kept
from torch import nn

from qbench.errors import InputError
from qbench.kernels.random import Key
from qbench.nn import convert
from qbench.nn.blocks import ConvNormAct
from qbench.nn.clock import Clock
from qbench.nn.deferred import Deferred
from qbench.nn.layers import QuantizedLayer
from qbench.nn.norms.layer_scale import LayerScaling, ScaledLayer
from qbench.nn.site import Site, ValueSite
from qbench.quant.formats import Affine, Binary, Direct, FixedPoint, Shift, Symmetric
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import quantize
from qbench.recipe import Arithmetic, LayerScale, Recipe


@both_arithmetics
def test_per_channel_weight_scales(arithmetic: Arithmetic) -> None:
    x, w = torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3) * torch.tensor([0.1, 1, 10, 100]).view(4, 1, 1, 1)
    recipe = Recipe(weight=Symmetric(8, granularity="channel"))
    layer = QuantizedLayer(_conv(w), recipe, "l", Clock(), arithmetic)
    assert isinstance(layer.encode_weight(), QTensor)
    expected = nn.functional.conv2d(x, layer.encode_weight().dequantize())  # type: ignore[union-attr]
    assert torch.allclose(layer(x), expected, rtol=1e-5, atol=1e-4)
    layer(x.requires_grad_()).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def _conv(weight: torch.Tensor) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def gradients(recipe: Recipe, arithmetic: Arithmetic) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layer = QuantizedLayer(nn.Conv2d(3, 4, 3), recipe, "l", Clock(), arithmetic)
    x = torch.randn(2, 3, 6, 6).requires_grad_()
    y = layer(x)
    y.backward(torch.randn(y.shape))
    assert x.grad is not None
    assert layer.weight.grad is not None
    return x.grad, layer.weight.grad


@both_arithmetics
def test_bifurcation(arithmetic: Arithmetic) -> None:
    """Fewer error bits change the input gradient and leave the weight gradient bit-identical."""
    operands = {"weight": Affine(8), "activation": Affine(8), "wgrad_error": Symmetric(16)}
    x8, w8 = gradients(Recipe(error=Affine(8), **operands), arithmetic)  # type: ignore[arg-type]
    x4, w4 = gradients(Recipe(error=Affine(4), **operands), arithmetic)  # type: ignore[arg-type]
    assert not torch.equal(x8, x4)
    assert torch.equal(w8, w4)
    shared = gradients(Recipe(error=Affine(4), weight=Affine(8), activation=Affine(8)), arithmetic)
    assert not torch.equal(shared[1], w4)


@both_arithmetics
@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Linear(7, 5)], ids=str)
def test_a_recipe_that_quantises_nothing_changes_no_bit(layer: nn.Module, arithmetic: Arithmetic) -> None:
    x = torch.randn(2, 3, 6, 6) if isinstance(layer, nn.Conv2d) else torch.randn(2, 7)
    plain, converted = x.clone().requires_grad_(), x.clone().requires_grad_()
    layer.zero_grad()
    expected = layer(plain)
    expected.square().sum().backward()
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    wanted = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
    layer.zero_grad()
    y = QuantizedLayer(layer, Recipe(), "l", Clock(), arithmetic)(converted)
    y.square().sum().backward()
    assert torch.equal(y, expected)
    assert plain.grad is not None
    assert converted.grad is not None
    assert torch.equal(converted.grad, plain.grad)
    assert all(torch.equal(p.grad, w) for p, w in zip(layer.parameters(), wanted, strict=True) if p.grad is not None)


@both_arithmetics
def test_output_is_rounded_once_behind_products_and_bias(arithmetic: Arithmetic) -> None:
    """x * W + b in float64, then one conversion to <4, 4> (Gupta et al. 2015); exact, because grids are coarse."""
    factor, out = FixedPoint(2, 3), FixedPoint(4, 4)
    recipe = Recipe(weight=factor, activation=factor, bias=factor, output=out)
    torch.manual_seed(0)
    linear = nn.Linear(9, 5)
    layer = QuantizedLayer(linear, recipe, "l", Clock(), arithmetic)
    x = torch.randn(6, 9).requires_grad_()
    y = layer(x)

    def on(spec: FixedPoint, t: torch.Tensor) -> torch.Tensor:
        return quantize(t.detach(), spec, Key(0, 0, 0)).dequantize().double()

    exact = on(factor, x) @ on(factor, linear.weight).t() + on(factor, linear.bias)
    step = 2.0**-4
    assert torch.equal(y.double(), ((exact / step + 0.5).floor() * step).clamp(-8, 8 - step))
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad.double(), on(factor, linear.weight).sum(0).expand(6, 9))


@pytest.mark.parametrize("to_trunk", [True, False])
def test_trunk_format_belongs_to_blocks_that_end_in_the_trunk(to_trunk: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(ConvNormAct(3, 8, 3, to_trunk=to_trunk), ConvNormAct(8, 8, 3))
    converted = convert(model, Recipe(weight=Symmetric(8), trunk=Direct(4, 4.0))).model
    y = converted[0](torch.randn(2, 3, 5, 5, requires_grad=True))  # type: ignore[index]
    steps = y * 2**3
    assert torch.equal(steps, steps.round()) == to_trunk
    assert y.requires_grad and y.unique().numel() > 8


BOUNDED = Recipe(
    weight=Direct(2, 0.5), activation=Direct(4, 0.875), error=Shift(5), error_at="activation", norm=LayerScale()
)


def block(recipe: Recipe, arithmetic: Arithmetic, *, activation: bool = True) -> tuple[nn.Module, torch.Tensor]:
    """A block of few channels whose weights are -1/2, 0 and 1/2; and its layer's ternary weights."""
    torch.manual_seed(1)
    model = nn.Sequential(ConvNormAct(3, 4, 3, activation=activation))
    weight = (torch.randint(-1, 2, (4, 3, 3, 3)) / 2).float()
    with torch.no_grad():
        model[0].conv.weight.copy_(weight)
    converted = convert(model, recipe, arithmetic=arithmetic)
    assert isinstance(converted.model[0].norm, LayerScaling)  # type: ignore[index]
    return converted.model[0], weight  # type: ignore[index]


@both_arithmetics
@pytest.mark.parametrize("activation", [True, False])
def test_block_with_errors_at_the_activation(activation: bool, arithmetic: Arithmetic) -> None:
    """The order of operators of WAGE's authors, written out in float64: forward conv, scale, trunk, ReLU, clip, round;
    backward clip, quantise, ReLU's mask, scale, products."""
    module, weight = block(BOUNDED, arithmetic, activation=activation)
    x = torch.randn(2, 3, 6, 6).requires_grad_()
    trunk = torch.randn(2, 4, 6, 6).mul(2).requires_grad_()
    y = module(x, trunk)
    upstream = torch.randn(y.shape)
    y.backward(upstream)

    alpha = 2.0  # Shift(0.75 / sqrt(6 / 27)) = 2^round(0.67)
    a = (x.detach().double() * 8).round().clamp(-7, 7) / 8
    pre = nn.functional.conv2d(a, weight.double(), padding=1) / alpha + trunk.detach().double()
    rectified = pre.clamp(min=0) if activation else pre
    assert torch.equal(y.detach().double(), (rectified * 8).round().clamp(-7, 7) / 8)

    passed = torch.where(rectified.abs() > 0.875, 0.0, upstream.double())
    shift = 2.0 ** passed.abs().max().log2().round()
    error = (passed / shift * 16).round().clamp(-15, 15) / 16 * shift
    if activation:
        error = torch.where(pre <= 0, 0.0, error)
    inputs = (a.requires_grad_(), weight.double().requires_grad_())
    products = nn.functional.conv2d(*inputs, padding=1)
    grad_x, grad_w = torch.autograd.grad(products, inputs, error / alpha)
    assert trunk.grad is not None
    assert torch.equal(trunk.grad.double(), error)
    assert x.grad is not None
    assert torch.equal(x.grad.double(), grad_x)
    (handle,) = [p for p in module.parameters() if p.grad is not None]
    assert handle.grad is not None
    assert torch.equal(handle.grad.double(), grad_w)


@both_arithmetics
def test_block_with_float_errors_at_the_activation(arithmetic: Arithmetic) -> None:
    module, weight = block(replace(BOUNDED, error=None), arithmetic)
    x = torch.randn(2, 3, 6, 6).requires_grad_()
    module(x).sum().backward()
    with torch.no_grad():
        a = (x * 8).round().clamp(-7, 7) / 8
        pre = nn.functional.conv2d(a, weight, padding=1) / 2
        error = ((pre > 0) & (pre <= 0.875)).float() / 2
        expected = nn.functional.conv_transpose2d(error, weight, padding=1)
    assert x.grad is not None
    assert torch.allclose(x.grad, expected, atol=1e-6)


@both_arithmetics
def test_bias_of_a_block_with_errors_at_the_activation_is_trained(arithmetic: Arithmetic) -> None:
    """Its gradient is the trunk's, summed over the places and divided by the layer scale as the weight's is."""
    model = nn.Sequential(ConvNormAct(3, 4, 3))
    model[0].conv = nn.Conv2d(3, 4, 3, padding=1)
    module = convert(model, BOUNDED, arithmetic=arithmetic).model[0]  # type: ignore[index]
    trunk = torch.randn(2, 4, 6, 6).requires_grad_()
    module(torch.randn(2, 3, 6, 6), trunk).backward(torch.randn(2, 4, 6, 6))
    assert trunk.grad is not None and trunk.grad.any()
    assert torch.equal(module.conv.bias.grad, trunk.grad.sum((0, 2, 3)) / module.norm.alpha)


@both_arithmetics
def test_blocks_with_errors_at_the_activation_hand_on_codes(arithmetic: Arithmetic) -> None:
    """No float activation is kept for backward: what a block puts out is what the next one multiplies."""
    torch.manual_seed(0)
    model = nn.Sequential(*[ConvNormAct(4, 4, 3) for _ in range(3)])
    for one in model:
        nn.init.uniform_(one.conv.weight, -1, 1)  # type: ignore[union-attr, arg-type]
    converted = convert(model, replace(BOUNDED, activation=Direct(8, 1 - 2.0**-7)), arithmetic=arithmetic)
    with noting_kept() as kept:
        y = converted.model(torch.randn(2, 4, 8, 8, requires_grad=True))
    assert isinstance(y, Deferred)
    large = [x for x in kept if x.numel() >= y.numel()]
    assert [x.dtype for x in large] == [torch.int8] * 3
    outputs = [row for row in converted.manifest() if row.path == "output"]
    assert [(row.arithmetic, row.needs_bits) for row in outputs] == [(arithmetic, 7)] * 3


def test_block_evaluates_as_it_trains() -> None:
    module, _ = block(BOUNDED, "integer")
    x = torch.randn(2, 3, 6, 6)
    trained = module(x)
    assert torch.equal(module.eval()(x), trained)


def test_errors_at_the_activation_refuse_what_they_leave_no_room_for() -> None:
    with pytest.raises(InputError, match="LayerScale"):
        Recipe(error=Shift(8), error_at="activation")
    with pytest.raises(InputError, match="Direct grid"):
        replace(BOUNDED, activation=FixedPoint(1, 7))
    with pytest.raises(InputError, match="signed codes"):
        replace(BOUNDED, error=Affine(8))
    with pytest.raises(InputError, match="slot trunk"):
        replace(BOUNDED, trunk=Direct(8))


def test_a_layer_without_a_norm_carries_its_own_layer_scale() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(1024, 10)
    x = torch.randn(3, 1024)
    expected = linear(x) / 8  # Shift(0.75 / sqrt(6 / 1024)) = 2^round(3.29)
    converted = convert(nn.Sequential(linear), Recipe(norm=LayerScale()))
    assert isinstance(converted.model[0], ScaledLayer)  # type: ignore[index]
    assert torch.equal(converted.model(x), expected)


def test_one_tensor_is_encoded_once_for_two_sites() -> None:
    """A branch and a shortcut read the same trunk; both ranges are tracked, and a changed tensor is encoded anew."""
    spec, clock = Affine(8, tracked=True), Clock()
    first, second, other = (Site(s, name, clock).train() for s, name in ((spec, "a"), (spec, "b"), (Affine(4), "c")))
    x = torch.randn(4, 3, 5, 5, requires_grad=True) * 3
    q = first(x)
    assert second(x) is q and torch.equal(first.tracked, second.tracked)
    assert other(x).format == Affine(4)
    x.detach().mul_(2)
    assert torch.equal(first(x).dequantize(), first(x.clone()).dequantize())
    batch = torch.randn(4, 3)
    assert first(batch) is not second(batch)  # it outlives the step, and its codes would
    drawn = [Site(Affine(8, rounding="stochastic"), name, clock).train() for name in "de"]
    assert not torch.equal(*(site(x).codes for site in drawn))


def test_a_tracked_range_has_one_zero() -> None:
    """-0 and 0 are equal, so that which of them is the largest depends on who looks."""
    site = Site(Affine(8, tracked=True), "a", Clock()).train()
    for _ in range(3):
        site.limits(torch.tensor([-1.0, -0.0]))
        assert site.tracked.tolist() == [-1, 0]
        assert not site.tracked[1].signbit()


@pytest.mark.parametrize("rule", [torch.optim.SGD, torch.optim.Adam])
def test_a_parameter_that_an_optimizer_changed_is_quantised_anew(rule: type[torch.optim.Optimizer]) -> None:
    """Also by PyTorch's fused rules, which do not count their changes."""
    site, vector = ValueSite(Affine(8), "gamma", Clock()), nn.Parameter(torch.linspace(0, 1, 8))
    optimizer = rule([vector], lr=0.1, fused=True)  # type: ignore[call-arg]
    for _ in range(2):
        (site(vector) * torch.arange(8)).sum().backward()
        optimizer.step()
        assert torch.equal(site(vector), quantize(vector.detach(), Affine(8), Key(0, 0, 0)).dequantize())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv2d(4, 3, 1)], ids=["linear", "conv"])
def test_quantised_weights_multiply_float32_alone(layer: nn.Module, dtype: torch.dtype, training: bool) -> None:
    """Where activations have no format: the product would be one of the input's type, without a word."""
    x = torch.randn(2, 4) if isinstance(layer, nn.Linear) else torch.randn(2, 4, 5, 5)
    model = convert(nn.Sequential(layer), Recipe(weight=Binary())).model.train(training)
    assert model(x).dtype == torch.float32
    with pytest.raises(TypeError, match="x must be float32, got " + str(dtype).removeprefix("torch.")):
        model(x.to(dtype))
