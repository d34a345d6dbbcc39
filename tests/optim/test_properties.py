"""What every update rule promises, for settings, weights and gradients that hypothesis chooses."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qbench.nn import Converted, convert
from qbench.nn.layers import QuantizedLayer
from qbench.nn.site import nearest_version
from qbench.optim import build_optimizer
from qbench.optim.on_grid import Grid, grid_of
from qbench.optim.quantized_momentum import QuantizedMomentumOptimizer
from qbench.quant.formats import Binary, Direct, FixedPoint, Quantizer
from qbench.recipe import ClippedMaster, OnGrid, QuantizedMomentum, Recipe, Update
from qbench.train.settings import OptimizerSettings

FEW = settings(max_examples=30, deadline=None, derandomize=True)
SIDE = 64
COUNT = SIDE * SIDE

ROUNDINGS = ("nearest", "stochastic")
fixed = st.builds(FixedPoint, st.integers(1, 4), st.integers(0, 10), st.sampled_from(ROUNDINGS))
binary = st.builds(Binary, st.sampled_from([1.0, 0.25, 0.1]), st.sampled_from(ROUNDINGS))
direct = st.builds(lambda bits: Direct(bits, 1 - 2.0 ** (1 - bits)), st.integers(2, 16))
grids = st.one_of(fixed, binary, direct)
rates = st.floats(1e-4, 1.0)
sgd = st.builds(
    lambda lr, momentum, decay, nesterov: OptimizerSettings(
        name="sgd", lr=lr, momentum=momentum, weight_decay=decay, nesterov=nesterov and momentum > 0
    ),
    rates, st.sampled_from([0.0, 0.9]), st.sampled_from([0.0, 1e-2]), st.booleans(),
)  # fmt: skip
adam = st.builds(
    lambda lr, decay: OptimizerSettings(name="adam", lr=lr, weight_decay=decay), rates, st.sampled_from([0.0, 1e-2])
)
seeds = st.integers(0, 2**32 - 1)
sizes = st.floats(-4, 2).map(lambda exponent: 10.0**exponent)


def build(weight: Quantizer, update: Update, spread: float, seed: int) -> tuple[Converted, QuantizedLayer]:
    layer = nn.Linear(SIDE, SIDE, bias=False)
    with torch.no_grad():
        layer.weight.normal_(0, spread, generator=torch.Generator().manual_seed(seed))
    converted = convert(nn.Sequential(layer), Recipe(weight=weight, update=update), seed=seed)
    coded = converted.model[0]  # type: ignore[index]
    assert isinstance(coded, QuantizedLayer)
    return converted, coded


def gradients(seed: int, size: float) -> Tensor:
    return torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(seed ^ 1)) * size


def codes_of(layer: QuantizedLayer) -> Tensor:
    assert layer.weight_codes is not None
    return layer.weight_codes.clone()


def allowed(codes: Tensor, grid: Grid) -> bool:
    if grid.rounding.startswith("binary"):
        return bool((codes.abs() == 1).all())
    return bool(((codes >= grid.low) & (codes <= grid.high)).all())


@FEW
@given(grids, st.one_of(sgd, adam), seeds, sizes)
def test_weights_are_codes_of_the_grid_and_nothing_else(
    spec: Quantizer, rule: OptimizerSettings, seed: int, size: float
) -> None:
    converted, layer = build(nearest_version(spec), OnGrid(spec), 0.5, seed)
    optimizer = build_optimizer(converted, converted.recipe, rule)
    for step in range(3):
        converted.clock.step = step
        layer.weight.grad = gradients(seed + step, size)
        optimizer.step()
        assert codes_of(layer).dtype in (torch.int8, torch.int16)
        assert allowed(codes_of(layer), grid_of(spec))
        assert layer.weight.isnan().all() and layer.weight.untyped_storage().nbytes() == 4
        q = layer.encode_weight()
        assert not isinstance(q, Tensor) and torch.equal(q.codes, codes_of(layer))


@FEW
@given(grids, st.one_of(sgd, adam), seeds)
def test_a_zero_gradient_moves_no_weight(spec: Quantizer, rule: OptimizerSettings, seed: int) -> None:
    rule = rule.model_copy(update={"weight_decay": 0.0})
    converted, layer = build(nearest_version(spec), OnGrid(spec), 0.5, seed)
    optimizer = build_optimizer(converted, converted.recipe, rule)
    before = codes_of(layer)
    for step in range(3):
        converted.clock.step = step
        layer.weight.grad = torch.zeros(SIDE, SIDE)
        optimizer.step()
    assert torch.equal(codes_of(layer), before)


def target(codes: Tensor, gradient: Tensor, grid: Grid, lr: float) -> Tensor:
    """Where plain SGD takes the weight, in units of the grid, in float64."""
    return codes.double() - lr * gradient.double() / float(torch.tensor(grid.scale))


@FEW
@given(st.one_of(fixed, direct).map(nearest_version), rates, seeds, sizes)
def test_nearest_neither_loses_nor_invents_a_step(spec: Quantizer, lr: float, seed: int, size: float) -> None:
    """The new code is the one nearest to where the step leads, up to the float32 rounding of that place."""
    converted, layer = build(spec, OnGrid(spec), 0.5, seed)
    optimizer = build_optimizer(converted, converted.recipe, OptimizerSettings(name="sgd", lr=lr, momentum=0.0))
    grid, before = grid_of(spec), codes_of(layer)
    layer.weight.grad = gradients(seed, size)
    optimizer.step()
    place = target(before, layer.weight.grad, grid, lr).clamp(grid.low, grid.high)
    error = (codes_of(layer).double() - place).abs()
    assert bool((error <= 0.5 + 1e-6 * (1 + place.abs())).all())


@FEW
@given(st.sampled_from([0.5, 1.0]), rates, seeds, sizes)
def test_nearest_binary_is_the_sign_of_the_place(scale: float, lr: float, seed: int, size: float) -> None:
    converted, layer = build(Binary(scale), OnGrid(Binary(scale)), 0.5, seed)
    optimizer = build_optimizer(converted, converted.recipe, OptimizerSettings(name="sgd", lr=lr, momentum=0.0))
    before = codes_of(layer)
    layer.weight.grad = gradients(seed, size)
    optimizer.step()
    place = target(before, layer.weight.grad, grid_of(Binary(scale)), lr)
    decided = place.abs() > 1e-5
    assert torch.equal(codes_of(layer)[decided].double(), place[decided].sign())


roomy = st.integers(0, 6).map(lambda fraction_bits: FixedPoint(4, fraction_bits, "stochastic"))


@FEW
@given(st.one_of(roomy, st.just(Binary(1.0, "stochastic"))), st.floats(-0.9, 0.9), seeds)
def test_stochastic_rounding_is_unbiased(spec: Quantizer, moved: float, seed: int) -> None:
    """Every weight is asked to move by the same part of a unit; the mean over 4096 weights does, within 5 standard
    errors of Bernoulli draws, and each goes to a neighbour of its place."""
    converted, layer = build(nearest_version(spec), OnGrid(spec), 0.0, seed)
    optimizer = build_optimizer(converted, converted.recipe, OptimizerSettings(name="sgd", lr=1.0, momentum=0.0))
    grid, before = grid_of(spec), codes_of(layer)
    step = abs(moved) * 2 if isinstance(spec, Binary) else moved  # all start at +1, and +-1 is as far as it goes
    layer.weight.grad = torch.full((SIDE, SIDE), step * grid.scale)
    optimizer.step()
    place = before.double() - step
    after = codes_of(layer).double()
    spacing = 2.0 if isinstance(spec, Binary) else 1.0
    assert float((after - place).abs().max()) <= spacing
    assert abs(float((after - place).mean())) <= 5 * 0.5 * spacing / COUNT**0.5 + 1e-6


def wageubn(seed: int, spread: float = 0.3) -> tuple[Converted, QuantizedLayer, QuantizedMomentumOptimizer]:
    converted, layer = build(Direct(8, 1 - 2.0**-7), QuantizedMomentum(), spread, seed)
    converted.clock.total_steps = 100
    optimizer = build_optimizer(converted, converted.recipe, OptimizerSettings(name="sgd"))
    assert isinstance(optimizer, QuantizedMomentumOptimizer)
    return converted, layer, optimizer


@FEW
@given(seeds, sizes, st.integers(0, 99))
def test_quantised_momentum_moves_weights_by_whole_units(seed: int, size: float, step: int) -> None:
    """One step: at most dr - 1 units of gradient, times the rate, clipped to 24 bits, and nothing else."""
    converted, layer, optimizer = wageubn(seed)
    converted.clock.step = step
    before = codes_of(layer)
    layer.weight.grad = gradients(seed, size)
    optimizer.step()
    accumulator = optimizer.state[layer.weight]["accumulator"]
    assert accumulator.dtype == torch.int32
    assert int(accumulator.abs().max()) <= optimizer.gradient_levels() - 1
    moved = before - optimizer.lr_code(optimizer.param_groups[0]["lr"]) * accumulator
    assert torch.equal(codes_of(layer), moved.clamp(1 - 2**23, 2**23 - 1))


@FEW
@given(seeds, st.floats(-1, 1))
def test_quantised_momentums_gradient_is_unbiased(seed: int, part: float) -> None:
    """A gradient of ``part`` of a unit, beside one value that sets the magnitude to 1, so that the unit is 1 / 128."""
    _, layer, optimizer = wageubn(seed)
    layer.weight.grad = torch.full((SIDE, SIDE), part / 128)
    layer.weight.grad[0, 0] = 1.0
    optimizer.step()
    units = optimizer.state[layer.weight]["accumulator"].flatten()[1:].double()
    assert abs(float(units.mean()) - part) <= 5 * 0.5 / COUNT**0.5 + 1e-6
    assert set(units.unique().tolist()) <= {-1.0, 0.0, 1.0}


@FEW
@given(seeds)
def test_quantised_momentum_rests_at_a_zero_gradient(seed: int) -> None:
    converted, layer, optimizer = wageubn(seed)
    before = codes_of(layer)
    for step in range(3):
        converted.clock.step = step
        layer.weight.grad = torch.zeros(SIDE, SIDE)
        optimizer.step()
    assert torch.equal(codes_of(layer), before)


@FEW
@given(st.one_of(sgd, adam), st.sampled_from(["unit", "glorot", "none"]), seeds, sizes)
def test_a_clipped_master_is_the_suites_step_and_a_clip(
    rule: OptimizerSettings, scale: str, seed: int, size: float
) -> None:
    """Compared with PyTorch's optimiser on a copy, at the learning rate the rule asks for: the same bits."""
    recipe_scale = "glorot" if scale == "glorot" else 1.0
    converted, layer = build(Binary(recipe_scale), ClippedMaster(scale), 0.5, seed)  # type: ignore[arg-type]
    optimizer = build_optimizer(converted, converted.recipe, rule)
    copy = nn.Parameter(layer.weight.detach().clone())
    group = optimizer.param_groups[0]
    options = {"lr": group["lr"], "weight_decay": group["weight_decay"], "fused": True}
    expected: torch.optim.Optimizer
    if rule.name == "adam":
        expected = torch.optim.Adam([copy], betas=(rule.momentum, rule.beta2), **options)
    else:
        expected = torch.optim.SGD([copy], momentum=rule.momentum, nesterov=rule.nesterov, **options)
    limit = (1.5 / (2 * SIDE)) ** 0.5 if scale == "glorot" else 1.0
    for step in range(3):
        layer.weight.grad = gradients(seed + step, size)
        copy.grad = layer.weight.grad.clone()
        optimizer.step()
        expected.step()
        copy.data.clamp_(-limit, limit)
        assert torch.equal(layer.weight, copy)
        assert float(layer.weight.detach().abs().max()) <= limit * (1 + 1e-7)
