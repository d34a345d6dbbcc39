"""Quantised layers: exactness of the simulated products, bifurcation, conversion, manifest."""

import pytest
import torch
from torch import nn

from qbench.models import build_model
from qbench.nn import convert
from qbench.nn.arithmetic import Geometry, conv, conv_input_grad, conv_weight_grad, linear
from qbench.nn.layers import QuantizedLayer
from qbench.nn.site import Clock
from qbench.quant.formats import Affine, Binary, Symmetric
from qbench.quant.qtensor import QTensor
from qbench.recipe import Recipe

GEOMETRIES = [
    Geometry(), Geometry((2, 2), (1, 1)), Geometry((1, 2), (0, 1), (2, 1)), Geometry((1, 1), (1, 1), (1, 1), 2),
]  # fmt: skip


def codes(*shape: int, value: int | None = None, seed: int = 0) -> QTensor:
    """An int8 tensor: random, or every element the same."""
    data = torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(seed)).float()
    return QTensor(data if value is None else torch.full(shape, float(value)), torch.tensor(1.0), None, Symmetric(8))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("value", [None, 127, -128])
def test_convolution_products_are_exact(geometry: Geometry, value: int | None) -> None:
    """Equal to float64 on random codes and on the worst case: every product with the same sign."""
    x, w = codes(3, 10, 9, 8, value=value), codes(6, 10 // geometry.groups, 3, 3, value=value, seed=1)
    exact = nn.functional.conv2d(
        x.codes.double(), w.codes.double(), None, geometry.stride, geometry.padding, geometry.dilation, geometry.groups
    )
    assert torch.equal(conv(x, w, geometry).double(), exact)
    e = codes(*exact.shape, value=value, seed=2)
    inputs = (x.codes.double().requires_grad_(), w.codes.double().requires_grad_())
    y = nn.functional.conv2d(*inputs, None, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
    grad_x, grad_w = torch.autograd.grad(y, inputs, e.codes.double())
    assert torch.equal(conv_input_grad(e, w, x.codes.shape, geometry).double(), grad_x)
    assert torch.equal(conv_weight_grad(x, e, w.codes.shape, geometry).double(), grad_w)


def test_weight_gradient_beyond_float32_is_exact() -> None:
    """K = 2 * 40 * 40 = 3200 products of 127 * 127 pass 2^24, where float32 sums go wrong."""
    x, e = codes(2, 1, 40, 40, value=127), codes(2, 1, 40, 40, value=127)
    got = conv_weight_grad(x, e, torch.Size([1, 1, 1, 1]), Geometry())
    assert float(got) == float(torch.tensor(3200 * 127 * 127).float())
    big = linear(codes(1, 4097, value=127), codes(1, 4097, value=127))
    assert float(big) == float(torch.tensor(4097 * 127 * 127).float())


def test_per_channel_weight_scales() -> None:
    x, w = torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3) * torch.tensor([0.1, 1, 10, 100]).view(4, 1, 1, 1)
    layer = QuantizedLayer(_conv(w), Recipe(weight=Symmetric(8, granularity="channel")), "l", Clock())
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


def gradients(recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layer = QuantizedLayer(nn.Conv2d(3, 4, 3), recipe, "l", Clock())
    x = torch.randn(2, 3, 6, 6).requires_grad_()
    y = layer(x)
    y.backward(torch.randn(y.shape))
    assert x.grad is not None
    assert layer.weight.grad is not None
    return x.grad, layer.weight.grad


def test_bifurcation() -> None:
    """Fewer error bits change the input gradient and leave the weight gradient bit-identical."""
    operands = {"weight": Affine(8), "activation": Affine(8), "wgrad_error": Symmetric(16)}
    x8, w8 = gradients(Recipe(error=Affine(8), **operands))  # type: ignore[arg-type]
    x4, w4 = gradients(Recipe(error=Affine(4), **operands))  # type: ignore[arg-type]
    assert not torch.equal(x8, x4)
    assert torch.equal(w8, w4)
    shared = gradients(Recipe(error=Affine(4), weight=Affine(8), activation=Affine(8)))
    assert not torch.equal(shared[1], w4)


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Linear(7, 5)], ids=str)
def test_a_recipe_that_quantises_nothing_changes_no_bit(layer: nn.Module) -> None:
    x = torch.randn(2, 3, 6, 6) if isinstance(layer, nn.Conv2d) else torch.randn(2, 7)
    plain, converted = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = layer(plain)
    expected.square().sum().backward()
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    wanted = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
    layer.zero_grad()
    y = QuantizedLayer(layer, Recipe(), "l", Clock())(converted)
    y.square().sum().backward()
    assert torch.equal(y, expected)
    assert plain.grad is not None
    assert converted.grad is not None
    assert torch.equal(converted.grad, plain.grad)
    assert all(torch.equal(p.grad, w) for p, w in zip(layer.parameters(), wanted, strict=True) if p.grad is not None)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return build_model("resnet8", num_classes=10, in_channels=1, image_size=8, options={})


def test_conversion_replaces_every_layer_and_keeps_names_and_values() -> None:
    model = small_model()
    before = {name: p.clone() for name, p in model.named_parameters()}
    converted = convert(model, Recipe(weight=Affine(8), activation=Affine(8)))
    after = dict(converted.model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(isinstance(layer, QuantizedLayer) for _, layer in converted.layers())
    assert len(list(converted.layers())) == 1 + 3 * 2 + 2 + 1  # stem, three blocks of two, two projections, classifier


def test_a_float_recipe_keeps_the_model() -> None:
    model = small_model()
    assert not any(isinstance(m, QuantizedLayer) for m in convert(model, Recipe()).model.modules())


def test_first_and_last_layer_policy() -> None:
    recipe = Recipe(weight=Affine(8), activation=Affine(8), first_layer="float", last_layer="float")
    layers = dict(convert(small_model(), recipe).layers())
    floats = [name for name, layer in layers.items() if isinstance(layer, QuantizedLayer) and layer.is_float]
    assert floats == [next(iter(layers)), list(layers)[-1]]


def test_manifest_shows_what_was_seen() -> None:
    recipe = Recipe(weight=Affine(8), activation=Affine(8), error=Affine(4, "stochastic"), last_layer="float")
    converted = convert(small_model(), recipe)
    converted.model(torch.randn(4, 1, 8, 8)).sum().backward()
    rows = {(row.layer, row.path): row for row in converted.manifest()}
    errors = [row for (_, path), row in rows.items() if path == "error"]
    assert errors
    assert all(row.needs_bits is not None and row.needs_bits <= 4 for row in errors)
    floats = [row.layer for row in converted.manifest() if row.arithmetic == "float"]
    assert floats == [list(dict(converted.layers()))[-1]]


def test_model_bytes_count_the_storage_format() -> None:
    """A binary weight is one bit; the last layer's bias and the norms' eight bytes per channel stay float."""
    plain = convert(small_model(), Recipe())
    count = sum(layer.weight.numel() for _, layer in plain.layers())  # type: ignore[union-attr,operator]
    layers = len(list(plain.layers()))
    binary = convert(small_model(), Recipe(weight=Binary()))
    assert plain.model_bytes() - binary.model_bytes() == count * 4 - count // 8 - 4 * layers


def test_arithmetic_must_be_offered() -> None:
    with pytest.raises(ValueError, match="offers simulated arithmetic, not integer"):
        convert(small_model(), Recipe(weight=Affine(8)), arithmetic="integer")
