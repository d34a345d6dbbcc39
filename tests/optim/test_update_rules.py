"""Update rules: where weights may lie after a step, and known laws of what rounding does to them."""

import pytest
import torch
from torch import Tensor, nn

from qbench.errors import InputError
from qbench.kernels.random import Key
from qbench.nn import Converted, convert
from qbench.nn.clock import tensor_id
from qbench.nn.layers import QuantizedLayer, glorot_coefficient
from qbench.optim import build_optimizer, optimizer_bytes
from qbench.optim.quantized_momentum import QuantizedMomentumOptimizer, initial_weight
from qbench.quant.formats import Binary, Constant, Direct, FixedPoint
from qbench.quant.quantize import quantize
from qbench.recipe import ClippedMaster, DirectNorm, OnGrid, QuantizedMomentum, Recipe, Update
from qbench.train.settings import OptimizerSettings

SGD = OptimizerSettings(name="sgd", lr=0.1, momentum=0.0)
ADAM = OptimizerSettings(name="adam", lr=0.01)


def linear(recipe: Recipe, inputs: int = 64, outputs: int = 64) -> tuple[Converted, QuantizedLayer]:
    torch.manual_seed(0)
    converted = convert(nn.Sequential(nn.Linear(inputs, outputs, bias=False)), recipe)
    layer = converted.model[0]  # type: ignore[index]
    assert isinstance(layer, QuantizedLayer)
    return converted, layer


def values(layer: QuantizedLayer) -> Tensor:
    """The weight's values, where it lives as codes."""
    assert layer.master is not None
    return layer.master.dequantize()


def test_rounding_to_nearest_loses_steps_below_half_the_spacing() -> None:
    converted, layer = linear(Recipe(weight=FixedPoint(2, 4), update=OnGrid(FixedPoint(2, 4))))
    optimizer = build_optimizer(converted, converted.recipe, SGD)
    before = values(layer)
    layer.weight.grad = torch.full_like(before, 0.3)  # a step of 0.03 < 1/32
    optimizer.step()
    assert torch.equal(values(layer), before)


def test_flip_rate_of_binary_stochastic_rounding() -> None:
    """A step of lr against the sign flips a +-1 weight with probability lr / 2, a step with the sign never."""
    converted, layer = linear(Recipe(weight=Binary(), update=OnGrid(Binary(rounding="stochastic"))), 512, 512)
    optimizer = build_optimizer(converted, converted.recipe, SGD)
    before = values(layer)
    layer.weight.grad = before.clone()  # SGD moves every weight by 0.1 towards 0
    optimizer.step()
    after = values(layer)
    flipped = float((after != before).float().mean())
    assert flipped == pytest.approx(0.05, abs=0.0022)  # 5 standard errors of 2^18 draws
    layer.weight.grad = -after
    converted.clock.step = 1
    optimizer.step()
    assert torch.equal(values(layer), after)


def test_random_walk_of_binary_weights_under_noise() -> None:
    """Li et al. 2017, derived: with sign noise the share of changed weights after t steps is
    (1 - (1 - lr / 2)^t) / 2: half the steps are against the sign, each then flips with probability lr / 2."""
    converted, layer = linear(Recipe(weight=Binary(), update=OnGrid(Binary(rounding="stochastic"))), 256, 256)
    optimizer = build_optimizer(converted, converted.recipe, SGD)
    start = values(layer)
    generator = torch.Generator().manual_seed(0)
    steps = 30
    for step in range(steps):
        converted.clock.step = step
        layer.weight.grad = torch.randint(0, 2, start.shape, generator=generator).float() * 2 - 1
        optimizer.step()
    changed = float((values(layer) != start).float().mean())
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


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("settings", [ADAM, SGD], ids=["adam", "sgd"])
def test_the_two_parametrisations_of_binaryconnect_agree(settings: OptimizerSettings, decay: float) -> None:
    """limit 1 with scaled steps and limit c with plain steps are one rule: same signs, masters in the ratio c."""
    settings = settings.model_copy(update={"weight_decay": decay})
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
    """200 random steps: the weights equal the same rule in float64 on the 2^-23 grid, where every operation is exact,
    and the gradient that enters it has at most dr - 1 units."""
    converted, layer, optimizer = wageubn()
    assert layer.weight_codes is not None and layer.weight_codes.dtype == torch.int32
    exact = layer.weight_codes.double() / 2**23
    accumulator = torch.zeros_like(exact)
    converted.clock.total_steps = 200
    for step in range(200):
        converted.clock.step = step
        layer.weight.grad = torch.randn(layer.weight.shape) * 10.0 ** (step % 7 - 5)
        optimizer.step()
        new = optimizer.state[layer.weight]["accumulator"].double() / 2**14
        kept = (accumulator * 2**12).round() / 2**12 / 4  # Q(Acc, 13), ties to even, times 1/4
        assert float((new - kept).abs().max()) * 2**14 <= optimizer.gradient_levels() - 1
        accumulator = new
        exact = (exact - 26 / 512 * accumulator).clamp(-1 + 2.0**-23, 1 - 2.0**-23)  # Q(0.05, 10) = 26/512
        assert torch.equal(layer.weight_codes.double() / 2**23, exact)


@pytest.mark.parametrize(("lr", "code"), [(0.05, 26), (0.0009, 0), (0.001, 1), (1.0, 511), (7.0, 511)])
def test_learning_rates_are_multiples_of_2_to_the_minus_9_below_1(lr: float, code: int) -> None:
    _, _, optimizer = wageubn()
    assert (optimizer.lr_code(lr), optimizer.learning_rate(lr)) == (code, code / 512)


@pytest.mark.parametrize(("limit", "value"), [(None, 3.0), (1 - 2.0**-23, 1 - 2.0**-15), (0.3, 9830 / 2**15)])
def test_initial_weights_are_16_bits_inside_the_limit(limit: float | None, value: float) -> None:
    q = initial_weight(torch.tensor([3.0, 0.1]), Direct(24, limit))
    assert q.codes.dtype == torch.int32
    assert q.dequantize().tolist() == [value, 3277 / 2**15]


def test_quantised_momentum_is_the_rule_in_floats() -> None:
    """Against CQ, Q and the momentum as the formats say them, one float operation after the other: the same bits."""
    converted, layer, optimizer = wageubn()
    weight, accumulator = values(layer), torch.zeros(layer.weight.shape)
    optimizer.param_groups[0]["weight_decay"] = decay = 2.0**-6
    identity = tensor_id("0.weight/gradient")
    converted.clock.total_steps = 100  # dr = 128 throughout
    for step in range(20):
        converted.clock.step = step
        layer.weight.grad = gradient = torch.randn(layer.weight.shape) * 10.0 ** (step % 5 - 3)
        optimizer.step()
        g = quantize(gradient + decay * weight, Constant(128), Key(0, identity, step)).dequantize()
        accumulator = 0.25 * quantize(accumulator, Direct(13), Key(0, 0, 0)).dequantize() + g
        weight = (weight - 26 / 512 * accumulator).clamp(-1 + 2.0**-23, 1 - 2.0**-23)
        assert torch.equal(values(layer), weight)


@pytest.mark.parametrize(
    "rule",
    [QuantizedMomentum(momentum=0.3), QuantizedMomentum(accumulator=Direct(12)), QuantizedMomentum(weight=Direct(23))],
    ids=["momentum", "accumulator", "weight"],
)
def test_a_quantised_momentum_that_would_round_is_refused(rule: QuantizedMomentum) -> None:
    converted, _ = linear(Recipe(weight=Direct(8, 1 - 2.0**-7), update=rule))
    with pytest.raises(InputError, match="quantised momentum"):
        build_optimizer(converted, converted.recipe, SGD)


def test_norms_and_float_layers_keep_float_parameters() -> None:
    """gamma moves on the 2^-23 grid; a layer that the recipe keeps in float follows the rule without rounding."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(8, 4))
    recipe = Recipe(weight=Direct(8, 1 - 2.0**-7), norm=DirectNorm(), update=QuantizedMomentum(), last_layer="float")
    converted = convert(model, recipe)
    optimizer = build_optimizer(converted, recipe, SGD)
    gamma, last = model[1].weight, model[2].weight
    assert isinstance(gamma, nn.Parameter) and isinstance(last, nn.Parameter)
    before = last.detach().clone()
    gamma.grad, last.grad = torch.full((8,), 0.0123), torch.full((4, 8), 0.1)
    optimizer.step()
    assert torch.equal(gamma, torch.full((8,), 1 - 26 / 512 * round(0.0123 * 2**14) / 2**14))
    assert torch.equal(last, before - 0.05 * torch.full((4, 8), 0.1))
    assert model[0].master is not None and model[2].master is None  # type: ignore[union-attr]


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
    before = values(layer)
    layer.weight.grad = torch.zeros_like(before)
    optimizer.step()
    assert torch.equal(values(layer), before)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("update", [QuantizedMomentum(), OnGrid(FixedPoint(2, 6))], ids=["wageubn", "on_grid"])
def test_a_gradient_that_is_not_finite_poisons_the_weight(update: Update, bad: float) -> None:
    """Integers cannot say NaN; the scale does, so training reports divergence."""
    converted, layer = linear(Recipe(weight=FixedPoint(2, 6), update=update))
    optimizer = build_optimizer(converted, converted.recipe, SGD)
    layer.weight.grad = torch.zeros(layer.weight.shape)
    optimizer.step()
    assert values(layer).isfinite().all()
    layer.weight.grad[3, 4] = bad
    optimizer.step()
    layer.weight.grad[3, 4] = 0.0
    optimizer.step()
    assert values(layer).isnan().all()


def test_optimizer_bytes_count_the_storage_format() -> None:
    count = 64 * 64
    converted, layer = linear(Recipe(weight=Binary(), update=ClippedMaster()))
    adam = build_optimizer(converted, converted.recipe, ADAM)
    layer.weight.grad = torch.zeros_like(layer.weight)
    adam.step()
    assert optimizer_bytes(adam, converted) == count * 4 * 3 + 4  # two moments, the master copy, a step counter
    converted, layer = linear(Recipe(weight=Binary(), update=OnGrid(Binary())))
    sgd = build_optimizer(converted, converted.recipe, SGD)
    layer.weight.grad = torch.zeros(layer.weight.shape)
    sgd.step()
    assert optimizer_bytes(sgd, converted) == 0
    for settings, slots in ((OptimizerSettings(name="sgd", lr=0.1, momentum=0.9), 1), (ADAM, 2)):
        converted, layer = linear(Recipe(weight=Binary(), update=OnGrid(Binary())))
        optimizer = build_optimizer(converted, converted.recipe, settings)
        layer.weight.grad = torch.zeros(layer.weight.shape)
        optimizer.step()
        assert optimizer_bytes(optimizer, converted) == slots * count * 4
    converted, _, momentum = wageubn()
    assert optimizer_bytes(momentum, converted) == count * (13 + 24) // 8
