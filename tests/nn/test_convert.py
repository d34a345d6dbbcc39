"""Conversion: what is replaced, what is kept, which layers stay float, and what the manifest says of it."""

import pytest
import torch
from arithmetics import both_arithmetics
from torch import nn

from qbench import find_method
from qbench.models import build_model
from qbench.nn import convert
from qbench.nn.layers import QuantizedLayer
from qbench.nn.pooling import CompactMaxPool
from qbench.quant.formats import Affine, Binary, Direct
from qbench.recipe import Arithmetic, Recipe


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


POOLS = [
    (nn.MaxPool2d(2), True), (nn.MaxPool2d(3, 2, 1), True), (nn.MaxPool2d(16), True), (nn.MaxPool2d((17, 16)), False),
    (nn.MaxPool2d(2, dilation=2), False), (nn.MaxPool2d(2, ceil_mode=True), False),
    (nn.MaxPool2d(2, return_indices=True), False),
]  # fmt: skip


@pytest.mark.parametrize(("pool", "is_replaced"), POOLS, ids=str)
def test_conversion_leaves_pools_that_it_has_no_kernel_for(pool: nn.MaxPool2d, is_replaced: bool) -> None:
    model = convert(nn.Sequential(nn.Conv2d(1, 2, 3), pool), Recipe(weight=Affine(8))).model
    assert isinstance(model[1], CompactMaxPool if is_replaced else nn.MaxPool2d)  # type: ignore[index]


def test_a_float_recipe_keeps_the_model() -> None:
    model = small_model()
    assert not any(isinstance(m, QuantizedLayer) for m in convert(model, Recipe()).model.modules())


def test_first_and_last_layer_policy() -> None:
    recipe = Recipe(weight=Affine(8), activation=Affine(8), first_layer="float", last_layer="float")
    layers = dict(convert(small_model(), recipe).layers())
    floats = [name for name, layer in layers.items() if isinstance(layer, QuantizedLayer) and layer.is_float]
    assert floats == [next(iter(layers)), list(layers)[-1]]


def test_input_format_belongs_to_the_first_layer_alone() -> None:
    recipe = Recipe(activation=Direct(8, 1 - 2.0**-7), input=Direct(6, 4 - 2.0**-5))
    layers = [layer for _, layer in convert(small_model(), recipe).layers()]
    specs = [layer.activation_site.spec for layer in layers]  # type: ignore[union-attr]
    assert specs == [recipe.input, *[recipe.activation] * (len(layers) - 1)]


@both_arithmetics
def test_manifest_shows_what_was_seen(arithmetic: Arithmetic) -> None:
    recipe = Recipe(
        weight=Affine(8), activation=Affine(8), error=Affine(4, "stochastic"), bias=Affine(8), output=Affine(8),
        last_layer="float",
    )  # fmt: skip
    converted = convert(small_model(), recipe, arithmetic=arithmetic)
    converted.model(torch.randn(4, 1, 8, 8)).sum().backward()
    rows = {(row.layer, row.path): row for row in converted.manifest()}
    errors = [row for (_, path), row in rows.items() if path == "error"]
    assert errors
    assert all(row.needs_bits is not None and row.needs_bits <= 4 for row in errors)
    assert {row.arithmetic for row in errors} == {arithmetic}
    last = list(dict(converted.layers()))[-1]
    # What a layer puts out is rounded to its grid but used as float32: nothing multiplies its codes.
    outputs = {(row.layer, row.path) for row in converted.manifest() if row.path == "output"}
    floats = {(row.layer, row.path) for row in converted.manifest() if row.arithmetic == "float"}
    assert floats == {(last, "all"), *outputs}
    assert len(outputs) == len(list(converted.layers())) - 1


def test_model_bytes_count_the_storage_format() -> None:
    """A binary weight is one bit; the last layer's bias and the norms' eight bytes per channel stay float."""
    plain = convert(small_model(), Recipe())
    count = sum(layer.weight.numel() for _, layer in plain.layers())  # type: ignore[union-attr,operator]
    layers = len(list(plain.layers()))
    binary = convert(small_model(), Recipe(weight=Binary()))
    assert plain.model_bytes() - binary.model_bytes() == count * 4 - count // 8 - 4 * layers


def test_arithmetic_must_be_offered() -> None:
    recipe = Recipe(weight=Affine(8), arithmetics=("simulated",))
    with pytest.raises(ValueError, match="offers simulated arithmetic, not integer"):
        convert(small_model(), recipe, arithmetic="integer")


@pytest.mark.parametrize(("method", "dtype"), [("bf16", torch.bfloat16), ("sr", torch.float32)])
def test_a_loop_of_ones_own_has_the_context_that_a_cell_is_trained_in(method: str, dtype: torch.dtype) -> None:
    converted = convert(small_model(), find_method(method).build({}))
    with converted.precision():
        assert converted.model(torch.randn(2, 1, 8, 8)).dtype == dtype
