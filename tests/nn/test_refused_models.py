"""What of a model is refused, and with which words."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from own_models import NEAREST, RECIPES, ActivatedNorm, Standardized
from torch import nn
from torch.nn.utils import weight_norm

from qbench import InputError, Norm, Quantizer, Recipe, Symmetric, Update, find_method
from qbench.nn import ConvNormAct, convert
from qbench.optim import build_optimizer
from qbench.recipe import RangeNorm
from qbench.train.settings import OptimizerSettings


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", RECIPES)
def test_second_derivatives_are_refused(name: str, training: bool) -> None:
    """A gradient penalty would lack terms: codes have no derivative."""
    network = nn.Sequential(ConvNormAct(3, 6, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 2))
    model, x = convert(network, RECIPES[name]).model, torch.randn(4, 3, 4, 4, requires_grad=True)
    model(x)
    y = model.train(training)(x).sum()
    with pytest.raises(RuntimeError, match=r"^a converted model has no second derivatives"):
        torch.autograd.grad(y, x, create_graph=True)
    y = model(x).sum()
    assert torch.autograd.grad(y, x)[0].isfinite().all()


def shared() -> nn.Module:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, second)


def tied() -> nn.Module:
    embedding, head = nn.Embedding(4, 4), nn.Linear(4, 4)
    head.weight = embedding.weight
    return nn.Sequential(embedding, head)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no layer": (lambda: nn.Sequential(nn.Conv1d(2, 2, 1)), "no convolution .* nothing to convert"),
    "a layer alone": (lambda: nn.Linear(2, 2), "a single layer, .* put it into nn.Sequential"),
    "float64": (lambda: nn.Sequential(nn.Linear(2, 2)).double(), "0 is float64, .* call model.float"),
    "bfloat16": (lambda: nn.Sequential(nn.Linear(2, 2)).bfloat16(), "0 is bfloat16, "),
    "padding mode": (
        lambda: nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")), "0 pads with circular",
    ),
    "uneven padding": (lambda: nn.Sequential(nn.Conv2d(2, 2, 2, padding="same")), r"0 pads with zeros \(same\); only"),
    "shared weight": (shared, "1 and 0 share one weight; use one module"),
    "weight of another module": (tied, "1 and 0 share one weight"),
    "computed weight": (
        lambda: nn.Sequential(weight_norm(nn.Linear(2, 2))), "the weight of 0 is computed from others",
    ),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(2), nn.Linear(2, 2)), "0 has no weight yet; run a batch"),
    "fast path": (
        lambda: nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8)), "0 is an nn.TransformerEncoderLayer, which",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings(
    "ignore:.*weight_norm.* is deprecated", "ignore:Lazy modules", "ignore:enable_nested_tensor"
)
@pytest.mark.parametrize("name", REFUSED)
def test_refused_model_says_what_and_where(name: str) -> None:
    make, message = REFUSED[name]
    model = make()
    before = list(model.modules())
    with pytest.raises(InputError, match=message):
        convert(model, NEAREST)
    assert list(model.modules()) == before


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_norm_that_lacks_what_the_recipe_takes_over_is_refused(options: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, **options))
    with pytest.raises(InputError, match=r"^1 needs affine=True and track_running_stats=True"):
        convert(copy.deepcopy(model), Recipe(norm=RangeNorm()))
    convert(model, NEAREST).model(torch.randn(2, 3, 4, 4)).sum().backward()  # it stays as it is


def test_a_method_is_no_recipe() -> None:
    with pytest.raises(InputError, match=r"takes a qbench.Recipe, not Method; a method makes one: .*\.build\({}\)"):
        convert(nn.Sequential(nn.Linear(2, 2)), find_method("banner8"))  # type: ignore[arg-type]


def test_layer_scale_without_its_layer_says_what_to_use() -> None:
    recipe = find_method("wage").build({})
    with pytest.raises(InputError, match=r"none is known before 1; make them one qbench.nn.ConvNormAct"):
        convert(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)), recipe)
    convert(nn.Sequential(ConvNormAct(3, 3, 1), nn.Flatten(), nn.Linear(12, 2)), recipe).model(torch.randn(2, 3, 2, 2))


def with_part(block: nn.Module, name: str, part: nn.Module) -> nn.Module:
    setattr(block, name, part)
    return nn.Sequential(block, nn.Conv2d(3, 2, 1))


HOOKS: dict[str, Callable[[nn.Module], Any]] = {
    "forward": lambda module: module.register_forward_hook(lambda m, x, y: 0 * y),
    "before": lambda module: module.register_forward_pre_hook(lambda m, x: (0 * x[0],)),
    "backward": lambda module: module.register_full_backward_hook(lambda m, x, y: None),
}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("place", ["0", "1", "2", "2.norm"])
def test_hooks_that_would_be_lost_are_refused(place: str, hook: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), ConvNormAct(6, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1))
    HOOKS[hook](model[3])  # it stays, and its hooks do
    HOOKS[hook](model.get_submodule(place))
    with pytest.raises(InputError, match=rf"what takes the place of {place} would not call its hooks; register them"):
        convert(model, RECIPES["banner8"])
    if place == "1":
        convert(model, RECIPES["sr"])  # whose norms are the model's own


def test_blocks_whose_parts_were_exchanged_are_refused() -> None:
    for norm in (ActivatedNorm(3), nn.GroupNorm(1, 3)):
        with pytest.raises(InputError, match=rf"^0.norm is {type(norm).__name__}; the method's norm takes"):
            convert(with_part(ConvNormAct(3, 3, 3), "norm", norm), RECIPES["banner8"])
        convert(with_part(ConvNormAct(3, 3, 3), "norm", norm), RECIPES["sr"]).model(torch.randn(2, 3, 4, 4))
    with pytest.raises(InputError, match=r"0.conv is Standardized, and only an nn.Conv2d or nn.Linear itself"):
        convert(with_part(ConvNormAct(3, 3, 3), "conv", Standardized(3, 3, 1)), RECIPES["sr"])


@dataclass(frozen=True)
class PowerOfTwo(Quantizer):
    """A format of a stranger's, whom nothing here can round to."""


@dataclass(frozen=True)
class Nibble(Symmetric):
    """A format of a stranger's that is one of ours."""

    bits: int = 4


@dataclass(frozen=True)
class GroupedNorm(Norm):
    """A norm of a stranger's."""


@dataclass(frozen=True)
class Lion(Update):
    """An update of a stranger's."""


@pytest.mark.parametrize(
    ("recipe", "site"),
    [
        (Recipe(weight=PowerOfTwo()), "0.conv/weight"),
        (Recipe(gradient=PowerOfTwo()), "0.conv/gradient"),
        (Recipe(norm=RangeNorm(input=PowerOfTwo())), "0.norm/input"),
    ],
)
def test_formats_that_nothing_rounds_to_are_refused(recipe: Recipe, site: str) -> None:
    with pytest.raises(InputError, match=rf"^{site} is to be quantised to PowerOfTwo, which qbench has no rule for"):
        convert(nn.Sequential(ConvNormAct(3, 6, 3)), recipe)


def test_formats_made_of_ours_are_rounded_to() -> None:
    model = convert(nn.Sequential(nn.Linear(8, 4)), Recipe(weight=Nibble())).model
    twin = convert(nn.Sequential(nn.Linear(8, 4)), Recipe(weight=Symmetric(4))).model
    twin.load_state_dict(model.state_dict())
    x = torch.randn(2, 8)
    assert torch.equal(model(x), twin(x))


def test_norms_and_updates_that_nothing_is_known_of_are_refused() -> None:
    with pytest.raises(InputError, match="the recipe's norm is GroupedNorm, which qbench has no module for"):
        convert(nn.Sequential(ConvNormAct(3, 6, 3)), Recipe(norm=GroupedNorm()))
    recipe = Recipe(weight=Symmetric(8), update=Lion())
    converted = convert(nn.Sequential(ConvNormAct(3, 6, 3)), recipe)
    with pytest.raises(InputError, match="the recipe's update is Lion, which qbench has no rule for"):
        build_optimizer(converted, recipe, OptimizerSettings())
