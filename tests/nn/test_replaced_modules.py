"""Which modules of a model are replaced, which stay, and what the manifest says of both."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from own_models import NEAREST, RECIPES, ActivatedNorm, Standardized
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm as parametrized_weight_norm

from qbench.nn import Converted, ConvNormAct, convert
from qbench.nn.layers import QuantizedLayer


@pytest.mark.parametrize("name", ["wageubn", "graham", "renorm"])  # banner8's ranges are those of its own training
def test_a_trained_norm_goes_on_from_its_statistics(name: str) -> None:
    """Converted and evaluated at once, the network is still the one that was trained."""
    torch.manual_seed(0)
    model = nn.Sequential(ConvNormAct(3, 16, 3), ConvNormAct(16, 16, 3), nn.Flatten(), nn.Linear(16 * 36, 4))
    x = 5 + 3 * torch.randn(32, 3, 6, 6)
    for _ in range(60):
        model(x)
    with torch.no_grad():
        expected = model.eval()(x)
        found = convert(copy.deepcopy(model), RECIPES[name]).model(x)
        forgotten = copy.deepcopy(model)
        forgotten[0].norm.reset_running_stats()
        lost = convert(forgotten, RECIPES[name]).model(x)
    error, without = (float((y - expected).norm() / expected.norm()) for y in (found, lost))
    assert error < 0.2  # graham has four bits for a value
    assert without > 0.5


def test_module_in_two_places_stays_one_module() -> None:
    layer = nn.Linear(6, 6)
    twice = nn.Sequential(layer, nn.ReLU(), layer)
    apart = nn.Sequential(layer, nn.ReLU(), nn.Linear(6, 6))
    apart[2].load_state_dict(layer.state_dict())
    apart = copy.deepcopy(apart)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    grads = []
    for model in (twice, apart):
        converted = convert(model, NEAREST).model
        assert isinstance(converted, nn.Sequential)
        converted(x).square().sum().backward()
        layers = [module for module in converted if isinstance(module, QuantizedLayer)]
        assert len(layers) == 2
        # For the module in both places autograd has added already.
        grads.append(layers[0].weight.grad if layers[0] is layers[1] else sum(one.weight.grad for one in layers))
    assert torch.equal(*grads)


@pytest.mark.parametrize(
    ("module", "name", "kind"),
    [
        (Standardized(3, 3, 1), "1", "Standardized"),
        (nn.ConvTranspose2d(3, 3, 1), "1", "ConvTranspose2d"),
        (parametrized_weight_norm(nn.Conv2d(3, 3, 1)), "1.parametrizations.weight", "ParametrizationList"),
    ],
)
def test_other_modules_with_weights_stay_and_are_named(module: nn.Module, name: str, kind: str) -> None:
    x = torch.randn(2, 3, 5, 5)
    before = module(x)
    converted = convert(nn.Sequential(nn.Conv2d(3, 3, 1), module, nn.Conv2d(3, 2, 1)), NEAREST)
    assert converted.model[1] is module and torch.equal(module(x), before)
    assert told(converted, name) == [("all", "float", f"{kind} is not a layer that is converted")]


class SamePool(nn.MaxPool2d):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(functional.pad(x, (0, 1, 0, 1), value=-torch.inf))
        return y


class Doubled(ConvNormAct):
    def forward(self, x: Tensor, trunk: Tensor | None = None) -> Tensor:
        return 2 * super().forward(x, trunk)


@pytest.mark.parametrize("name", RECIPES)
def test_subclasses_of_norms_pools_and_blocks_stay(name: str) -> None:
    """They compute something else than what would take their place."""
    parts = nn.Conv2d(3, 6, 1), ActivatedNorm(6), SamePool(2, 2), Doubled(6, 6, 3), nn.Conv2d(6, 2, 1)
    converted = convert(nn.Sequential(*parts), RECIPES[name])
    assert isinstance(converted.model, nn.Sequential)
    assert list(converted.model)[1:4] == list(parts)[1:4]
    assert isinstance(converted.model[3].conv, QuantizedLayer)  # its parts are looked at
    said = [("all", "float", "ActivatedNorm is not a norm that is converted")]
    assert told(converted, "1") == (said if converted.recipe.norm.replaces else [])
    x = torch.randn(4, 3, 5, 5)
    assert converted.model[1](x.new_full((2, 6, 3, 3), -1.0)).min() >= 0 and converted.model(x).shape == (4, 2, 3, 3)


def test_the_manifest_says_where_floats_come_behind_integer_sums() -> None:
    converted = convert(nn.Sequential(ConvNormAct(3, 6, 3), nn.Conv2d(6, 2, 1)), RECIPES["banner8"])
    norm = told(converted, "0.norm") + told(converted, "0")
    assert {path for path, _, _ in norm} == {"input", "norm_error"}
    assert all(kind == "integer" and "one line per channel of them, in float32" in note for _, kind, note in norm)
    assert {(kind, note) for _, kind, note in told(converted, "1")} == {("integer", "")}


def test_the_manifest_says_what_a_line_of_codes_is_multiplied_as() -> None:
    blocks = nn.Sequential(ConvNormAct(3, 6, 3), ConvNormAct(6, 6, 3), nn.Conv2d(6, 2, 1))
    recipe = RECIPES["banner8"]
    assert recipe.wgrad_line
    for elsewhere in (recipe.wgrad_error, None):
        converted = convert(copy.deepcopy(blocks), replace(recipe, wgrad_error=elsewhere))
        declared = {(row.layer, row.path): (row.declared, row.arithmetic, row.note) for row in converted.manifest()}
        for layer in ("0.conv", "1.conv"):
            line, arithmetic, note = declared[layer, "wgrad_error"]
            assert (line, arithmetic) == ("line of norm_error's codes", "integer")
            assert "behind the sums" in note and ("float32" if elsewhere is None else "16") in note
            assert declared[layer, "activation"][1] == "integer"
        assert declared["2", "activation"][1] == ("float" if elsewhere is None else "integer")


def test_the_manifest_names_slots_that_blocks_alone_have_a_place_for() -> None:
    parts = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 2, 1)
    slots = {"banner8": {"norm_error"}, "wageubn": {"branch_error"}, "sr": set[str]()}
    slots["fixed_point"] = {"norm_error", "branch_error", "trunk"}
    for name, missing in slots.items():
        said = told(convert(copy.deepcopy(nn.Sequential(*parts)), RECIPES[name]), "(model)")
        assert {path for path, _, _ in said} == missing
        assert all(kind == "float" and "blocks of qbench.nn have" in note for _, kind, note in said)
    blocks = nn.Sequential(ConvNormAct(3, 6, 3, to_trunk=True), ConvNormAct(6, 6, 3), nn.Conv2d(6, 2, 1))
    assert told(convert(blocks, RECIPES["fixed_point"]), "(model)") == []


def test_attention_keeps_its_own_layers() -> None:
    """It reads their weights itself: replaced ones would be passed by."""
    converted = convert(Attentive(), NEAREST)
    x = torch.randn(2, 5, 8)
    converted.model(x).sum().backward()
    assert type(converted.model.get_submodule("attention.out_proj")) is not QuantizedLayer
    assert told(converted, "attention")[0][:2] == told(converted, "attention.out_proj")[0][:2] == ("all", "float")
    assert {arithmetic for _, arithmetic, _ in told(converted, "out")} == {"integer"}


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.attention(x, x, x, need_weights=False)[0])
        return y


def told(converted: Converted, layer: str) -> list[tuple[str, str, str]]:
    return [(entry.path, entry.arithmetic, entry.note) for entry in converted.manifest() if entry.layer == layer]
