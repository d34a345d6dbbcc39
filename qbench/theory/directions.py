"""Cosines between a tensor and its quantised copy: measured, in closed form, and the bounds of Banner et al. 2018."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from qbench.kernels.random import Key
from qbench.quant.formats import Affine
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import quantize
from qbench.theory.findings import Estimate

Array = NDArray[np.float64]


def cosine(x: Tensor, q: Tensor) -> Estimate:
    """cos(x, q) of two tensors of one shape, with the standard error that it has as an estimate from independent
    elements (delta method). NaN where one of them is zero."""
    x, q = x.double().flatten(), q.double().flatten()
    xq, xx, qq = (x * q).mean(), (x * x).mean(), (q * q).mean()
    value = xq / (xx * qq).sqrt()
    influence = value * (x * q / xq - x * x / (2 * xx) - q * q / (2 * qq))
    return Estimate(float(value), float(influence.std() / math.sqrt(len(x))))


def magnitude_quantizer(x: Tensor, bits: int, largest: Tensor) -> QTensor:
    """Q(x) = D * (floor(x / D) + 1/2), D = largest / 2^bits: the quantiser of the paper's analysis (Eq. 9).

    2^(bits + 1) levels: ``bits`` does not count the sign. Values beyond +-largest take the outermost levels.
    """
    step = largest / 2**bits
    limits = torch.stack([step / 2 - largest, largest - step / 2])
    return quantize(x, Affine(bits + 1, scheme="min_offset"), Key(0, 0, 0), limits)


@dataclass(frozen=True)
class Levels:
    """The levels of a quantiser, ascending; a value takes the nearest one."""

    values: Array

    @classmethod
    def of(cls, q: QTensor, count: int) -> Levels:
        """The ``count`` levels behind codes that start at 0."""
        assert q.scale is not None
        zero = 0.0 if q.zero_point is None else float(q.zero_point)
        return cls((np.arange(count, dtype=np.float64) - zero) * float(q.scale))

    def gaussian_cosine(self) -> float:
        """cos(x, Q(x)) of infinitely many values x ~ N(0, 1): E[x Q] / sqrt(E[Q^2])."""
        edges = np.concatenate([[-np.inf], (self.values[1:] + self.values[:-1]) / 2, [np.inf]])
        density = np.exp(-0.5 * edges**2) / math.sqrt(2 * math.pi)
        mass, first = np.diff(ndtr(edges)), -np.diff(density)
        return float(self.values @ first / math.sqrt(self.values**2 @ mass))


def ternary_cosine(threshold: float) -> float:
    """cos between x ~ N(0, 1) and sign(x) * [|x| > threshold]."""
    return math.sqrt(2 / math.pi) * math.exp(-(threshold**2) / 2) / math.sqrt(math.erfc(threshold / math.sqrt(2)))


def largest_bound(bits: float, largest: float, deviation: float) -> float:
    """The bound for any distribution, given the largest magnitude (Eq. 11): 2^M s / (2^M s + max / sqrt(12))."""
    return 2**bits * deviation / (2**bits * deviation + largest / math.sqrt(12))


def gaussian_bound(bits: float, count: int) -> float:
    """The bound for Gaussian values (Eq. 12): 2^M / (2^M + sqrt(ln N) / sqrt(6))."""
    return 2**bits / (2**bits + math.sqrt(math.log(count) / 6))


def right_triangle(step: float) -> float:
    """1 / sqrt(1 + D^2 / 12), D the step in units of the vector's root mean square: rounding errors as noise at right
    angles to the vector, uniform within a step."""
    return 1 / math.sqrt(1 + step**2 / 12)


def gaussian_vector(count: int, seed: int) -> Tensor:
    """``count`` values of N(0, 1), float32."""
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))
