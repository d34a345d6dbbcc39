"""WAGEUBN (Yang, Deng, Wu, Yan, Xie, Li 2020, arXiv:1909.02384; authors' code: GitHub, yang-yk/wageubn): its four
quantisers, its batch norm and its momentum, re-derived in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from uniforms import uniforms

from qbench.catalog import find_method
from qbench.kernels.random import Key
from qbench.nn import Converted, convert
from qbench.nn.clock import Clock, tensor_id
from qbench.nn.norms import build_norm
from qbench.nn.norms.direct import DirectBatchNorm
from qbench.optim import build_optimizer
from qbench.optim.quantized_momentum import QuantizedMomentumOptimizer
from qbench.quant.formats import Affine, Constant, Direct, Flag, Quantizer, Shift
from qbench.quant.quantize import quantize
from qbench.recipe import DirectNorm, QuantizedMomentum, Recipe
from qbench.train.settings import OptimizerSettings

Array = NDArray[np.float64]
WAGEUBN = find_method("wageubn")
SGD = OptimizerSettings(name="sgd", lr=0.1, momentum=0.0)

# --- the functions of the authors' code in float64


def q(x: Array, k: int) -> Array:
    return np.asarray(np.round(x * 2.0 ** (k - 1)) / 2.0 ** (k - 1))


def shift(x: Array) -> float:
    """R: the code has no guard for a zero tensor; here R = 1."""
    largest = np.abs(x).max()
    return 2.0 ** round(np.log2(largest)) if largest else 1.0


def sq(x: Array, k: int, limit: float) -> Array:
    r = shift(x)
    return np.asarray(r * np.clip(q(x / r, k), -limit, limit))


def flag(x: Array, k: int) -> Array:
    unit = shift(x) / 2 ** (k - 1)
    y = x / unit
    large = np.clip(np.round(y), -(2 ** (k - 1)) + 1, 2 ** (k - 1) - 1)
    return np.asarray(unit * np.where(np.abs(y) >= 1, large, q(y, k)))


def cq(x: Array, dr: int, draws: Array) -> Array:
    """Draws below the fraction above the floor; in law the code's sign(v) (floor|v| + [frac|v| > U])."""
    v = dr * x / shift(x)
    return np.asarray(np.clip(np.floor(v) + (draws < v - np.floor(v)), -dr + 1, dr - 1) / 2.0**14)


def values(x: Tensor, spec: Quantizer, key: Key | None = None) -> Array:
    return quantize(x, spec, key or Key(0, 0, 0)).dequantize().double().numpy()


SCALES = [1e-7, 1e-3, 0.3, 1.0, 20.0]


@pytest.mark.parametrize("scale", SCALES)
def test_quantisers_are_those_of_the_code(scale: float) -> None:
    """Bit for bit: all their scales are powers of two."""
    x = torch.randn(6000, generator=torch.Generator().manual_seed(1)) * scale
    exact = x.double().numpy()
    assert np.array_equal(values(x, Direct(8)), q(exact, 8))
    assert np.array_equal(values(x, Direct(16)), q(exact, 16))
    assert np.array_equal(values(x, Direct(8, 1 - 2.0**-7)), np.clip(q(exact, 8), -127 / 128, 127 / 128))
    assert np.array_equal(values(x, Shift(8)), sq(exact, 8, 1 - 2.0**-7))
    assert np.array_equal(values(x, Shift(8, "one")), sq(exact, 8, 1.0))
    assert np.array_equal(values(x, Shift(16)), sq(exact, 16, 1 - 2.0**-15))
    assert np.array_equal(values(x, Flag(8)), flag(exact, 8))
    for dr in (128, 32, 8, 2):
        key = Key(1, 2, dr)
        assert np.array_equal(values(x, Constant(dr), key), cq(exact, dr, uniforms(6000, key)))


@pytest.mark.parametrize(("rate", "steps"), [(0.05, 26), (0.006, 3), (0.003, 2), (0.0015, 1)])
def test_learning_rates_on_ten_bits(rate: float, steps: int) -> None:
    """The code's rates of epochs 0, 30, 60 and 80: 0.05 times 1, 0.12, 0.06 and 0.03."""
    assert values(torch.tensor([rate]), Direct(10)).tolist() == [steps / 512]
    _, _, optimizer = layer_of(8, 8)
    assert optimizer.learning_rate(rate) == steps / 512


def test_number_of_values() -> None:
    """Flag: at most 509 for k = 8; SQ: 255, 257 with the code's clip at +-1."""
    x = torch.cat([torch.linspace(-1.4, 1.4, 400_001), torch.linspace(-0.01, 0.01, 100_001)])
    counts = {Flag(8): 509, Shift(8): 255, Shift(8, "one"): 257}
    assert {spec: quantize(x, spec, Key(0, 0, 0)).dequantize().unique().numel() for spec in counts} == counts


@pytest.mark.parametrize(("dr", "largest"), [(128, 127), (32, 31), (8, 7), (2, 1)])
def test_constant_quantisation_is_on_the_grid(dr: int, largest: int) -> None:
    """Integers over 2^14 with magnitude at most dr - 1; the code's g_scale 128, 128, 32, 8, 2."""
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    x *= 1.3 * 2.0**-17 / x.abs().max()  # a maximum above R, so that the clip acts
    units = values(x, Constant(dr), Key(1, 2, 3)) * 2**14
    assert np.array_equal(units, np.round(units))
    assert np.abs(units).max() == largest


@pytest.mark.parametrize(
    "spec", [Shift(8), Shift(8, "one"), Shift(16), Flag(8), Constant(128), Affine(8, "stochastic")]
)
def test_zero_tensor(spec: Quantizer) -> None:
    """The code takes the logarithm of 0 here."""
    assert np.array_equal(values(torch.zeros(64), spec, Key(1, 2, 3)), np.zeros(64))


DISTRIBUTIONS = {  # of 1e6 samples: cosine with the original and share of zeros, for SQ8, Flag8, SQ16
    "gaussian": ((0.99996, 0.012), (0.99996, 0.0001), None),
    "laplace": ((0.99968, 0.061), (0.99971, 0.0005), None),
    "log-normal": ((0.9903, 0.997), (0.9931, 0.876), (0.9939, 0.822)),
}


def drawn(name: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(1_000_000, generator=generator, dtype=torch.float64)
    if name == "gaussian":
        return normal.float()
    sign = torch.where(torch.rand(1_000_000, generator=generator) < 0.5, -1.0, 1.0)
    if name == "laplace":
        return (-torch.rand(1_000_000, generator=generator, dtype=torch.float64).log() * sign).float()
    return ((3 * normal).exp() * sign).float()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_what_the_flag_buys(name: str) -> None:
    """Worked out on samples of the same size. The range is a power of two near the sample's maximum, so samples fall
    on one side or the other: the known values lie between the extremes of ten samples, or within 1.5 times of one."""
    for spec, known in zip((Shift(8), Flag(8), Shift(16)), DISTRIBUTIONS[name], strict=True):
        if known is None:
            continue
        samples = [drawn(name, seed) for seed in range(10)]
        quantised = [quantize(x, spec, Key(0, 0, 0)).dequantize() for x in samples]
        angles = [
            1 - float(nn.functional.cosine_similarity(x.double(), v.double(), dim=0))
            for x, v in zip(samples, quantised, strict=True)
        ]
        zeros = [float((v == 0).double().mean()) for v in quantised]
        # Near 1 both are compared by what is missing to 1; the tables' own rounding is half a unit of the last digit.
        last_digit = 5e-6 if name != "log-normal" else 5e-5
        assert min(angles) / 1.5 - last_digit <= 1 - known[0] <= max(angles) * 1.5 + last_digit
        assert min(zeros) / 1.5 <= known[1] <= max(zeros) * 1.5


def test_saturation() -> None:
    """max / R lies in [2^-1/2, 2^1/2]: a maximum above R is clipped, by up to 29 %."""
    worst = 0.0
    for exponent in np.linspace(-2, 2, 401):
        x = torch.tensor([2.0**exponent], dtype=torch.float32)
        value = quantize(x, Shift(8), Key(0, 0, 0)).dequantize()
        worst = max(worst, 1 - float(value / x))
    assert worst == pytest.approx(1 - (127 / 128) / 2**0.5, abs=0.005)
    assert 0.29 < worst < 0.30


# --- batch norm


def norm_by_autograd(x: Tensor, gamma: Tensor, beta: Tensor, bits: int) -> Tensor:
    """The code's batch_normalization: Q with the gradient of the identity on mean, deviation, xhat, gamma and beta."""

    def straight(value: Tensor, k: int) -> Tensor:
        rounded = torch.from_numpy(q(value.detach().numpy(), k))
        return value + (rounded - value).detach()

    mean = x.mean(0)
    deviation = (x - mean).square().mean(0).sqrt()
    xhat = straight((x - straight(mean, 16)) / (straight(deviation, 16) + 2.0**-15), bits)
    return xhat * straight(gamma, 8) + straight(beta, 8)


@pytest.mark.parametrize("bits", [8, 16])
def test_batch_norm_and_its_gradient(bits: int) -> None:
    """Against autograd in float64. The module's quantisers are float32: 1e-5, and no code falls the other way here."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(200, 3, generator=generator) * 2 + 1).requires_grad_()
    upstream = torch.randn(200, 3, generator=generator)
    norm = build_norm(nn.BatchNorm1d(3), DirectNorm(normalised=Direct(bits)), "norm", Clock())
    assert isinstance(norm, DirectBatchNorm)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.7, 1.0, 1.3]))
        norm.bias.copy_(torch.tensor([-0.4, 0.0, 0.6]))
    got = norm(x)
    ours = torch.autograd.grad(got, (x, norm.weight, norm.bias), upstream)
    inputs = tuple(t.detach().double().requires_grad_() for t in (x, norm.weight, norm.bias))
    expected = norm_by_autograd(*inputs, bits)
    exact = torch.autograd.grad(expected, inputs, upstream.double())
    assert torch.allclose(got.double(), expected, rtol=0, atol=1e-5)
    for a, b in zip(ours, exact, strict=True):
        assert float((a.double() - b).abs().max()) < 1e-5 * float(b.abs().max())


def test_batch_norm_at_inference() -> None:
    """The code averages the variance and takes the root of the average, then Q(., 16) + 2^-15."""
    norm = build_norm(nn.BatchNorm1d(2), DirectNorm(momentum=0.25), "norm", Clock())
    assert isinstance(norm, DirectBatchNorm)
    generator = torch.Generator().manual_seed(0)
    mean, variance = np.zeros(2), np.ones(2)
    for _ in range(3):
        x = torch.randn(50, 2, generator=generator) * 3 + 1
        norm(x)
        exact = x.double().numpy()
        mean += 0.25 * (exact.mean(0) - mean)
        variance += 0.25 * (exact.var(0) - variance)
    x = torch.randn(40, 2, generator=generator)
    expected = q((x.double().numpy() - q(mean, 16)) / (q(np.sqrt(variance), 16) + 2.0**-15), 8)
    assert np.array_equal(norm.eval()(x).detach().double().numpy(), expected)


# --- momentum


def layer_of(rows: int, columns: int) -> tuple[Converted, nn.Module, QuantizedMomentumOptimizer]:
    torch.manual_seed(0)
    recipe = Recipe(weight=Direct(8, 1 - 2.0**-7), update=QuantizedMomentum())
    converted = convert(nn.Sequential(nn.Linear(columns, rows, bias=False)), recipe, seed=3)
    optimizer = build_optimizer(converted, recipe, SGD)
    assert isinstance(optimizer, QuantizedMomentumOptimizer)
    return converted, converted.model[0], optimizer  # type: ignore[index]


def test_momentum_is_that_of_the_code_and_never_rounds() -> None:
    """200 steps through all four levels of dr: Acc = Q(Acc, 13) / 4 + CQ(g); W = Q(W, 24) - Q(lr, 10) Acc, and every
    weight stays on the 2^-23 grid. Equal bit for bit: the code's Q(W, 24) changes nothing."""
    converted, layer, optimizer = layer_of(24, 40)
    converted.clock.total_steps = 200
    w = layer.master.dequantize().double().numpy()  # type: ignore[union-attr,operator]
    torch.manual_seed(0)
    assert np.array_equal(w, q(nn.Linear(40, 24, bias=False).weight.detach().double().numpy(), 16))
    accumulator = np.zeros((24, 40))
    generator = torch.Generator().manual_seed(1)
    name = tensor_id("0.weight/gradient")
    for step in range(200):
        converted.clock.step = step
        gradient = torch.randn(24, 40, generator=generator) * 10.0 ** (step % 7 - 5)
        layer.weight.grad = gradient.clone()  # type: ignore[union-attr]
        optimizer.param_groups[0]["lr"] = rate = 0.05 * (1, 0.12, 0.06, 0.03)[step // 50]
        optimizer.step()
        dr = 128 if step < 120 else 32 if step < 160 else 8 if step < 180 else 2
        draws = uniforms((24, 40), Key(3, name, step))
        accumulator = q(accumulator, 13) / 4 + cq(gradient.double().numpy(), dr, draws)
        assert np.array_equal(q(w, 24), w)
        w = np.clip(w - q(np.array(rate), 10) * accumulator, -1 + 2.0**-23, 1 - 2.0**-23)
        assert np.array_equal(layer.master.dequantize().double().numpy(), w), step  # type: ignore[union-attr,operator]


def test_largest_change_per_step() -> None:
    """From one gradient at the first rate: 26 / 512 * 127 / 2^14 = 3.9e-4."""
    _, layer, optimizer = layer_of(16, 16)
    before = layer.master.dequantize().double()  # type: ignore[union-attr,operator]
    layer.weight.grad = torch.full((16, 16), -0.5)  # type: ignore[union-attr]
    optimizer.step()
    moved = float((layer.master.dequantize().double() - before).abs().max())  # type: ignore[union-attr,operator]
    assert moved <= 26 / 512 * 127 / 2**14
    assert moved == pytest.approx(3.9e-4, rel=0.01)


@pytest.mark.parametrize("start", [torch.ones(4), torch.tensor([0.1, 0.01, -1e-3, 0.3])], ids=["new", "trained"])
def test_gamma_and_beta_follow_the_rule_on_15_bits(start: Tensor) -> None:
    """Acc = Q(Acc, 13) / 4 + Q(g, 15); gamma = Q(gamma, 24) - Q(lr, 10) Acc: float32 holds all of it exactly."""
    recipe = WAGEUBN.build({})
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))
    model[1].weight.data.copy_(start)
    converted = convert(model, recipe)
    optimizer = build_optimizer(converted, recipe, SGD)
    gamma = converted.model[1].weight  # type: ignore[index]
    expected, accumulator = start.double().numpy(), np.zeros(4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        gamma.grad = torch.randn(4, generator=generator) * 0.01
        accumulator = q(accumulator, 13) / 4 + q(gamma.grad.double().numpy(), 15)
        expected = q(expected, 24) - 26 / 512 * accumulator
        optimizer.step()
        assert np.array_equal(gamma.detach().double().numpy(), expected)


# --- the presets


def test_full8_preset_is_the_authors_code() -> None:
    grid = Direct(8)
    assert WAGEUBN.build({"preset": "full8"}) == Recipe(
        weight=Direct(8, 1 - 2.0**-7),
        activation=grid,
        error=Flag(8),
        branch_error=Shift(8, "one"),
        norm=DirectNorm(Direct(16), Direct(16), grid, grid, 2.0**-15, 0.1),
        update=QuantizedMomentum(0.05, 0.25, rates=((0.0, 1.0), (0.3, 0.12), (0.6, 0.06), (0.8, 0.03))),
        first_layer="float",
        last_layer="float",
    )


def test_e2_16_preset() -> None:
    recipe = WAGEUBN.build({"preset": "e2_16"})
    assert recipe.error == Shift(16)
    assert recipe.branch_error == Shift(8)
    assert recipe.norm == DirectNorm(Direct(16), Direct(16), Direct(16), Direct(8), 2.0**-15, 0.1)


def test_widths_of_the_momentum() -> None:
    """Fraction bits add: 2 + 12 = 14 for the accumulator, 9 + 14 = 23 for the weight; dr as in the code's intervals."""
    rule = QuantizedMomentum()
    assert (rule.accumulator, rule.learning_rate, rule.norm_gradient) == (Direct(13), Direct(10), Direct(15))
    assert rule.gradient == Constant(128, 15)
    assert rule.weight == Direct(24, 1 - 2.0**-23)
    assert rule.levels == ((0.0, 128), (0.6, 32), (0.8, 8), (0.9, 2))


def test_schedules_of_the_code() -> None:
    """100 epochs with boundaries at 30, 60, 80 and 90: rates 0.05 * (1, 0.12, 0.06, 0.03, 0.03), which 10 bits round to
    26, 3, 2, 1 and 1 of 1/512; dr 128, 128, 32, 8, 2."""
    recipe = WAGEUBN.build({"preset": "full8"})
    converted = convert(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), recipe, arithmetic="integer")
    converted.clock.total_steps = 100
    optimizer = build_optimizer(converted, recipe, SGD)
    assert isinstance(optimizer, QuantizedMomentumOptimizer)
    found = []
    for epoch in (0, 29, 30, 59, 60, 79, 80, 89, 90, 99):
        converted.clock.step = epoch
        found.append((optimizer.lr_code(optimizer.rate(optimizer.param_groups[0])), optimizer.gradient_levels()))
    assert found == [pair for pair in [(26, 128), (3, 128), (2, 32), (1, 8), (1, 2)] for _ in range(2)]
    assert optimizer.lr_code(0.05 * 0.12) == 3


def test_schedules_are_options() -> None:
    update = WAGEUBN.build({"dr": "constant"}).update
    assert isinstance(update, QuantizedMomentum)
    assert (update.rates, update.levels) == ((), ((0.0, 128),))


def test_trunk_is_an_option() -> None:
    """The activations' grid, wider: 16 bits hold +-(2^15 - 1) steps of 2^-7."""
    assert WAGEUBN.build({}).trunk is None
    assert WAGEUBN.build({"trunk_bits": 16}).trunk == Direct(8, (2**15 - 1) / 2**7)
    assert WAGEUBN.build({"trunk_bits": 10}).trunk == Direct(8, 511 / 128)
