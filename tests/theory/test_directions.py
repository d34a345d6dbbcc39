"""Closed forms of cosines against hand-worked values and against the quantisers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from qbench.theory.directions import (
    Levels,
    cosine,
    gaussian_bound,
    gaussian_vector,
    largest_bound,
    magnitude_quantizer,
    right_triangle,
    ternary_cosine,
)


def test_cosine_of_known_vectors():
    assert cosine(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])).value == pytest.approx(math.sqrt(0.5))
    assert cosine(torch.tensor([3.0, -4.0]), torch.tensor([-6.0, 8.0])).value == pytest.approx(-1)
    assert math.isnan(cosine(torch.zeros(3), torch.ones(3)).value)


def test_standard_error_of_the_cosine_is_its_spread_over_draws():
    found = [cosine(x, x.sign()) for x in (gaussian_vector(2000, seed) for seed in range(200))]
    spread = float(np.std([one.value for one in found], ddof=1))
    # A standard deviation from 200 draws is known to 5 %.
    assert found[0].error == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_quantizer_of_the_analysis(bits):
    """Q(x) = D (floor(x / D) + 1/2) with D = max / 2^bits, the largest value in the outermost cell."""
    x = gaussian_vector(5000, 1)
    largest = x.abs().max()
    step = largest.item() / 2**bits
    inside = x.abs() < largest * 0.9999
    expected = step * (torch.floor(x.double() / step) + 0.5)
    q = magnitude_quantizer(x, bits, largest)
    assert q.dequantize()[inside].double().numpy() == pytest.approx(expected[inside].numpy(), abs=1e-6)
    assert len(q.codes.unique()) <= 2 ** (bits + 1)


def test_closed_forms_of_few_levels():
    assert Levels(np.array([-1.0, 1.0])).gaussian_cosine() == pytest.approx(math.sqrt(2 / math.pi))
    # Levels -2t, 0, 2t put the decision points at +-t.
    for threshold in (0.3, 0.612, 1.1):
        levels = Levels(np.array([-2 * threshold, 0.0, 2 * threshold]))
        assert levels.gaussian_cosine() == pytest.approx(ternary_cosine(threshold))
    assert ternary_cosine(0.612) == pytest.approx(0.89990, abs=1e-5)
    assert ternary_cosine(0.612) > max(ternary_cosine(0.60), ternary_cosine(0.625))


def test_many_levels_leave_what_noise_at_right_angles_leaves():
    step = 0.05
    levels = Levels(np.arange(-200, 201) * step)
    assert 1 - levels.gaussian_cosine() == pytest.approx(1 - right_triangle(step), rel=1e-3)


def test_bounds_at_worked_values():
    assert gaussian_bound(2, 10**6) == pytest.approx(0.7250, abs=5e-5)
    assert gaussian_bound(8, 10**6) == pytest.approx(0.9941, abs=5e-5)
    assert largest_bound(1, math.sqrt(12), 1.0) == pytest.approx(2 / 3)
