"""The reference of range batch norm on codes against autograd through the formula on dequantised values."""

from __future__ import annotations

import pytest
import torch
from kernel_cases_range_norm import CONSTANT, codes_of, gradient_line, line, per_channel
from torch import Tensor

from qbench.kernels.random import counted, uncounted
from qbench.kernels.reference import passes, range_norm

SHAPE, CHUNKS = (4, 5, 6, 8), 4
TOLERANCE = 1e-5
"""Results are float64 rounded to float32 once or twice."""


def normalised(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """y and D of rows [n, C] in float64."""
    parts = x.view(CHUNKS, -1, x.shape[1])
    spread = CONSTANT * (parts.amax(1) - parts.amin(1)).mean(0) + 1e-5
    return (x - x.mean(0)) / spread * weight + bias, spread


@pytest.mark.parametrize("relu", [False, True])
def test_line_is_the_norm_of_the_values(relu: bool) -> None:
    codes = codes_of(SHAPE, "random")
    arguments = line(SHAPE, "random", CHUNKS, relu)
    scale, zero, weight, bias = (value.double() for value in arguments[4:8])
    x = (counted(codes).reshape(-1, SHAPE[1]).double() - zero) * scale
    expected, spread = normalised(x, weight, bias)
    slope, offset, mean, inverse, batch_mean, found_spread, extremes = range_norm.range_line(*arguments)
    value, exact_extremes, _ = passes.affine_view(codes, slope, offset, relu, None)
    expected = expected.clamp(min=0) if relu else expected
    torch.testing.assert_close(counted(value).reshape(-1, SHAPE[1]).double(), expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert torch.equal(extremes, exact_extremes)
    torch.testing.assert_close(batch_mean.double(), x.mean(0), rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(found_spread.double(), spread, rtol=TOLERANCE, atol=0)
    torch.testing.assert_close((mean - zero) * scale, x.mean(0), rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(inverse, 1 / spread, rtol=TOLERANCE, atol=0)


def test_gradient_line_is_the_gradient_of_the_norm() -> None:
    """Autograd on the values; the codes have one extreme per chunk, which autograd would share between ties."""
    codes = codes_of(SHAPE, "random")
    rows = counted(codes).reshape(CHUNKS, -1, SHAPE[1])
    rows[:, 3], rows[:, 7] = 0, 255
    rows[:, :3], rows[:, 4:7], rows[:, 8:] = (part.clamp(1, 254) for part in (rows[:, :3], rows[:, 4:7], rows[:, 8:]))
    codes = uncounted(rows.reshape(SHAPE[0], *SHAPE[2:], SHAPE[1]), codes)
    _, _, _, low_at, high_at = passes.chunk_statistics(codes, CHUNKS)

    _, count, scale, zero, step, _, _, weight, constant, errors, _, _ = gradient_line(SHAPE, "random", CHUNKS)
    x = (counted(codes).reshape(-1, SHAPE[1]).double() * step.double()).requires_grad_()
    gamma, beta = weight.double().requires_grad_(), per_channel(SHAPE, 1).double().requires_grad_()
    y, spread = normalised(x, gamma, beta)
    g = (counted(errors).reshape(-1, SHAPE[1]).double() - zero.double()) * scale.double()
    expected = torch.autograd.grad(y, (x, gamma, beta), g)

    e, q = (counted(z).reshape(-1, SHAPE[1]).long() for z in (errors, codes))
    sums = torch.stack([e.sum(0), (e * q).sum(0)])
    slope, offset, _, _, at, values, grad_weight, grad_bias = range_norm.range_gradient_line(
        sums,
        count,
        scale,
        zero,
        step,
        q.double().mean(0),
        1 / spread.detach(),
        weight,
        constant,
        errors,
        low_at,
        high_at,
    )
    found = (e.float() * slope + offset).flatten()
    found[at] = values
    size = float(expected[0].abs().max())
    torch.testing.assert_close(found.view_as(x).double(), expected[0], rtol=0, atol=TOLERANCE * size)
    torch.testing.assert_close(grad_weight.double(), expected[1], rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(grad_bias.double(), expected[2], rtol=TOLERANCE, atol=TOLERANCE)


def test_both_pulls_act_on_the_one_extreme_of_a_constant_chunk() -> None:
    """They cancel, up to the rounding of two float32 operations."""
    arguments = list(gradient_line(SHAPE, "constant", CHUNKS))
    slope, offset, _, _, at, values, *_ = range_norm.range_gradient_line(*arguments)
    codes = counted(arguments[9]).flatten()
    plain = (slope * codes[at].view(2, CHUNKS, -1).float() + offset).flatten()
    constant = (torch.arange(SHAPE[1]) % 2 == 0).expand(2, CHUNKS, -1).flatten()
    assert torch.equal(
        at.view(2, -1)[0][constant[: CHUNKS * SHAPE[1]]], at.view(2, -1)[1][constant[: CHUNKS * SHAPE[1]]]
    )
    torch.testing.assert_close(
        values[constant], plain[constant], rtol=TOLERANCE, atol=TOLERANCE * float(values.abs().max())
    )
    assert not torch.equal(values[~constant], plain[~constant])


@pytest.mark.parametrize("kind", ["random", "ties", "constant-chunk"])
def test_pull_is_what_the_extremes_differ_by_from_the_line(kind: str) -> None:
    """Where a chunk's maximum and minimum are different elements."""
    arguments = gradient_line(SHAPE, kind, CHUNKS)
    slope, offset, _, pull, at, values, *_ = range_norm.range_gradient_line(*arguments)
    high_at, low_at = at.view(2, CHUNKS, -1)
    plain = slope * counted(arguments[9]).flatten()[at].view(2, CHUNKS, -1).float() + offset
    different = high_at != low_at
    assert different.any() and pull.all()
    high, low = values.view(2, CHUNKS, -1)
    assert torch.equal(high[different], (plain[0] - pull)[different])
    assert torch.equal(low[different], (plain[1] + pull)[different])
