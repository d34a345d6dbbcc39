"""Level sets for a unit-variance normal input, for quantising inside batch norm (Graham 2017).

The paper's own level sets are not known to us; these are the four natural candidates. All tables are computed in
float64 and kept in float32.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from qbench.quant.formats import Levels

CPU = torch.device("cpu")
"""Where tables are computed. They are kept on every device that asks (a copy within a training step would make the host
wait), and beyond the inference mode of whoever asks first."""


@cache
@torch.inference_mode(False)
def level_table(spec: Levels, device: torch.device = CPU) -> Tensor:
    """The 2^bits values of a grid, ascending, symmetric about 0. float32 [2^bits]."""
    if device != CPU:
        return level_table(spec).to(device)
    positive = _POSITIVE[spec.grid](2 ** (spec.bits - 1))
    return torch.cat([-positive.flip(0), positive]).float()


@cache
@torch.inference_mode(False)
def decision_points(spec: Levels, device: torch.device = CPU) -> Tensor:
    """Thresholds between the levels: midpoints (nearest level), or equal-probability cuts. float32 [2^bits - 1].

    A value equal to a threshold goes to the lower level.
    """
    if device != CPU:
        return decision_points(spec).to(device)
    if spec.grid == "equal_area":
        count = 2**spec.bits
        return _quantile(torch.arange(1, count, dtype=torch.float64) / count).float()
    table = level_table(spec).double()
    return ((table[1:] + table[:-1]) / 2).float()


def _quantile(p: Tensor) -> Tensor:
    return torch.mul(torch.special.erfinv(2 * p - 1), math.sqrt(2))


def _density(x: Tensor) -> Tensor:
    return torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _centroids(cuts: Tensor) -> Tensor:
    """E[x | cuts_i < x < cuts_i+1] for a standard normal x; the last cut may be infinite."""
    mass = torch.special.ndtr(-cuts[:-1]) - torch.special.ndtr(-cuts[1:])
    return torch.div(_density(cuts[:-1]) - _density(cuts[1:]), mass)


def _mean_square_error(levels: Tensor) -> float:
    """E[(x - Q(x))^2] for a standard normal x and the symmetric grid with these positive levels."""
    cuts = torch.cat([levels.new_zeros(1), (levels[1:] + levels[:-1]) / 2, levels.new_full((1,), 40.0)])
    upper = torch.special.ndtr(-cuts)
    mass, first = upper[:-1] - upper[1:], _density(cuts[:-1]) - _density(cuts[1:])
    return float(1 - 2 * (2 * levels * first - levels**2 * mass).sum())


def _uniform(count: int) -> Tensor:
    """Mid-rise levels step * (i + 1/2) with the step of least mean square error (golden-section search)."""
    places = torch.arange(count, dtype=torch.float64) + 0.5
    low, high = 1e-4, 3.0
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-9:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _mean_square_error(places * left) < _mean_square_error(places * right):
            high = right
        else:
            low = left
    return places * ((low + high) / 2)


def _equal_area(count: int) -> Tensor:
    """Centroids of 2 * count intervals of equal probability."""
    cuts = _quantile(0.5 + torch.arange(count, dtype=torch.float64) / (2 * count))
    return _centroids(torch.cat([cuts, cuts.new_full((1,), 40.0)]))


def _lloyd_max(count: int) -> Tensor:
    """The grid of least mean square error: each level the centroid of its cell (Lloyd's iteration).

    Started from the asymptotic density, proportional to the cube root of the normal density, so that few
    iterations are left even for 256 levels.
    """
    levels = math.sqrt(3) * _quantile(0.5 + (torch.arange(count, dtype=torch.float64) + 0.5) / (2 * count))
    for _ in range(5_000):
        middle = (levels[1:] + levels[:-1]) / 2
        better = _centroids(torch.cat([levels.new_zeros(1), middle, levels.new_full((1,), 40.0)]))
        if float((better - levels).abs().max()) < 1e-8:  # below float32 resolution of the levels
            return better
        levels = better
    return levels


def _log(count: int) -> Tensor:
    """Powers of two 2^top, 2^(top-1), ... with the top exponent of least mean square error."""
    falling = torch.arange(count - 1, -1, -1, dtype=torch.float64)
    grids = [2.0 ** (top - falling) for top in range(-2, 4)]
    return min(grids, key=_mean_square_error)


_POSITIVE = {"uniform": _uniform, "equal_area": _equal_area, "lloyd_max": _lloyd_max, "log": _log}
