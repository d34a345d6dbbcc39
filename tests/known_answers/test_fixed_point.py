"""Fixed point with stochastic rounding (Gupta, Agrawal, Gopalakrishnan, Narayanan 2015, arXiv:1502.02551, section 3):
its two roundings and its saturation, and a training step whose every data path is in <IL, FL>, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from arithmetics import both_arithmetics
from numpy.typing import NDArray
from torch import nn
from uniforms import uniforms

from qbench.catalog import find_method
from qbench.errors import InputError
from qbench.kernels.random import Key
from qbench.nn import convert
from qbench.nn.clock import tensor_id
from qbench.optim import build_optimizer
from qbench.quant.formats import FixedPoint
from qbench.quant.quantize import quantize
from qbench.recipe import Arithmetic
from qbench.train.settings import OptimizerSettings

Array = NDArray[np.float64]
METHOD = find_method("fixed_point")
FORMATS = [(2, 14), (6, 10), (4, 12), (2, 6), (8, 0), (1, 15)]


def rounded(x: Array, integer_bits: int, fraction_bits: int, draws: Array | None = None) -> Array:
    """Convert(x, <IL, FL>): saturate, else to the multiple of 2^-FL below x or the next, half up or at random."""
    step = 2.0**-fraction_bits
    low, high = -(2.0 ** (integer_bits - 1)), 2.0 ** (integer_bits - 1) - step
    below = np.floor(x / step)
    up = x / step - below >= 0.5 if draws is None else draws < x / step - below
    return np.clip((below + up) * step, low, high)


def sample(count: int) -> torch.Tensor:
    x = torch.randn(count, generator=torch.Generator().manual_seed(0))
    return torch.cat([x, x * 2.0**-10, x * 100, torch.tensor([0.0, -0.0, 2.0**-15, -(2.0**-15), 3.0, -3.0])])


@pytest.mark.parametrize(("integer_bits", "fraction_bits"), FORMATS)
def test_round_to_nearest(integer_bits: int, fraction_bits: int) -> None:
    x = sample(4000)
    got = quantize(x, FixedPoint(integer_bits, fraction_bits), Key(0, 0, 0)).dequantize()
    assert np.array_equal(got.double().numpy(), rounded(x.double().numpy(), integer_bits, fraction_bits))


@pytest.mark.parametrize(("integer_bits", "fraction_bits"), FORMATS)
def test_stochastic_rounding(integer_bits: int, fraction_bits: int) -> None:
    x, key = sample(4000), Key(1, 2, 3)
    got = quantize(x, FixedPoint(integer_bits, fraction_bits, "stochastic"), key).dequantize()
    expected = rounded(x.double().numpy(), integer_bits, fraction_bits, uniforms(len(x), key))
    assert np.array_equal(got.double().numpy(), expected)


@pytest.mark.parametrize(("integer_bits", "fraction_bits"), FORMATS)
def test_range_and_smallest_step(integer_bits: int, fraction_bits: int) -> None:
    """[-2^(IL-1), 2^(IL-1) - 2^-FL] in steps of 2^-FL."""
    ends = torch.tensor([-1e9, 1e9, 2.0**-fraction_bits])
    got = quantize(ends, FixedPoint(integer_bits, fraction_bits), Key(0, 0, 0)).dequantize().tolist()
    low, high, step = -(2.0 ** (integer_bits - 1)), 2.0 ** (integer_bits - 1) - 2.0**-fraction_bits, 2.0**-fraction_bits
    assert got == [low, high, min(step, high)]


def test_mean_of_a_million_draws() -> None:
    """3.3 in steps of 1: within 0.003, six standard errors."""
    draws = quantize(torch.full((1_000_000,), 3.3), FixedPoint(8, 0, "stochastic"), Key(5, 6, 7)).dequantize()
    assert float(draws.double().mean()) == pytest.approx(3.3, abs=0.003)
    assert draws.unique().tolist() == [3.0, 4.0]


def test_what_nearest_rounding_loses() -> None:
    """A step below half the grid spacing is lost to rounding to nearest, and taken with probability |dW| / spacing by
    stochastic rounding: here 0.2, within five standard errors of 65,536 draws."""
    for rounding, share in (("nearest", 0.0), ("stochastic", 0.2)):
        recipe = METHOD.build({"rounding": rounding, "fraction_bits": 6})
        converted = convert(nn.Sequential(nn.Linear(256, 256, bias=False)), recipe)
        layer = converted.model[0]  # type: ignore[index]
        optimizer = build_optimizer(converted, recipe, OptimizerSettings(name="sgd", lr=0.1, momentum=0.0))
        before = layer.master.codes.clone()  # type: ignore[union-attr,operator]
        layer.weight.grad = torch.full((256, 256), 2.0 * 2.0**-6)  # type: ignore[union-attr]
        optimizer.step()
        moved = (layer.master.codes != before).float().mean()  # type: ignore[union-attr,operator]
        assert float(moved) == pytest.approx(share, abs=5 * (share * (1 - share) / 65_536) ** 0.5)


@both_arithmetics
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_training_of_a_layer(rounding: str, arithmetic: Arithmetic) -> None:
    """Five steps of one layer with a bias, bit for bit: output, input gradient, weight gradient, weights and bias, each
    converted once behind a sum at full width. The rates and gradients are multiples of powers of two, so that the
    bias's float32 step rounds nothing either."""
    word, out = (2, 8), (4, 6)
    options = {"integer_bits": 2, "fraction_bits": 8, "output_integer_bits": 4, "output_fraction_bits": 6}
    recipe = METHOD.build({"rounding": rounding, **options})
    torch.manual_seed(0)
    linear = nn.Linear(7, 5)
    with torch.no_grad():
        linear.weight.mul_(3)
    w, b = (rounded(p.detach().double().numpy(), *word) for p in (linear.weight, linear.bias))
    converted = convert(nn.Sequential(linear), recipe, seed=9, arithmetic=arithmetic)
    layer = converted.model[0]  # type: ignore[index]
    optimizer = build_optimizer(converted, recipe, OptimizerSettings(name="sgd", lr=0.25, momentum=0.0))

    def draws(name: str, shape: tuple[int, ...], step: int) -> Array | None:
        if rounding == "nearest":
            return None
        return uniforms(shape, Key(9, tensor_id(name), step))

    generator = torch.Generator().manual_seed(1)
    for step in range(5):
        converted.clock.step = step
        x = (torch.randn(6, 7, generator=generator) * 2).requires_grad_()
        upstream = torch.randint(-200, 201, (6, 5), generator=generator) / 512
        y = converted.model(x)
        y.backward(upstream)
        a = rounded(x.detach().double().numpy(), *out, draws("0/activation", (6, 7), step))
        output = rounded(a @ w.T + b, *out, draws("0/output", (6, 5), step))
        error = rounded(upstream.double().numpy(), *word, draws("0/error", (6, 5), step))
        gradient = rounded(error.T @ a, *word, draws("0/gradient", (5, 7), step))
        assert np.array_equal(y.detach().double().numpy(), output)
        assert x.grad is not None
        assert np.array_equal(x.grad.double().numpy(), error @ w)
        assert np.array_equal(layer.weight.grad.double().numpy(), gradient)  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad()
        w = rounded(w - 0.25 * gradient, *word, draws("0/update", (5, 7), step))
        moved = b - 0.25 * upstream.double().numpy().sum(0)
        b = rounded(moved, *word, draws("0.bias/update", (5,), step))
        assert np.array_equal(layer.master.dequantize().double().numpy(), w)  # type: ignore[union-attr,operator]
        assert np.array_equal(layer.bias.detach().double().numpy(), b)  # type: ignore[union-attr,operator]


def test_words_longer_than_16_bits_are_refused() -> None:
    with pytest.raises(InputError, match="at most 16 bits, not 17"):
        METHOD.build({"integer_bits": 2, "fraction_bits": 15})
    with pytest.raises(InputError, match="at most 16 bits, not 18"):
        METHOD.build({"output_integer_bits": 8})
