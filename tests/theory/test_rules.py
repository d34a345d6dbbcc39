"""The update rules of the experiments against their definitions."""

from __future__ import annotations

import pytest
import torch

from qbench.theory.least_squares import LeastSquares, gradient
from qbench.theory.rules import BinaryConnect, FloatSGD, OnGrid

HALF = torch.tensor(0.5)


def test_stochastic_rounding_takes_the_step_on_average():
    weights, moves, amount = torch.zeros(40_000), 5, 0.07
    rule = OnGrid(weights, HALF, "stochastic", seed=1, name="t")
    for _ in range(moves):
        rule.move(torch.full_like(weights, amount))
    w = rule.point()
    assert set(w.unique().tolist()) <= {-1.5, -1.0, -0.5, 0.0, -2.0, -2.5}
    # A step of 0.07 moves by 0.5 with probability 0.14.
    error = 0.5 * (moves * 0.14 * 0.86 / len(weights)) ** 0.5
    assert w.mean().item() == pytest.approx(-moves * amount, abs=4 * error)


def test_rounding_to_nearest_loses_small_steps_and_takes_large_ones():
    rule = OnGrid(torch.tensor([0.0, 0.0, 1.0]), HALF, "nearest", seed=0, name="t")
    rule.move(torch.tensor([0.24, 0.26, -0.8]))
    assert rule.point().tolist() == [0.0, -0.5, 2.0]


def test_weights_start_on_the_grid():
    assert OnGrid(torch.tensor([0.3, -0.3]), HALF, "nearest", seed=0, name="t").point().tolist() == [0.5, -0.5]


def test_binaryconnect_keeps_the_float_copy():
    rule = BinaryConnect(torch.tensor([0.2]), HALF, "nearest", seed=0, name="t")
    assert rule.point().tolist() == [0.0]
    rule.move(torch.tensor([-0.1]))
    assert rule.weights.tolist() == pytest.approx([0.3])
    assert rule.point().tolist() == [0.5]


def test_binaryconnect_rounds_without_bias_and_alike_within_a_step():
    rule = BinaryConnect(torch.full((40_000,), 0.1), HALF, "stochastic", seed=0, name="t")
    first = rule.point()
    assert torch.equal(first, rule.point())
    assert first.mean().item() == pytest.approx(0.1, abs=4 * 0.5 * (0.2 * 0.8 / 40_000) ** 0.5)
    rule.move(torch.zeros(40_000))
    assert not torch.equal(first, rule.point())


def test_grids_of_different_spacing_in_one_tensor():
    spacing = torch.tensor([[1.0], [0.25]])
    rule = OnGrid(torch.full((2, 1), 0.6), spacing, "nearest", seed=0, name="t")
    assert rule.point().flatten().tolist() == [1.0, 0.5]


def test_float_sgd():
    rule = FloatSGD(torch.tensor([1.0]))
    rule.move(torch.tensor([0.25]))
    assert rule.point().tolist() == [0.75]


def test_the_gradient_vanishes_at_the_minimiser_and_matches_autograd():
    problem = LeastSquares(samples=60, dimensions=5, label_noise=1.0, seed=3)
    assert problem.excess(problem.best).item() == pytest.approx(0, abs=1e-12)
    rows, y = problem._a[None], problem._y[None]
    at_best = gradient(problem.best.float()[None, None], rows, y)
    assert at_best.abs().max().item() < 1e-5  # float32, over values of size 1
    w = torch.randn(1, 1, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = (problem._a @ w[0, 0] - problem._y).square().mean() / 2
    loss.backward()
    assert gradient(w.detach(), rows, y) == pytest.approx(w.grad, abs=1e-5)
    excess = loss.item() - (problem._a @ problem.best.float() - problem._y).square().mean().item() / 2
    assert problem.excess(w[0, 0].detach()).item() == pytest.approx(excess, abs=1e-5)
