"""Gradients that the consumers of an activation add up in its sink, against those that autograd adds up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from arithmetics import both_arithmetics
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from qbench.nn import convert
from qbench.nn.blocks import Branch, ConvNormAct, LinearNormAct
from qbench.nn.deferred import Deferred, materialised
from qbench.nn.gradient_sink import GradientSink
from qbench.quant.formats import Affine, Direct, Flag, Shift, Symmetric
from qbench.recipe import Arithmetic, DirectNorm, LayerScale, RangeNorm, Recipe

NEAREST = Affine(8)
RANGE = Recipe(
    weight=NEAREST, activation=NEAREST, error=NEAREST, wgrad_error=Symmetric(16), norm_error=NEAREST,
    norm=RangeNorm(chunks=4, input=NEAREST),
)  # fmt: skip
DIRECT = Recipe(weight=Direct(8), activation=Direct(8), error=Flag(8), branch_error=Shift(8), norm=DirectNorm())
BOUNDED = Recipe(
    weight=Direct(2, 0.5), activation=Direct(8, 1 - 2.0**-7), error=Shift(8), error_at="activation", norm=LayerScale()
)
RECIPES = {
    "range norm": RANGE,
    "range norm, activations at random": replace(RANGE, activation=Affine(8, "stochastic")),
    "direct norm": DIRECT,
    "direct norm, branches in floats": replace(DIRECT, branch_error=None),
    "direct norm, branches with a zero point": replace(DIRECT, branch_error=NEAREST),
    "bounded": BOUNDED,
    "bounded, errors in floats": replace(BOUNDED, error=None),
    "bounded, errors of another kind": replace(BOUNDED, error=Symmetric(8)),
}


@pytest.fixture(params=RECIPES)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return RECIPES[request.param]


class Residual(nn.Module):
    """A stem, perhaps with max pooling; a block around which the stream goes on as it is, with or without a ReLU behind
    the sum; and one beside a projection. ``outputs``: the activations that several layers read."""

    def __init__(self, *, pools: bool = True, activation: bool = True) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 8, 3, to_trunk=True)
        self.pool = nn.MaxPool2d(3, 2, 1) if pools else nn.Identity()
        self.branches = nn.ModuleList([Branch(), Branch()])
        self.first, self.second = ConvNormAct(8, 8, 3), ConvNormAct(8, 8, 3, activation=activation, to_trunk=True)
        self.third, self.fourth = ConvNormAct(8, 16, 3, stride=2), ConvNormAct(16, 16, 3, to_trunk=True)
        self.projection = ConvNormAct(8, 16, 1, stride=2, activation=False, to_trunk=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        y = self.second(self.first(self.branches[0](x)), x)
        self.outputs = [x, y]
        tap = self.branches[1](y)
        z: Tensor = self.fourth(self.third(tap), self.projection(tap))
        return z


def residual(recipe: Recipe, arithmetic: Arithmetic = "integer", **options: bool) -> tuple[Residual, Tensor]:
    """The converted model and an input. Pooling reads bounded activations as floats."""
    options.setdefault("pools", recipe.error_at == "product")
    torch.manual_seed(0)
    network = Residual(**options)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):  # weights that do not all round to the 0 of a ternary grid
            nn.init.uniform_(layer.weight, -0.7, 0.7)
    model = convert(network, recipe, arithmetic=arithmetic).model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert isinstance(model, Residual)
    return model.train(), torch.randn(4, 3, 12, 12).contiguous(memory_format=torch.channels_last)


def plain_loss(model: Residual, x: Tensor) -> Tensor:
    return materialised(model(x)).square().sum()  # type: ignore[no-any-return]


def gradients(recipe: Recipe, **options: Any) -> list[Tensor | None]:
    model, x = residual(recipe, **options)
    plain_loss(model, x).backward()
    return [parameter.grad for parameter in model.parameters()]


def assert_equal(found: list[Tensor | None], expected: list[Tensor | None]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one is not None and other is not None
        assert torch.equal(one, other)


@pytest.fixture
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes every consumer send a tensor from now on."""

    def refuse() -> None:
        monkeypatch.setattr(GradientSink, "is_wanted", property(lambda self: False, lambda self, value: None), False)

    return refuse


@pytest.mark.parametrize("pools", [True, False])
@pytest.mark.parametrize("activation", [True, False])
@both_arithmetics
def test_parts_add_up_to_what_autograd_adds_up(
    recipe: Recipe, arithmetic: Arithmetic, activation: bool, pools: bool, nothing_is_left: Callable[[], None]
) -> None:
    options = {"arithmetic": arithmetic, "activation": activation, "pools": pools}
    found = gradients(recipe, **options)
    nothing_is_left()
    assert_equal(found, gradients(recipe, **options))


class Heads(nn.Module):
    """Two linear layers that read one activation."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = LinearNormAct(6, 16)
        self.one, self.other = nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.hidden(x)
        y: Tensor = self.one(x) * self.other(x)
        return y


@both_arithmetics
def test_parts_of_linear_layers_add_up_too(
    recipe: Recipe, arithmetic: Arithmetic, nothing_is_left: Callable[[], None]
) -> None:
    def found() -> list[Tensor | None]:
        torch.manual_seed(0)
        model = convert(Heads(), recipe, arithmetic=arithmetic).model
        model(torch.randn(8, 6)).square().sum().backward()
        return [parameter.grad for parameter in model.parameters()]

    in_sink = found()
    nothing_is_left()
    assert_equal(in_sink, found())


def test_what_others_send_is_added_to_what_is_left() -> None:
    """The order of a sum of three rounds differently, so one is given: two that are left, then the sum of the rest."""
    parts = [torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    sink = GradientSink()
    assert sink.leave(parts[0].clone(), parts[0].shape) is not None
    assert sink.leave(parts[1], parts[1].shape) is None
    assert torch.equal(sink.joined(parts[2] + parts[3]), (parts[2] + parts[3]) + (parts[0] + parts[1]))  # type: ignore[arg-type]
    assert sink.total is None
    assert torch.equal(sink.joined(parts[2]), parts[2])  # type: ignore[arg-type]


class Additions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Shapes of all tensors that PyTorch adds up."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes: list[torch.Size] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.add, torch.ops.aten.add_, torch.ops.aten.sum):
            self.shapes.append(args[0].shape)
        return result


@pytest.mark.parametrize("recipe", [RANGE, DIRECT, BOUNDED])
def test_autograd_adds_up_no_gradient_of_the_stream(recipe: Recipe, nothing_is_left: Callable[[], None]) -> None:
    def additions() -> list[torch.Size]:
        model, x = residual(recipe)
        loss = plain_loss(model, x)
        with Additions() as seen:
            loss.backward()
        return [shape for shape in seen.shapes if shape in [y.shape for y in model.outputs]]

    assert additions() == []
    nothing_is_left()
    assert len(additions()) == 2


def test_a_hook_sees_the_sum(recipe: Recipe) -> None:
    model, x = residual(recipe)
    loss = plain_loss(model, x)
    seen: list[Tensor] = []
    for y in model.outputs:
        assert isinstance(y, Deferred)
        y.register_hook(seen.append)
        y.retain_grad()
    loss.backward()
    assert_equal([y.grad for y in reversed(model.outputs)], seen)  # type: ignore[arg-type]
    assert all(gradient.std() > 0 for gradient in seen)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # the images need no gradient
def test_hooks_of_modules_see_gradients_and_change_none(recipe: Recipe) -> None:
    expected, seen = gradients(recipe), list[tuple[Tensor, Tensor]]()
    model, x = residual(recipe)
    blocks = [module for module in model.children() if module not in (model.stem, model.branches)]
    for block in blocks:
        block.register_full_backward_hook(lambda module, inputs, outputs: seen.append((inputs[0], outputs[0])))
    plain_loss(model, x).backward()
    assert_equal([parameter.grad for parameter in model.parameters()], expected)
    assert len(seen) == len(blocks)
    assert all(gradient.std() > 0 for pair in seen for gradient in pair)


def test_what_a_frozen_producer_does_not_take_is_not_left(recipe: Recipe) -> None:
    model, x = residual(recipe)
    model.stem.requires_grad_(False)
    plain_loss(model, x).backward()
    unfrozen = [y.sink for y in model.outputs if y.sink is not None]  # type: ignore[attr-defined]
    assert [sink._total for sink in unfrozen] == [None]


def test_a_backward_pass_of_some_leaves_nothing_for_the_next(recipe: Recipe) -> None:
    expected = gradients(recipe)
    model, x = residual(recipe)
    loss = plain_loss(model, x)
    last = model.fourth.conv.weight
    loss.backward(inputs=[last], retain_graph=True)
    loss.backward(inputs=[model.third.conv.weight, model.second.conv.weight], retain_graph=True)
    model.zero_grad()
    loss.backward()
    assert_equal([parameter.grad for parameter in model.parameters()], expected)


def test_a_graph_that_is_kept_gives_the_same_gradients_again(recipe: Recipe) -> None:
    expected = gradients(recipe)
    model, x = residual(recipe)
    loss = plain_loss(model, x)
    for retain in (True, True, False):
        model.zero_grad()
        loss.backward(retain_graph=retain)
        assert_equal([parameter.grad for parameter in model.parameters()], expected)
