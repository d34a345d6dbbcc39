"""Update rules: where weights may lie after a step, and known laws of what rounding does to them."""

import pytest
import torch
from torch import nn

from qbench.nn import Converted, convert
from qbench.nn.layers import QuantizedLayer, glorot_coefficient
from qbench.optim import build_optimizer, optimizer_bytes
from qbench.optim.quantized_momentum import QuantizedMomentumOptimizer
from qbench.quant.formats import Binary, Direct, FixedPoint
from qbench.recipe import ClippedMaster, OnGrid, QuantizedMomentum, Recipe
from qbench.train.settings import OptimizerSettings

SGD = OptimizerSettings(name="sgd", lr=0.1, momentum=0.0)
ADAM = OptimizerSettings(name="adam", lr=0.01)


def linear(recipe: Recipe, inputs: int = 64, outputs: int = 64) -> tuple[Converted, QuantizedLayer]:
    torch.manual_seed(0)
    converted = convert(nn.Sequential(nn.Linear(inputs, outputs, bias=False)), recipe)
    layer = converted.model[0]  # type: ignore[index]
    assert isinstance(layer, QuantizedLayer)
    return converted, layer


GRIDS = [Binary(rounding="stochastic"), Binary(), FixedPoint(2, 4, "stochastic"), FixedPoint(1, 7)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("settings", [SGD, ADAM], ids=lambda s: s.name)
def test_weights_stay_on_the_grid(grid: Binary | FixedPoint, settings: OptimizerSettings) -> None:
    weight = Binary() if isinstance(grid, Binary) else FixedPoint(grid.integer_bits, grid.fraction_bits)
    converted, layer = linear(Recipe(weight=weight, update=OnGrid(grid)))
    optimizer = build_optimizer(converted, converted.recipe, settings)
    for step in range(5):
        converted.clock.step = step
        layer.weight.grad = torch.randn_like(layer.weight)
        optimizer.step()
        q = layer.encode_weight()
        assert torch.equal(q.dequantize(), layer.weight)  # type: ignore[union-attr]


def test_rounding_to_nearest_loses_steps_below_half_the_spacing() -> None:
    converted, layer = linear(Recipe(weight=FixedPoint(2, 4), update=OnGrid(FixedPoint(2, 4))))
    optimizer = build_optimizer(converted, converted.recipe, SGD)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.full_like(before, 0.3)  # a step of 0.03 < 1/32
    optimizer.step()
    assert torch.equal(layer.weight, before)


def test_flip_rate_of_binary_stochastic_rounding() -> None:
    """A step of lr against the sign flips a +-1 weight with probability lr / 2, a step with the sign never."""
    converted, layer = linear(Recipe(weight=Binary(), update=OnGrid(Binary(rounding="stochastic"))), 512, 512)
    optimizer = build_optimizer(converted, converted.recipe, SGD)
    before = layer.weight.detach().clone()
    layer.weight.grad = before.sign()  # SGD moves every weight by 0.1 towards 0
    optimizer.step()
    flipped = float((layer.weight != before).float().mean())
    assert flipped == pytest.approx(0.05, abs=0.0022)  # 5 standard errors of 2^18 draws
    after = layer.weight.detach().clone()
    layer.weight.grad = -after.sign()
    converted.clock.step = 1
    optimizer.step()
    assert torch.equal(layer.weight, after)


def test_random_walk_of_binary_weights_under_noise() -> None:
    """Li et al. 2017, derived: with sign noise the share of changed weights after t steps is
    (1 - (1 - lr / 2)^t) / 2: half the steps are against the sign, each then flips with probability lr / 2."""
    converted, layer = linear(Recipe(weight=Binary(), update=OnGrid(Binary(rounding="stochastic"))), 256, 256)
    optimizer = build_optimizer(converted, converted.recipe, SGD)
    start = layer.weight.detach().clone()
    generator = torch.Generator().manual_seed(0)
    steps = 30
    for step in range(steps):
        converted.clock.step = step
        layer.weight.grad = torch.randint(0, 2, start.shape, generator=generator).float() * 2 - 1
        optimizer.step()
    changed = float((layer.weight != start).float().mean())
    assert changed == pytest.approx((1 - (1 - SGD.lr / 2) ** steps) / 2, abs=0.01)  # 5 standard errors of 65,536


def test_clipped_master_keeps_a_float_copy_within_the_limit() -> None:
    converted, layer = linear(Recipe(weight=Binary(), update=ClippedMaster("unit")))
    optimizer = build_optimizer(converted, converted.recipe, ADAM)
    for _ in range(3):
        layer.weight.grad = torch.randn_like(layer.weight) * 100
        optimizer.step()
    assert float(layer.weight.detach().abs().max()) <= 1
    assert layer.weight.detach().abs().unique().numel() > 100


@pytest.mark.parametrize(("settings", "power"), [(ADAM, 1), (SGD, 2)], ids=["adam", "sgd"])
def test_learning_rate_scaling_of_binaryconnect(settings: OptimizerSettings, power: int) -> None:
    """1/c for Adam and 1/c^2 for SGD with c = sqrt(1.5 / (n_in + n_out)) (authors' code)."""
    converted, layer = linear(Recipe(weight=Binary(), update=ClippedMaster("unit")), 100, 50)
    c = (1.5 / 150) ** 0.5
    assert glorot_coefficient(layer.weight) == pytest.approx(c)
    optimizer = build_optimizer(converted, converted.recipe, settings)
    assert optimizer.param_groups[0]["base_lr"] == pytest.approx(settings.lr / c**power)


@pytest.mark.parametrize("settings", [ADAM, SGD], ids=["adam", "sgd"])
def test_the_two_parametrisations_of_binaryconnect_agree(settings: OptimizerSettings) -> None:
    """limit 1 with scaled steps and limit c with plain steps are one rule: same signs, masters in the ratio c."""
    masters = []
    for scale in ("unit", "glorot"):
        weight = Binary("glorot" if scale == "glorot" else 1.0)
        converted, layer = linear(Recipe(weight=weight, update=ClippedMaster(scale)), 32, 32)  # type: ignore[arg-type]
        optimizer = build_optimizer(converted, converted.recipe, settings)
        c = glorot_coefficient(layer.weight)
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            gradient = torch.randn(32, 32, generator=generator)
            # The same loss: values c times larger have a gradient c times smaller.
            layer.weight.grad = gradient * (c if scale == "unit" else 1.0)
            optimizer.step()
        masters.append(layer.weight.detach() * (c if scale == "unit" else 1.0))
    assert torch.allclose(masters[0], masters[1], rtol=1e-4, atol=1e-6)  # Adam's epsilon breaks the exact ratio


def wageubn(inputs: int = 64, outputs: int = 64) -> tuple[Converted, QuantizedLayer, QuantizedMomentumOptimizer]:
    converted, layer = linear(Recipe(weight=Direct(8, 1 - 2.0**-7), update=QuantizedMomentum()), inputs, outputs)
    optimizer = build_optimizer(converted, converted.recipe, SGD)
    assert isinstance(optimizer, QuantizedMomentumOptimizer)
    return converted, layer, optimizer


def test_quantised_momentum_never_rounds_at_the_update() -> None:
    """200 random steps: float32 weights equal the same rule in exact integer arithmetic on the 2^-23 grid."""
    converted, layer, optimizer = wageubn()
    exact = (layer.weight.detach().double() * 2**23).long()
    accumulator = torch.zeros_like(exact)  # in units of 2^-14
    lr = 26  # Q(0.05, 10) in units of 2^-9
    for step in range(200):
        converted.clock.step = step
        layer.weight.grad = torch.randn_like(layer.weight) * 10.0 ** (step % 7 - 5)
        optimizer.step()
        new = optimizer.state[layer.weight]["accumulator"]
        kept = (accumulator.double() / 4).round().long()  # Q(Acc, 13): units of 2^-12, ties to even
        gradient = (new.double() * 2**14).long() - kept
        assert int(gradient.abs().max()) <= 127
        accumulator = kept + gradient
        exact = (exact - lr * accumulator).clamp(-(2**23) + 1, 2**23 - 1)
        assert torch.equal((layer.weight.detach().double() * 2**23).long(), exact)
        assert torch.equal((layer.weight.detach().double() * 2**23), exact.double())


def test_gradient_levels_follow_training() -> None:
    converted, _, optimizer = wageubn()
    converted.clock.total_steps = 100
    seen = []
    for step in (0, 59, 60, 80, 90, 99):
        converted.clock.step = step
        seen.append(optimizer.gradient_levels())
    assert seen == [128, 128, 32, 8, 2, 2]


def test_zero_gradient_moves_nothing() -> None:
    _, layer, optimizer = wageubn()
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.zeros_like(before)
    optimizer.step()
    assert torch.equal(layer.weight, before)


def test_optimizer_bytes_count_the_storage_format() -> None:
    count = 64 * 64
    converted, layer = linear(Recipe(weight=Binary(), update=ClippedMaster()))
    adam = build_optimizer(converted, converted.recipe, ADAM)
    layer.weight.grad = torch.zeros_like(layer.weight)
    adam.step()
    assert optimizer_bytes(adam, converted) == count * 4 * 3 + 4  # two moments, the master copy, a step counter
    converted, layer = linear(Recipe(weight=Binary(), update=OnGrid(Binary())))
    sgd = build_optimizer(converted, converted.recipe, SGD)
    layer.weight.grad = torch.zeros_like(layer.weight)
    sgd.step()
    assert optimizer_bytes(sgd, converted) == 0
    converted, _, momentum = wageubn()
    assert optimizer_bytes(momentum, converted) == count * (13 + 24) // 8
