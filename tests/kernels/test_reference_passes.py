"""The reference passes, updates and pooling against independent formulas."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from kernel_cases_encoding import PHILOX
from kernel_cases_passes import POOLS, levels, pooled, view
from kernel_cases_updates import momentum, sgd
from kernel_matrix import generator, integers, normal, number, rows_of
from torch import Tensor

from qbench.kernels.checks import dense
from qbench.kernels.random import Key, counted, random_words
from qbench.kernels.reference import encode, packing, passes, pooling, updates

SHAPE = (3, 4, 5, 2)


@pytest.mark.parametrize("chunks", [1, 2, 5, 15])
def test_chunk_statistics_are_numpys(chunks: int) -> None:
    codes = dense(torch.randint(100, 106, SHAPE, generator=generator()).to(torch.uint8))
    rows = rows_of(codes).astype(np.int64)
    sums, lows, highs, low_at, high_at = passes.chunk_statistics(codes, chunks)
    parts = rows.reshape(chunks, -1, 4)
    start = np.arange(chunks)[:, None] * parts.shape[1]
    assert np.array_equal(sums.numpy(), rows.sum(0))
    assert np.array_equal(lows.numpy(), parts.min(1)) and np.array_equal(highs.numpy(), parts.max(1))
    assert np.array_equal(low_at.numpy(), parts.argmin(1) + start)  # numpy's are the first
    assert np.array_equal(high_at.numpy(), parts.argmax(1) + start)


def values_of(codes: Tensor, slope: Tensor, offset: Tensor) -> np.ndarray:
    """[rows, C] float32: numpy rounds the product and the sum separately."""
    return rows_of(codes).astype(np.float32) * slope.numpy() + offset.numpy()


@pytest.mark.parametrize("relu", [False, True])
def test_view_of_codes(relu: bool) -> None:
    codes, slope, offset, _ = view(SHAPE, relu)
    trunk = normal(SHAPE, seed=1)
    expected = values_of(codes, slope, offset) + rows_of(trunk)
    expected = np.maximum(expected, 0) if relu else expected
    value, extremes, mask = passes.affine_view(codes, slope, offset, relu, trunk)
    assert np.array_equal(rows_of(value), expected)
    assert extremes.tolist() == [expected.min(), expected.max()]
    positive = np.packbits((expected > 0).flatten(), bitorder="little")
    assert mask.tolist() == (positive.tolist() if relu else [])


def test_replaced_elements_are_encoded_in_place_of_the_view() -> None:
    codes, slope, offset, relu = view(SHAPE, False)
    at, values = torch.tensor([0, 17, 119]), torch.tensor([3.0, -2.0, 0.5])
    expected = values_of(codes, slope, offset).flatten()
    expected[at.numpy()] = values.numpy()
    x = dense(torch.from_numpy(expected).view(3, 5, 2, 4).permute(0, 3, 1, 2))
    low, high = encode.extremes(x)
    assert torch.equal(passes.view_extremes(codes, slope, offset, relu, at, values), torch.stack([low, high]))
    settings = (low, high, 8, True, PHILOX)
    found = passes.encode_affine_view(codes, slope, offset, relu, *settings, at, values)
    assert all(map(torch.equal, found, encode.encode_affine(x, *settings)))
    scale = (number(3.0), "linear", 127.0, -127.0, 127.0, "stochastic", PHILOX, torch.int8)
    found_scaled = passes.encode_scaled_view(codes, slope, offset, relu, *scale, at, values)
    assert all(map(torch.equal, found_scaled, encode.encode_scaled(x, *scale)))


def test_mask_of_a_view_stops_its_gradient() -> None:
    codes, slope, offset, _ = view(SHAPE, True)
    g = normal(SHAPE, seed=2)
    expected = np.where(values_of(codes, slope, offset) > 0, rows_of(g), 0)
    _, _, mask = passes.affine_view(codes, slope, offset, True, None)
    y, extremes = passes.apply_mask(g, mask)
    assert np.array_equal(rows_of(y), expected)
    assert extremes.tolist() == [expected.min(), expected.max()]
    assert torch.equal(passes.view_gradient_extremes(g, codes, slope, offset, True), extremes)
    e = codes.clone()
    scale, zero, sums = passes.encode_view_gradient_(g, e, slope, offset, True, *extremes, 8, True, None)
    assert all(map(torch.equal, (e, scale, zero), encode.encode_affine(y, *extremes, 8, True, None)))
    wide = rows_of(e).astype(np.int64)
    assert sums.tolist() == [wide.sum(0).tolist(), (wide * rows_of(codes)).sum(0).tolist()]


def test_nan_passes_a_relu_but_not_its_mask() -> None:
    codes = torch.zeros((2, 1), dtype=torch.uint8)
    value, extremes, mask = passes.affine_view(codes, number(math.nan).view(1), number(0.0).view(1), True, None)
    assert value.isnan().all() and extremes.isnan().all() and mask.tolist() == [0]


def test_moments_are_numpys() -> None:
    x = normal(SHAPE) + 100
    rows = rows_of(x).astype(np.float64)
    mean, variance, lows, highs = passes.moments(x)
    np.testing.assert_allclose(mean.numpy(), rows.mean(0), rtol=1e-13)
    np.testing.assert_allclose(variance.numpy(), rows.var(0), rtol=1e-11)  # float64 sums in another order
    assert np.array_equal(lows.numpy(), rows.min(0)) and np.array_equal(highs.numpy(), rows.max(0))


def test_levels_are_normalised_then_compared() -> None:
    x, mean, inverse = normal(SHAPE), normal((4,), seed=1), normal((4,), seed=2).abs()
    thresholds = normal((15,), seed=3).sort().values
    normalised = (rows_of(x) - mean.numpy()) * inverse.numpy()
    expected = np.searchsorted(thresholds.numpy(), normalised)
    assert np.array_equal(rows_of(passes.encode_normalised_levels(x, mean, inverse, thresholds)), expected)


@pytest.mark.parametrize("relu", [False, True])
def test_level_views_and_gradients(relu: bool) -> None:
    codes, table, slope, offset, _ = levels(SHAPE, relu, 16)
    q = table.numpy()[rows_of(codes)]
    line = q * slope.numpy() + offset.numpy()
    value, _, _ = passes.level_view(codes, table, slope, offset, relu, None)
    assert np.array_equal(rows_of(value), np.maximum(line, 0) if relu else line)
    g = normal(SHAPE, seed=4)
    m = np.where(line > 0, rows_of(g), np.float32(0)) if relu else rows_of(g)
    sums = passes.level_gradient_sums(g, codes, table, slope, offset, relu)
    expected = [m.sum(0, dtype=np.float64), (m.astype(np.float64) * q).sum(0)]
    np.testing.assert_allclose(sums.numpy(), expected, rtol=1e-12, atol=1e-12)  # float64 sums in another order
    a, b, c = (normal((4,), seed=seed) for seed in (5, 6, 7))
    found = passes.level_gradient(g, codes, table, slope, offset, relu, a, b, c)
    assert np.array_equal(rows_of(found), (a.numpy() * m + b.numpy()) + c.numpy() * q)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_sgd_is_pytorchs_rounded_onto_the_grid(nesterov: bool, first: bool) -> None:
    codes, grad, buffer, lr, decay, mu, _, _, scale, low, high, *_ = sgd((40, 7), torch.int8, "nearest", None)
    weight = torch.nn.Parameter(codes.double() * scale)
    weight.grad = grad.double()
    optimizer = torch.optim.SGD([weight], lr, mu, weight_decay=decay, nesterov=nesterov)
    if not first:
        optimizer.state[weight]["momentum_buffer"] = buffer.double()
    optimizer.step()
    updates.sgd_on_grid_(codes, grad, buffer, lr, decay, mu, nesterov, first, scale, low, high, "nearest", None)
    torch.testing.assert_close(buffer, optimizer.state[weight]["momentum_buffer"].float(), rtol=1e-6, atol=1e-6)
    assert_rounded(codes, weight.detach() / scale)


def assert_rounded(codes: Tensor, exact: Tensor) -> None:
    """``codes`` are ``exact`` rounded; float32 may decide otherwise only next to a tie."""
    clipped = exact.clamp(-128, 127)
    assert (codes.double() - clipped).abs().max() <= 0.5 + 1e-4
    assert (codes.double() == clipped.round()).double().mean() > 0.99


@pytest.mark.parametrize("step", [1, 7])
def test_adam_is_pytorchs_rounded_onto_the_grid(step: int) -> None:
    codes, scale = integers((40, 7), torch.int8), 2.0**-7
    grad, m, v = normal((40, 7)), normal((40, 7), seed=1) * 0.1, normal((40, 7), seed=2).square()
    weight = torch.nn.Parameter(codes.double() * scale)
    weight.grad = grad.double()
    optimizer = torch.optim.Adam([weight], 0.05, (0.9, 0.99), 1e-8, 1e-4, foreach=False)
    optimizer.state[weight] = {"step": torch.tensor(step - 1.0), "exp_avg": m.double(), "exp_avg_sq": v.double()}
    optimizer.step()
    updates.adam_on_grid_(
        codes, grad, m, v, 0.05, 0.9, 0.99, 1e-8, step, 1e-4, scale, -math.inf, math.inf, "nearest", None
    )
    torch.testing.assert_close(m, optimizer.state[weight]["exp_avg"].float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(v, optimizer.state[weight]["exp_avg_sq"].float(), rtol=1e-5, atol=1e-6)
    assert_rounded(codes, weight.detach() / scale)


def test_stochastic_update_has_the_mean_of_the_exact_one() -> None:
    """w - lr * d is 3.3 grid steps everywhere: the mean of 10^5 draws scatters by 0.0015."""
    codes = torch.full((100_000,), 4, dtype=torch.int8)
    grad = torch.full((100_000,), 0.7)
    updates.sgd_on_grid_(codes, grad, None, 1.0, 0.0, 0.0, False, True, 1.0, -8.0, 7.0, "stochastic", PHILOX)
    assert set(codes.tolist()) == {3, 4}
    assert abs(float(codes.double().mean()) - 3.3) < 0.01


def test_random_bits_of_an_update_go_by_memory() -> None:
    codes = dense(torch.zeros(SHAPE, dtype=torch.int8))
    grad = dense(torch.full(SHAPE, -0.5))
    updates.sgd_on_grid_(codes, grad, None, 1.0, 0.0, 0.0, False, True, 1.0, -8.0, 7.0, "stochastic", PHILOX)
    up = (random_words(codes.numel(), Key.of(PHILOX)) >> 8) < 2**23
    assert counted(codes).flatten().tolist() == up.int().tolist()


@pytest.mark.parametrize("rounding", ["binary", "binary_stochastic"])
def test_binary_updates_stay_binary(rounding: str) -> None:
    key = None if rounding == "binary" else PHILOX
    codes = integers((50_000,), torch.int8).sign() | 1
    grad = torch.full((50_000,), -1.5)
    before = codes.clone()
    updates.sgd_on_grid_(codes, grad, None, 1.0, 0.0, 0.0, False, True, 1.0, -1.0, 1.0, rounding, key)
    assert set(codes.tolist()) == ({1} if rounding == "binary" else {-1, 1})
    if key is not None:  # -1 moves to 0.5: +1 with probability 0.75, whose standard error is below 0.003
        assert abs(float((codes[before < 0] == 1).double().mean()) - 0.75) < 0.015


def test_quantized_momentum_in_fractions() -> None:
    weight, accumulator, scale, grad, decay, dr, quarters, lr_code, limit, _ = momentum((33, 5), None)
    decayed = grad + torch.tensor(decay) * (weight.float() * scale)
    power = 2.0 ** round(math.log2(float(decayed.abs().max())))
    expected = []
    flat = zip(*(x.flatten().tolist() for x in (weight, accumulator, decayed)), strict=True)
    for w, a, g in flat:
        step = min(max(round(Fraction(g) * dr / Fraction(power)), 1 - dr), dr - 1)
        kept = Fraction(quarters, 4) * round(Fraction(a, 2**14) * 2**12) / 2**12 + Fraction(step, 2**14)
        moved = Fraction(w, 2**23) - Fraction(lr_code, 2**9) * kept
        expected.append((min(max(moved, -Fraction(limit, 2**23)), Fraction(limit, 2**23)), kept))
    updates.quantized_momentum_(weight, accumulator, scale, grad, decay, dr, quarters, lr_code, limit, None)
    assert [Fraction(w, 2**23) for w in weight.flatten().tolist()] == [w for w, _ in expected]
    assert [Fraction(a, 2**14) for a in accumulator.flatten().tolist()] == [a for _, a in expected]


@pytest.mark.parametrize("name", [name for name, (shape, *_) in POOLS.items() if 0 not in shape])
def test_max_pool_and_its_gradient_are_pytorchs(name: str) -> None:
    x, *geometry = pooled(name, "equal")
    exact = x.double().requires_grad_()
    expected = torch.nn.functional.max_pool2d(exact, *geometry)
    y, window = pooling.max_pool2d(x, *geometry)
    assert torch.equal(y.double(), expected)
    g = dense(torch.randint(-99, 100, y.shape, generator=generator()).float())  # exact in any order
    (gradient,) = torch.autograd.grad(expected, exact, g.double())
    assert torch.equal(pooling.max_pool2d_backward(g, window, list(x.shape), *geometry).double(), gradient)


def test_first_of_equals_and_first_nan_win() -> None:
    x = torch.tensor([[1.0, 1.0, math.nan, 2.0], [1.0, 1.0, math.nan, 3.0]]).view(1, 1, 2, 4)
    y, window = pooling.max_pool2d(x, [2, 2], [2, 2], [0, 0])
    assert window.flatten().tolist() == [0, 0]
    assert y[0, 0, 0, 0] == 1 and y[0, 0, 0, 1].isnan()


def test_padding_never_wins() -> None:
    x = torch.full((1, 1, 2, 2), -math.inf)
    y, window = pooling.max_pool2d(x, [3, 3], [2, 2], [1, 1])
    assert y.item() == -math.inf and window.item() == 4
    g = pooling.max_pool2d_backward(torch.ones(1, 1, 1, 1), window, [1, 1, 2, 2], [3, 3], [2, 2], [1, 1])
    assert g.flatten().tolist() == [1, 0, 0, 0]


def test_overlapping_windows_add_in_the_outputs_order() -> None:
    """2^24 + 1 - 2^24 is 0 in float32 in this order and 1 in another."""
    x = dense(torch.zeros(1, 1, 1, 5))
    x[0, 0, 0, 2] = 1.0
    g = torch.tensor([2.0**24, 1.0, -(2.0**24)]).view(1, 1, 1, 3)
    y, window = pooling.max_pool2d(x, [1, 3], [1, 1], [0, 0])
    assert y.flatten().tolist() == [1, 1, 1]
    assert pooling.max_pool2d_backward(g, window, [1, 1, 1, 5], [1, 3], [1, 1], [0, 0]).flatten().tolist() == [0] * 5


def test_one_bit_masks_are_packed_codes() -> None:
    g = normal(SHAPE)
    y, _ = passes.apply_mask(g, packing.pack_bits((g > 0).to(torch.uint8), 1))
    assert torch.equal(y, g.clamp(min=0))
