"""Exact laws of SGD with rounding in one dimension under Gaussian gradient noise, computed without any simulation.

SR on a grid is a Markov chain whose transition probabilities have a closed form. BinaryConnect's float copy is a chain
on the line; its density is followed on cells no wider than its steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr

Array = NDArray[np.float64]
Slope = Callable[[Array], Array]

_SETTLED = 1e-13
"""A law that moves by less than this in a step moves no more: rounding errors are as large."""

_NEGLIGIBLE = 1e-40
"""Probabilities below this are dropped: numbers too small for full precision make a processor many times slower."""

_REACH = 8.0
"""Standard deviations of a step that are followed."""

_DENSE = 400
"""Up to this many states powers of the whole matrix are quicker than steps."""


@dataclass(frozen=True)
class Chain:
    """points: of the line that states stand for. values: the weight that the network uses in each state. forward: the
    matrix that takes a law (a column) one step further."""

    points: Array
    values: Array
    forward: csr_array

    def start(self, at: float) -> Array:
        """The law that is in the state nearest to ``at``."""
        law = np.zeros(len(self.points))
        law[np.argmin(np.abs(self.points - at))] = 1.0
        return law

    def after(self, law: Array, steps: int) -> Array:
        """The law ``steps`` steps later."""
        return self._run(law, steps)[0]

    def average(self, law: Array, steps: int) -> Array:
        """The mean of the laws at ``steps`` consecutive times, the first of which is ``law``."""
        return self._run(law, steps)[1] / steps

    def _run(self, law: Array, steps: int) -> tuple[Array, Array]:
        """The law ``steps`` steps later, and the sum of the ``steps`` laws until then."""
        if len(self.points) <= _DENSE:
            return _doubled(np.asarray(self.forward.toarray(), np.float64), law, steps)
        total = np.zeros_like(law)
        for done in range(steps):
            total += law
            later = self.forward @ law
            later *= later > _NEGLIGIBLE
            if np.abs(later - law).sum() < _SETTLED:
                return later, total + (steps - done - 1) * later
            law = later
        return law, total


def _doubled(power: Array, law: Array, steps: int) -> tuple[Array, Array]:
    """As ``Chain._run``, by squaring: with P^n and S_n = 1 + P + ... + P^(n-1), S_2n = S_n + P^n S_n."""
    total = np.zeros_like(law)
    partial = np.eye(len(law))
    while steps:
        if steps % 2:
            total += partial @ law
            law = power @ law
        steps //= 2
        if steps:
            partial = partial + power @ partial
            power = power @ power
    return law, total


def stochastic_rounding(slope: Slope, step: float, noise: float, spacing: float, low: float, high: float) -> Chain:
    """SR: w <- Q(w - step * (slope(w) + noise * N(0, 1))) on the grid from ``low`` to ``high``, where it saturates.

    A value y is rounded to the grid point k with probability max(0, 1 - |y - k| / spacing), so the transition
    probability is the mean of that hat over a Gaussian y.
    """
    grid: Array = np.arange(round(low / spacing), round(high / spacing) + 1, dtype=np.float64) * spacing
    mean = (grid - step * slope(grid))[:, None] - grid[None, :]
    m, s = mean / spacing, step * noise / spacing
    matrix = positive_part(m + 1, s) - 2 * positive_part(m, s) + positive_part(m - 1, s)
    matrix[:, 0] = positive_part(1 - m[:, 0], s) - positive_part(-m[:, 0], s)
    matrix[:, -1] = positive_part(m[:, -1] + 1, s) - positive_part(m[:, -1], s)
    # What is left of a difference of large numbers is no probability.
    matrix = np.where(matrix > 1e-15, matrix, 0.0)
    return Chain(grid, grid, csr_array((matrix / matrix.sum(1, keepdims=True)).T))


def binaryconnect(slope: Slope, step: float, noise: float, spacing: float, low: float, high: float) -> Chain:
    """BinaryConnect with nearest rounding: w <- w - step * (slope(Q(w)) + noise * N(0, 1)), w in [low, high].

    Cells are at most half as wide as a step's standard deviation; that a weight may be anywhere in its cell adds
    width^2 / 12 to each step's variance, which is taken off again. Decision points of Q are edges of cells.
    """
    deviation = step * noise
    per_half = math.ceil(spacing / 2 / min(deviation / 2, spacing / 8))
    width = spacing / 2 / per_half
    points: Array = (np.arange(round(low / width), round(high / width), dtype=np.float64) + 0.5) * width
    values = np.floor(points / spacing + 0.5) * spacing
    sharpened = math.sqrt(deviation**2 - width**2 / 12)
    mean = points - step * slope(values)
    reach = math.ceil(_REACH * sharpened / width) + 1
    nearest = np.floor((mean - points[0]) / width + 0.5).astype(np.int64)
    columns = nearest[:, None] + np.arange(-reach, reach + 1)
    edges = points[0] + (columns - 0.5) * width
    below = ndtr((np.append(edges, edges[:, -1:] + width, axis=1) - mean[:, None]) / sharpened)
    mass = np.diff(below, axis=1)
    columns = np.clip(columns, 0, len(points) - 1)
    rows = np.broadcast_to(np.arange(len(points))[:, None], columns.shape)
    matrix = csr_array((mass.ravel(), (rows.ravel(), columns.ravel())), shape=(len(points), len(points)))
    return Chain(points, values, csr_array(matrix.T / matrix.sum(axis=1)))


def small_step_law(slope: Slope, noise: float, grid: Array) -> Array:
    """The law that SR's chain tends to as the step size goes to 0, from detailed balance:

    pi(x) * E[(-g(x))_+] = pi(x + spacing) * E[(g(x + spacing))_+]; the step size cancels.
    """
    up, down = positive_part(-slope(grid), noise), positive_part(slope(grid), noise)
    logarithm = np.concatenate([[0.0], np.cumsum(np.log(up[:-1]) - np.log(down[1:]))])
    law = np.exp(logarithm - logarithm.max())
    return np.asarray(law / law.sum())


def positive_part(mean: Array, deviation: float) -> Array:
    """E[max(0, z)] for z ~ N(mean, deviation^2)."""
    z = mean / deviation
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return np.asarray(deviation * density + mean * ndtr(z))


def expected(law: Array, values: Array) -> float:
    """The mean of ``values`` under ``law``."""
    return float(law @ values)


def probability(law: Array, values: Array, of: Sequence[float]) -> float:
    """The probability that ``values`` is one of ``of``."""
    return float(law[np.isin(values, of)].sum())
