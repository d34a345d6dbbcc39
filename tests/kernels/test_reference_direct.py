"""The reference of batch norm on direct grids against independent formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from kernel_cases_direct import EPS, GRIDS, TOP, UNIT, gradient, gradient_of, line, view
from kernel_matrix import normal, rows_of
from torch import Tensor

from qbench.kernels.reference import direct, encode

SHAPE = (3, 4, 5, 2)


def parts(arguments: tuple[Tensor, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z, t and the value before ReLU and trunk, in numpy's float32."""
    x, mean, inverse, _, _, slope, offset, _ = arguments
    z = (rows_of(x) - mean.numpy()) * inverse.numpy()
    t = np.clip(np.rint(z * np.float32(UNIT)), -np.float32(TOP), np.float32(TOP))
    return z, t, slope.numpy() * t + offset.numpy()


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("fill", ["normal", "ties"])
def test_view(relu: bool, fill: str) -> None:
    arguments = view(SHAPE, relu, fill)
    trunk = normal(SHAPE, seed=1)
    expected = parts(arguments)[2] + rows_of(trunk)
    expected = np.maximum(expected, 0) if relu else expected
    value, mask = direct.direct_view(*arguments, trunk)
    assert np.array_equal(rows_of(value), expected)
    positive = np.packbits((expected > 0).flatten(), bitorder="little")
    assert mask.tolist() == (positive.tolist() if relu else [])


def test_codes_are_those_of_the_values() -> None:
    arguments = view(SHAPE, True)
    value, _ = direct.direct_view(*arguments, None)
    codes, scale = direct.encode_direct_view(*arguments, 2.0**-7, -100.0, 100.0, torch.int8)
    assert torch.equal(codes, (value * 2**7).round().clamp(-100, 100).to(torch.int8))
    assert scale.item() == 2.0**-7
    arguments[0][0, 0, 0, 0] = math.nan
    codes, scale = direct.encode_direct_view(*arguments, 2.0**-7, -100.0, 100.0, torch.int8)
    assert codes[0, 0, 0, 0] == 0 and scale.isnan()


@pytest.mark.parametrize("dtype", [None, torch.int8, torch.int16])
@pytest.mark.parametrize("relu", [False, True])
def test_gradient_and_its_sums(relu: bool, dtype: torch.dtype | None) -> None:
    g, scale, *rest = gradient(SHAPE, relu, dtype)
    *arguments, a, b, c = rest
    z, t, value = parts(tuple(arguments))
    floats = rows_of(g) if scale is None else rows_of(g).astype(np.float32) * scale.numpy()
    m = np.where(value > 0, floats, np.float32(0)) if relu else floats
    wide = m.astype(np.float64)
    expected = [wide.sum(0), (wide * t).sum(0), (wide * z).sum(0)]
    found = direct.direct_gradient_sums(g, scale, *arguments)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-11, atol=1e-11)  # float64 sums in another order
    result, extremes = direct.direct_gradient(g, scale, *arguments, a, b, c)
    assert np.array_equal(rows_of(result), (a.numpy() * m + b.numpy()) + c.numpy() * z)
    assert torch.equal(extremes, encode.extremes(result))


def test_line_is_what_its_docstring_says() -> None:
    mean, variance, weight, bias, *_ = line(40)
    found = direct.direct_line(mean, variance, weight, bias, GRIDS, UNIT, EPS)
    deviation = variance.sqrt()
    on_mean_grid = (mean.float().double() * 2**15).round() / 2**15
    assert torch.equal(found[0].double(), on_mean_grid)
    scale = (deviation.float().double() * 2**15).round() / 2**15 + EPS
    torch.testing.assert_close(found[1].double(), 1 / scale, rtol=1e-7, atol=0)
    on_grid = [(values.double() * 2**7).round() / 2**7 for values in (weight, bias)]
    assert torch.equal(found[2].double() * UNIT, on_grid[0]) and torch.equal(found[3].double(), on_grid[1])
    assert torch.equal(found[4].double(), on_grid[0])
    torch.testing.assert_close(found[5].double(), 1 / deviation, rtol=2e-7, atol=0)
    assert torch.equal(found[6].double(), mean.float().double() - on_mean_grid)


def test_a_constant_channel_has_no_pull() -> None:
    mean, variance = torch.tensor([3.0, 1.0]).double(), torch.tensor([0.0, 4.0]).double()
    vectors = direct.direct_line(mean, variance, torch.ones(2), torch.zeros(2), GRIDS, UNIT, EPS)
    assert vectors[5].tolist() == [0.0, 0.5]
    sums = torch.full((3, 2), 8.0, dtype=torch.float64)
    *_, c = direct.direct_gradient_line(sums, 4, UNIT, vectors[1], vectors[4], vectors[5], vectors[6])
    assert c.tolist() == [0.0, -1.0]


def test_line_of_the_gradient_is_that_of_batch_norm() -> None:
    """Without rounding of the mean: dx = weight * inverse * (m - mean(m)) - weight * mean(m z) / deviation * z."""
    shape = (40, 6)
    x, _, _, unit, top, slope, offset, relu = view(shape, False)
    deviation, mean = x.double().std(0, correction=0), x.double().mean(0)
    weight = (slope * unit).float()
    inverse = (1 / deviation).float()
    g, _ = gradient_of(shape, None)
    arguments = (g, None, x, mean.float(), inverse, unit, top, slope, offset, relu)
    sums = direct.direct_gradient_sums(*arguments)
    vectors = (inverse, weight, inverse, torch.zeros(6))
    _, _, a, b, c = direct.direct_gradient_line(sums, len(x), unit, *vectors)
    found, _ = direct.direct_gradient(*arguments, a, b, c)
    exact = x.double().requires_grad_()
    y = torch.nn.functional.batch_norm(exact, None, None, weight.double(), training=True, eps=1e-30)
    (expected,) = torch.autograd.grad(y, exact, g.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
