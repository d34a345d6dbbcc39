"""Models that are not made of qbench's blocks: what their layers take, and what may be done to their results."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from arithmetics import ARITHMETICS, both_arithmetics
from own_models import NEAREST, RECIPES
from torch import Tensor, nn
from torch.nn import functional

from qbench import Recipe
from qbench.nn import Converted, ConvNormAct, convert
from qbench.nn.checkpoint import contents_of
from qbench.optim import build_optimizer
from qbench.recipe import Arithmetic
from qbench.train.settings import OptimizerSettings


def results(model: nn.Module, recipe: Recipe, x: Tensor, arithmetic: Arithmetic = "integer") -> list[Tensor]:
    """Outputs, the input's gradient and the weights after one step; evaluation behind it."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    converted = convert(model, recipe, arithmetic=arithmetic)
    optimizer = build_optimizer(converted, recipe, OptimizerSettings(lr=0.05))
    x = x.detach().clone().requires_grad_()
    y = converted.model(x)
    (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    optimizer.step()
    converted.model.eval()
    with torch.no_grad():
        evaluated = converted.predict(x)
    assert x.grad is not None
    return [y.detach(), x.grad, *converted.model.state_dict().values(), evaluated]


def assert_same(first: list[Tensor], second: list[Tensor]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.flatten(), b.flatten())


# --- what layers take


class AsRows(nn.Module):
    """A model on [..., C] by way of [N, C]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.model(x.reshape(-1, x.shape[-1]))
        return y.view(*x.shape[:-1], y.shape[-1])


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 5))


class Named(nn.Module):
    """Its layers have the same names here and in AsRows, because random bits follow the names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.model(x)
        return y


@pytest.mark.parametrize("shape", [(12,), (3, 7, 12), (2, 3, 4, 12), (0, 7, 12)])
@pytest.mark.parametrize("name", RECIPES)
def test_linear_layers_take_any_number_of_dimensions(name: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    rows = results(AsRows(perceptron()), RECIPES[name], x)
    for arithmetic in ARITHMETICS:
        assert_same(results(Named(perceptron()), RECIPES[name], x, arithmetic), rows)


def test_linear_layers_take_transposed_and_expanded_inputs() -> None:
    x = torch.randn(12, 5, 1).transpose(0, 1).mT.expand(5, 3, 12)
    assert_same(results(Named(perceptron()), NEAREST, x), results(AsRows(perceptron()), NEAREST, x.contiguous()))


class OneByOne(nn.Module):
    """A model on [C, H, W] by way of a batch of one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x[None])[0]  # type: ignore[no-any-return]


@both_arithmetics
@pytest.mark.parametrize("name", ["banner8", "fixed_point"])  # whose sums follow no memory layout
def test_convolutions_and_pooling_take_an_image_by_itself(name: str, arithmetic: Arithmetic) -> None:
    layers = nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 2, bias=False)
    model, x = nn.Sequential(*layers), torch.randn(3, 8, 8)
    batched = results(OneByOne(copy.deepcopy(model)), RECIPES[name], x, arithmetic)
    assert_same(results(Named(model), RECIPES[name], x, arithmetic), batched)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_max_pooling_takes_what_pytorchs_takes(dtype: torch.dtype) -> None:
    model = convert(nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2)), NEAREST).model
    x = torch.randn(2, 1, 4, 4, dtype=dtype)
    assert torch.equal(model[0](x), functional.max_pool2d(x, 2))  # type: ignore[index]


@pytest.mark.parametrize(
    ("named", "explicit"),
    [
        ({"padding": "valid"}, {"padding": 0}),
        ({"padding": "same"}, {"padding": 1}),
        ({"padding": "same", "dilation": 3}, {"padding": 3, "dilation": 3}),
        ({"padding": "same", "dilation": (2, 1)}, {"padding": (2, 1), "dilation": (2, 1)}),
    ],
)
@both_arithmetics
def test_padding_may_be_named(named: dict[str, Any], explicit: dict[str, Any], arithmetic: Arithmetic) -> None:
    def network(options: dict[str, Any]) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 6, 3, **options), nn.ReLU(), nn.Conv2d(6, 4, 1))

    x = torch.randn(2, 3, 11, 11, generator=torch.Generator().manual_seed(1))
    pairs = (results(network(options), NEAREST, x, arithmetic) for options in (named, explicit))
    assert_same(*pairs)


# --- what follows may write over their results


class Behind(nn.Module):
    """A norm with what a residual network has behind it, in place or not."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second, self.last = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.out = nn.Conv2d(6, 4, 1)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        trunk = functional.relu(self.norm(self.first(x)), inplace=self.in_place)
        y = self.last(self.second(trunk))
        if self.in_place:
            y += trunk
            y.relu_()
        else:
            y = (y + trunk).relu()
        y = self.out(y)
        return y.mul_(2) if self.in_place else y * 2


@pytest.mark.parametrize("size", [2, 6])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_results_may_be_written_over(name: str, channels_last: bool, size: int) -> None:
    x = torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(1))
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    pairs = (results(Behind(in_place=in_place), RECIPES[name], x) for in_place in (True, False))
    assert_same(*pairs)


class Sequences(nn.Module):
    """A norm on [N, C, L] between linear layers, or the same on [N, C, L, 1]."""

    def __init__(self, *, as_images: bool) -> None:
        super().__init__()
        self.first, self.out, self.as_images = nn.Linear(7, 9), nn.Linear(9, 3), as_images
        self.norm: nn.Module = nn.BatchNorm2d(5) if as_images else nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = self.norm(y[..., None]).squeeze(-1) if self.as_images else self.norm(y)
        return cast(Tensor, self.out(y.relu_()))


@pytest.mark.parametrize("name", RECIPES)
def test_norms_take_sequences(name: str) -> None:
    x = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(1))
    assert_same(*(results(Sequences(as_images=as_images), RECIPES[name], x) for as_images in (False, True)))


@pytest.mark.parametrize("name", RECIPES)
def test_an_input_may_change_without_being_counted(name: str) -> None:
    """As adversarial training changes it between its passes."""

    def network() -> nn.Module:
        torch.manual_seed(0)
        parts = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1)
        return convert(nn.Sequential(*parts), RECIPES[name]).model

    changed, fresh, x = network(), network(), torch.randn(4, 3, 5, 5, requires_grad=True)
    for _ in range(3):
        assert torch.equal(changed(x), fresh(x.detach().clone().requires_grad_()))
        x.data.mul_(-2)


# --- the converted model as a whole


@pytest.mark.parametrize("name", RECIPES)
def test_converted_model_can_be_copied(name: str) -> None:
    model = nn.Sequential(ConvNormAct(3, 6, 3), nn.Flatten(), nn.Linear(96, 2))
    converted = convert(model, RECIPES[name])
    build_optimizer(converted, RECIPES[name], OptimizerSettings(lr=0.05))
    copied, x = copy.deepcopy(converted.model), torch.randn(4, 3, 4, 4)
    assert torch.equal(copied(x), converted.model(x))
    assert not {id(one) for one in copied.parameters()} & {id(one) for one in converted.model.parameters()}


@both_arithmetics
@pytest.mark.parametrize("gradients", [False, True])
def test_evaluation_without_a_range_is_refused(arithmetic: Arithmetic, gradients: bool) -> None:
    """Codes of a range that nobody ever saw would all be NaN."""

    def model() -> Converted:
        network = nn.Sequential(ConvNormAct(3, 6, 3), nn.Flatten(), nn.Linear(96, 2))
        return convert(network, RECIPES["banner8"], arithmetic=arithmetic)

    x, fresh, trained = torch.randn(4, 3, 4, 4), model(), model()
    trained.model(x)
    with torch.set_grad_enabled(gradients):
        with pytest.raises(
            RuntimeError, match=r"^0\.conv/activation has no range yet: train the model for a step, or "
        ):
            fresh.model.eval()(x)
        assert trained.model.eval()(x).isfinite().all()
        untrained = model().model.state_dict()
        trained.model.load_state_dict(untrained)
        with pytest.raises(RuntimeError, match="has no range yet"):
            trained.model(x)
        fresh.model.train()(x)
        assert fresh.model.eval()(x).isfinite().all()


def test_modes_of_modules_are_kept() -> None:
    model = nn.Sequential(ConvNormAct(3, 6, 3), nn.Flatten(), nn.Linear(96, 2)).eval()
    converted = convert(model, RECIPES["banner8"])
    assert not any(module.training for module in converted.model.modules())
    block = converted.model.train()[0]
    converted.model(torch.randn(4, 3, 4, 4))  # a norm that has seen nothing has no range to be frozen with
    block.norm.eval()
    before = block.norm.running_mean.clone()
    converted.model(torch.randn(4, 3, 4, 4)).sum().backward()
    contents_of(converted)
    assert torch.equal(block.norm.running_mean, before)
    assert not block.norm.training and block.conv.training


CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "method": lambda h: h.mul_(2),
    "function": torch.sigmoid_,
    "option": lambda h: functional.elu(h.mul_(-1), inplace=True),
    "view": lambda h: h[:, ::2].flatten(2).transpose(1, 2).add_(1),
    "list": lambda h: torch._foreach_add_([h], 1.0),
    "index": lambda h: h.__setitem__((slice(None), 0), 0),
    "mask": lambda h: h.masked_fill_(h > 1, 0.5),
}
"""Statements that change a tensor in place, whatever they return."""


class Changing(nn.Module):
    """Blocks whose outputs are changed between them: in place, by statements, or as clones."""

    def __init__(self, change: Callable[[Tensor], Any], *, in_place: bool) -> None:
        super().__init__()
        self.first, self.pool, self.second = ConvNormAct(3, 6, 3), nn.MaxPool2d(2), ConvNormAct(6, 6, 3)
        self.out = nn.Conv2d(6, 4, 1)
        self.change, self.in_place = change, in_place

    def forward(self, x: Tensor) -> Tensor:
        h = self.changed(self.first(x))
        assert h.shape == (8, 6, 6, 6) and h.requires_grad == torch.is_grad_enabled()
        h = self.changed(self.second(self.pool(h)))
        y: Tensor = self.out(h)
        return y

    def changed(self, h: Tensor) -> Tensor:
        h = h if self.in_place else h.clone()
        self.change(h)
        return h


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["banner8", "wageubn", "graham"])
def test_blocks_outputs_can_be_changed_in_place(name: str, change: str) -> None:
    x = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    pairs = (results(Changing(CHANGES[change], in_place=in_place), RECIPES[name], x) for in_place in (True, False))
    assert_same(*pairs)


def test_blocks_outputs_can_be_changed_in_inference_mode() -> None:
    x, outputs = torch.randn(8, 3, 6, 6), list[Tensor]()
    model = convert(Changing(CHANGES["index"], in_place=True), RECIPES["banner8"]).model
    model(x)
    with torch.inference_mode():
        for in_place in (True, False):
            model.in_place = in_place  # type: ignore[assignment]
            outputs.append(model.eval()(x))
    assert torch.equal(*outputs)
