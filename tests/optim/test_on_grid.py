"""The optimiser of weights that live as codes: against PyTorch's optimisers on float weights, and beside them."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from qbench.errors import InputError
from qbench.kernels.random import Key
from qbench.nn import Converted, convert
from qbench.nn.blocks import ConvNormAct
from qbench.nn.clock import tensor_id
from qbench.nn.layers import QuantizedLayer, glorot_coefficient
from qbench.nn.site import nearest_version
from qbench.optim import build_optimizer
from qbench.optim.coded import GATHERED
from qbench.quant.formats import Affine, Binary, Direct, FixedPoint, Quantizer
from qbench.quant.quantize import quantize
from qbench.recipe import Arithmetic, OnGrid, Recipe
from qbench.train.settings import OptimizerSettings

NEAREST, STOCHASTIC = FixedPoint(2, 4), FixedPoint(2, 4, "stochastic")
GRIDS = [NEAREST, STOCHASTIC, Binary(), Binary(rounding="stochastic"), Direct(5, 1 - 2.0**-4)]
SHAPES = [(24, 40), (6, 5, 3, 3)]


def layer_of(shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    if len(shape) == 2:
        return nn.Linear(shape[1], shape[0], bias=False)
    return nn.Conv2d(shape[1], shape[0], shape[2], bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def on_grid(shape: tuple[int, ...], grid: Quantizer) -> tuple[Converted, QuantizedLayer]:
    converted = convert(
        nn.Sequential(layer_of(shape)), Recipe(weight=nearest_version(grid), update=OnGrid(grid)), seed=5
    )
    layer = converted.model[0]  # type: ignore[index]
    assert isinstance(layer, QuantizedLayer)
    return converted, layer


def values(layer: QuantizedLayer) -> Tensor:
    assert layer.master is not None
    return layer.master.dequantize()


def reference(settings: OptimizerSettings, parameter: nn.Parameter) -> torch.optim.Optimizer:
    """The suite's optimiser on a float weight, PyTorch's plain loop: one operation after the other."""
    if settings.name == "adam":
        betas = (settings.momentum, settings.beta2)
        return torch.optim.Adam(
            [parameter], settings.lr, betas=betas, weight_decay=settings.weight_decay, foreach=False, fused=False
        )
    return torch.optim.SGD(
        [parameter], settings.lr, settings.momentum, weight_decay=settings.weight_decay, nesterov=settings.nesterov,
        foreach=False, fused=False,
    )  # fmt: skip


EXACT = [
    {"momentum": 0.0, "nesterov": False}, {"momentum": 0.5, "nesterov": False}, {"momentum": 0.5, "nesterov": True},
]  # fmt: skip


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rule", EXACT, ids=str)
def test_sgd_is_pytorchs_followed_by_rounding(rule: dict[str, bool], shape: tuple[int, ...], grid: Quantizer) -> None:
    """Bit for bit: all settings and gradients are multiples of powers of two, so no operation rounds in float32
    (the finest unit after six steps is 2^-18 of values below 4), and the random bits are those of the formats."""
    settings = OptimizerSettings(name="sgd", lr=0.125, weight_decay=0.0625, **rule)  # type: ignore[arg-type]
    converted, layer = on_grid(shape, grid)
    optimizer = build_optimizer(converted, converted.recipe, settings)
    weight = nn.Parameter(values(layer))
    expected = reference(settings, weight)
    generator = torch.Generator().manual_seed(1)
    for step in range(6):
        converted.clock.step = step
        gradient = torch.randint(-64, 65, shape, generator=generator) / 64
        layer.weight.grad, weight.grad = gradient, gradient.clone()
        optimizer.step()
        expected.step()
        key = Key(5, tensor_id("0/update"), step)
        weight.data = quantize(weight.detach(), grid, key).dequantize()
        assert torch.equal(values(layer), weight)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "settings",
    [
        OptimizerSettings(name="adam", lr=0.01), OptimizerSettings(name="adam", lr=0.03, weight_decay=1e-2),
        OptimizerSettings(name="sgd", lr=0.1, weight_decay=5e-4),
    ],
    ids=["adam", "adam-decay", "sgd"],
)  # fmt: skip
def test_any_settings_are_pytorchs_up_to_float_rounding(
    settings: OptimizerSettings, shape: tuple[int, ...], grid: Quantizer
) -> None:
    """PyTorch orders and fuses the float operations differently, which shifts a weight by some 1e-7 of itself: the
    state agrees to 1e-5, and a code may differ, by one, where that shift crosses a boundary between codes."""
    converted, layer = on_grid(shape, grid)
    optimizer = build_optimizer(converted, converted.recipe, settings)
    weight = nn.Parameter(values(layer))
    expected = reference(settings, weight)
    generator = torch.Generator().manual_seed(2)
    for step in range(5):
        converted.clock.step = step
        layer.weight.grad = torch.randn(shape, generator=generator)
        weight.grad = layer.weight.grad.clone()
        optimizer.step()
        expected.step()
        weight.data = quantize(weight.detach(), grid, Key(5, tensor_id("0/update"), step)).dequantize()
        assert float((values(layer) != weight).float().mean()) <= 0.005
        weight.data = values(layer)  # so that one difference is counted once
    state = expected.state[weight]
    for name, value in optimizer.state[layer.weight].items():
        if isinstance(value, Tensor):
            assert torch.allclose(value, state[name], rtol=1e-5, atol=1e-7), name


def test_every_layer_has_its_own_glorot_grid() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 60, bias=False), nn.Linear(60, 10, bias=False))
    recipe = Recipe(weight=Binary("glorot"), update=OnGrid(Binary("glorot", "stochastic")))
    converted = convert(model, recipe)
    optimizer = build_optimizer(converted, recipe, OptimizerSettings(name="sgd", lr=0.01))
    for layer in model:
        assert isinstance(layer, QuantizedLayer)
        layer.weight.grad = torch.randn(layer.weight.shape)
    optimizer.step()
    for layer, (inputs, outputs) in zip(model, [(30, 60), (60, 10)], strict=True):
        assert isinstance(layer, QuantizedLayer)
        c = torch.tensor((1.5 / (inputs + outputs)) ** 0.5)
        assert glorot_coefficient(layer.weight) == pytest.approx(float(c))
        assert torch.equal(values(layer).abs(), c.expand(outputs, inputs))


def small(arithmetic: Arithmetic = "integer") -> Converted:
    """A convolution block with batch norm and a linear layer with a bias."""
    torch.manual_seed(0)
    model = nn.Sequential(ConvNormAct(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 5))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = Recipe(
        weight=FixedPoint(2, 6), activation=Affine(8), error=Affine(8, "stochastic"),
        update=OnGrid(FixedPoint(2, 6, "stochastic")),
    )  # fmt: skip
    return convert(model, recipe, arithmetic=arithmetic, seed=3)


SETTINGS = OptimizerSettings(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-3)


def train(converted: Converted, optimizer: torch.optim.Optimizer, steps: range, factor: float = 1.0) -> None:
    for step in steps:
        converted.clock.step = step
        for members in optimizer.param_groups:
            members["lr"] = members["base_lr"] * factor
        images = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(converted.model(images), torch.tensor([0, 1, 2, 3]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def state_of(converted: Converted) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in converted.model.state_dict().items()}


def test_both_arithmetics_give_the_same_weights() -> None:
    states = []
    for arithmetic in ("integer", "simulated"):
        converted = small(arithmetic)  # type: ignore[arg-type]
        train(converted, build_optimizer(converted, converted.recipe, SETTINGS), range(3))
        states.append(state_of(converted))
    assert states[0].keys() == states[1].keys()
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []


def test_float_parameters_follow_the_suites_optimiser() -> None:
    converted = small()
    optimizer = build_optimizer(converted, converted.recipe, SETTINGS)
    parameters = {name: p for name, p in converted.model.named_parameters() if not p.isnan().any()}
    assert set(parameters) == {"0.norm.weight", "0.norm.bias", "2.bias"}
    copies = {name: nn.Parameter(p.detach().clone()) for name, p in parameters.items()}
    expected = torch.optim.SGD(copies.values(), SETTINGS.lr, SETTINGS.momentum, fused=True)
    for _ in range(3):
        for name, parameter in parameters.items():
            parameter.grad = torch.randn_like(parameter)
            copies[name].grad = parameter.grad.clone()
        optimizer.step()
        expected.step()
    assert all(torch.equal(parameters[name], copies[name]) for name in parameters)


def test_the_learning_rate_of_every_group_is_seen() -> None:
    """With the factor 0 of a schedule nothing moves, codes or floats."""
    converted = small()
    optimizer = build_optimizer(converted, converted.recipe, SETTINGS)
    train(converted, optimizer, range(2))
    trained = {name for name, _ in converted.model.named_parameters()} | {"0.conv.weight_codes", "2.weight_codes"}
    before = state_of(converted)
    train(converted, optimizer, range(2, 4), factor=0.0)
    after = state_of(converted)
    assert all(torch.equal(before[name], after[name]) for name in trained & before.keys())
    train(converted, optimizer, range(4, 6))
    later = state_of(converted)
    assert {name for name in trained & after.keys() if torch.equal(later[name], after[name])} == set()


def test_an_interrupted_training_continues_from_its_state_dicts() -> None:
    for settings in (SETTINGS, OptimizerSettings(name="adam", lr=0.01)):
        straight = small()
        optimizer = build_optimizer(straight, straight.recipe, settings)
        train(straight, optimizer, range(2))
        model_state, optimizer_state = state_of(straight), deepcopy(optimizer.state_dict())
        resumed = small()
        again = build_optimizer(resumed, resumed.recipe, settings)
        resumed.model.load_state_dict(model_state)
        again.load_state_dict(optimizer_state)
        train(resumed, again, range(2, 4))
        train(straight, optimizer, range(2, 4))
        ours, theirs = state_of(resumed), state_of(straight)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_gathered_gradients_belong_to_the_optimizer_that_loads_them() -> None:
    recipe = Recipe(weight=Direct(8), update=OnGrid(Direct(8), batches=3))
    models = [convert(nn.Sequential(layer_of(SHAPES[0])), recipe) for _ in range(2)]
    optimizers = [build_optimizer(one, recipe, SETTINGS) for one in models]
    for step, (converted, optimizer) in enumerate(zip(models, optimizers, strict=True)):
        if step:
            optimizer.load_state_dict(optimizers[0].state_dict())
        converted.model(torch.ones(2, 40)).sum().backward()
        optimizer.step()
    gathered = [optimizer.state_dict()["state"][GATHERED] for optimizer in optimizers]
    assert [waiting["batches"] for waiting in gathered] == [1, 2]
    assert torch.equal(gathered[1][0], 2 * gathered[0][0])


def test_gathered_gradients_do_not_depend_on_the_last_batch() -> None:
    """A layer that this batch leaves out, as stochastic depth does, moves by what the others gathered."""
    recipe = Recipe(weight=FixedPoint(2, 6), update=OnGrid(FixedPoint(2, 6), batches=2))
    moved = []
    for order in ((0, 1), (1, 0)):
        model = nn.ModuleList([layer_of(SHAPES[0]) for _ in range(2)])
        nn.init.zeros_(model[0].weight)
        converted = convert(model, recipe)
        optimizer = build_optimizer(converted, recipe, SETTINGS)
        for place in order:
            optimizer.zero_grad()
            converted.model[place](torch.ones(2, 40)).sum().backward()  # type: ignore[index]
            optimizer.step()
        moved.append(converted.model[0].weight_codes)  # type: ignore[index]
    assert moved[0].any() and torch.equal(*moved)


def test_what_was_gathered_does_not_move_a_layer_that_was_frozen_since() -> None:
    recipe = Recipe(weight=FixedPoint(2, 6), update=OnGrid(FixedPoint(2, 6), batches=2))
    converted = convert(nn.Sequential(layer_of(SHAPES[0])), recipe)
    optimizer = build_optimizer(converted, recipe, SETTINGS)
    layer = converted.model[0]  # type: ignore[index]
    before = layer.weight_codes.clone()
    converted.model(torch.ones(2, 40)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    layer.weight.requires_grad_(False)
    optimizer.step()
    assert torch.equal(layer.weight_codes, before)


@pytest.mark.parametrize("grid", [Affine(8), FixedPoint(8, 16), Direct(16)], ids=str)
def test_grids_that_weights_cannot_live_on_are_refused(grid: Quantizer) -> None:
    with pytest.raises(InputError, match="weights"):
        OnGrid(grid)
