"""Exact laws against what follows from the definition of rounding, and against figures worked out independently."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from scipy.sparse import csr_array

from qbench.theory import chains
from qbench.theory.chains import binaryconnect, expected, probability, small_step_law, stochastic_rounding
from qbench.theory.landscape import BEST, SPACING, objective, slope


def settled(chain: chains.Chain, steps: int = 100_000) -> np.ndarray:
    return chain.after(chain.start(0.0), steps)


def test_positive_part_of_a_gaussian():
    # E[max(0, z)] for the standard normal is 1 / sqrt(2 pi); far above 0 it is the mean, far below it is nothing.
    values = chains.positive_part(np.array([0.0, 30.0, -30.0]), 1.0)
    assert values == pytest.approx([0.3989422804, 30.0, 0.0], abs=1e-10)


@pytest.mark.parametrize(("step", "noise"), [(0.01, 1.0), (0.1, 5.0), (1.0, 5.0)])
def test_rounding_is_unbiased(step, noise):
    """The mean of the next weight is the mean of the float step, away from the ends of the grid."""
    chain = stochastic_rounding(slope, step, noise, SPACING, -64, 64)
    inside = np.abs(chain.points) < 10
    after = chain.forward.T @ chain.points
    assert after[inside] == pytest.approx((chain.points - step * slope(chain.points))[inside], abs=1e-9)


def test_rounding_saturates_at_the_ends():
    """On the grid -1, 0, 1 without a slope, against a sum over the float steps."""
    chain = stochastic_rounding(np.zeros_like, 1.0, 0.7, 1.0, -1, 1)
    steps = np.linspace(-7, 7, 100_001)
    share = np.exp(-((steps / 0.7) ** 2) / 2)
    share /= share.sum()
    for point, law in zip(chain.points, chain.forward.toarray().T, strict=True):
        low, high = share @ np.clip(-(point + steps), 0, 1), share @ np.clip(point + steps, 0, 1)
        assert law == pytest.approx([low, 1 - low - high, high], abs=1e-6)


@pytest.mark.parametrize("make", [stochastic_rounding, binaryconnect])
@pytest.mark.parametrize(("step", "noise"), [(0.01, 5.0), (0.3, 1.0)])
def test_probabilities_sum_to_one(make, step, noise):
    chain = make(slope, step, noise, SPACING, -20, 25)
    assert chain.forward.sum(axis=0) == pytest.approx(np.ones(len(chain.points)), abs=1e-12)
    assert chain.forward.data.min() >= 0


@pytest.mark.parametrize(("noise", "best", "mean"), [(1.0, 0.884, 0.312), (5.0, 0.452, 0.737)])
def test_limit_law_of_the_three_valleys(noise, best, mean):
    """Figures worked out independently, to their three digits."""
    grid = np.arange(-8.0, 14.0, SPACING)
    law = small_step_law(slope, noise, grid)
    assert probability(law, grid, BEST) == pytest.approx(best, abs=6e-4)
    assert expected(law, objective(grid)) == pytest.approx(mean, abs=6e-4)


def test_small_steps_of_the_chain_have_the_limit_law():
    """As long as steps stay below the spacing the law does not depend on the step size at all."""
    chain = stochastic_rounding(slope, 0.01, 5.0, SPACING, -8, 13.5)
    law = small_step_law(slope, 5.0, chain.points)
    assert np.abs(settled(chain) - law).sum() < 1e-9


@pytest.mark.parametrize("spacing", [1.0, 0.5, 0.25])
def test_floor_of_one_quadratic(spacing):
    """The mean loss is (spacing / 4) E|g| exactly where no step is longer than the spacing (at 0.02 and 0.25 that takes
    noise of twelve standard deviations): two computations that share nothing but the transition law."""

    def gradient(w: np.ndarray) -> np.ndarray:
        return w - 0.3

    chain = stochastic_rounding(gradient, 0.02, 1.0, spacing, -12, 12)
    law = settled(chain)
    away = chain.points - 0.3
    length = chains.positive_part(away, 1.0) + chains.positive_part(-away, 1.0)
    loss = expected(law, away**2 / 2)
    assert loss == pytest.approx(spacing / 4 * expected(law, length), rel=1e-8)
    if spacing == 0.5:
        assert loss == pytest.approx(0.11018, abs=5e-6)


def test_powers_and_steps_agree(monkeypatch):
    chain = stochastic_rounding(slope, 0.1, 5.0, SPACING, -12, 16)
    by_powers = chain.after(chain.start(0.0), 37), chain.average(chain.start(0.0), 37)
    monkeypatch.setattr(chains, "_DENSE", 0)
    by_steps = chain.after(chain.start(0.0), 37), chain.average(chain.start(0.0), 37)
    for a, b in zip(by_powers, by_steps, strict=True):
        assert a == pytest.approx(b, abs=1e-12)
        assert a.sum() == pytest.approx(1)


def test_average_is_the_mean_of_the_laws():
    chain = stochastic_rounding(slope, 0.1, 5.0, SPACING, -12, 16)
    laws = [chain.after(chain.start(0.0), t) for t in range(5)]
    assert chain.average(chain.start(0.0), 5) == pytest.approx(np.mean(laws, axis=0), abs=1e-12)


def test_a_settled_law_is_not_followed_any_further(monkeypatch):
    """The average over a long time is then the same as over as many steps as it takes."""
    monkeypatch.setattr(chains, "_DENSE", 0)
    chain = stochastic_rounding(slope, 0.3, 5.0, SPACING, -20, 25)
    law = settled(chain)
    assert chain.average(law, 10**9) == pytest.approx(law, abs=1e-10)


def test_finer_cells_hardly_change_binaryconnects_law(monkeypatch):
    """The allowance of the experiment, 3e-3, covers what cells of half the width change."""
    from qbench.theory.experiments.toy_landscape import _CELLS

    def figures() -> tuple[float, float]:
        chain = binaryconnect(slope, 0.03, 5.0, SPACING, -6, 11)
        law = chain.after(chain.start(0.0), 3000)
        return probability(law, chain.values, BEST), expected(law, objective(chain.values))

    coarse = figures()
    source = inspect.getsource(chains.binaryconnect).replace("deviation / 2", "deviation / 4")
    assert source.count("deviation / 4") == 1
    names = dict(vars(chains))
    exec(source, names)
    monkeypatch.setattr(f"{__name__}.binaryconnect", names["binaryconnect"])
    fine = figures()
    assert fine == pytest.approx(coarse, abs=_CELLS)
    assert fine != coarse


def test_binaryconnect_uses_the_rounded_weight():
    chain = binaryconnect(slope, 0.1, 5.0, SPACING, -6, 11)
    assert np.abs(chain.points - chain.values).max() <= SPACING / 2
    assert np.all(chain.values % SPACING == 0)


def test_a_step_of_binaryconnect_has_the_variance_of_its_noise():
    chain = binaryconnect(lambda w: 0 * w, 1.0, 0.5, 0.5, -16, 16)
    law = chain.after(chain.start(0.0), 20)
    mean = expected(law, chain.points)
    assert expected(law, (chain.points - mean) ** 2) == pytest.approx(20 * 0.5**2, rel=1e-6)


def test_the_average_of_a_long_chain_that_has_settled_is_a_law():
    points = np.arange(500.0)
    chain = chains.Chain(points, points, csr_array(np.eye(500)))
    assert chain.average(chain.start(7.0), 10).sum() == pytest.approx(1.0)
