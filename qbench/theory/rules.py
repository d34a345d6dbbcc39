"""Update rules on plain tensors, with the kernels that train networks: float SGD, R and SR, BinaryConnect.

Weights lie on a grid of ``spacing`` (a power of two, broadcastable to the weights), so that many problems with
different grids are one tensor. Inside, everything is counted in units of the spacing, which is exact.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from qbench.kernels.random import Key
from qbench.kernels.updates import sgd_on_grid_
from qbench.nn.clock import tensor_id
from qbench.optim.on_grid import grid_of
from qbench.quant.formats import FixedPoint, Rounding
from qbench.quant.quantize import quantize

INTEGER_BITS = 12
"""The grid has 2^12 points around 0: far more than the weights need, so that nothing saturates."""


class Rule(Protocol):
    """A rule that moves weights."""

    def point(self) -> Tensor:
        """The weights at which the gradient is taken, float32."""

    def move(self, amount: Tensor) -> None:
        """One update: subtract ``amount`` (step size times gradient at :meth:`point`)."""


class FloatSGD:
    """w <- w - amount, in float32."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights.clone()

    def point(self) -> Tensor:
        """The weights."""
        return self.weights

    def move(self, amount: Tensor) -> None:
        """One update."""
        self.weights -= amount


class OnGrid:
    """w <- Q(w - amount), no float copy: R for ``nearest``, SR for ``stochastic``. name: gives the random bits."""

    def __init__(self, weights: Tensor, spacing: Tensor, rounding: Rounding, seed: int, name: str) -> None:
        spec = FixedPoint(INTEGER_BITS, 0, rounding)
        start = quantize(weights / spacing, FixedPoint(INTEGER_BITS, 0), Key(0, 0, 0))
        self.codes = start.codes
        self._spacing = spacing
        self._grid = grid_of(spec)
        self._key = (seed, tensor_id(name)) if spec.is_stochastic else None
        self._steps = 0

    def point(self) -> Tensor:
        """The weights."""
        return self.codes * self._spacing

    def move(self, amount: Tensor) -> None:
        """One update."""
        grid = self._grid
        key = Key(*self._key, self._steps) if self._key else None
        sgd_on_grid_(
            self.codes, amount / self._spacing, None, 1.0, 0.0, 0.0, False, False,
            grid.scale, grid.low, grid.high, grid.rounding, key,
        )  # fmt: skip
        self._steps += 1


class BinaryConnect:
    """wr <- wr - amount, with the gradient taken at Q(wr) (called so for any grid, after Courbariaux et al. 2015)."""

    def __init__(self, weights: Tensor, spacing: Tensor, rounding: Rounding, seed: int, name: str) -> None:
        self.weights = weights.clone()
        self._spacing = spacing
        self._spec = FixedPoint(INTEGER_BITS, 0, rounding)
        self._key = (seed, tensor_id(name))
        self._steps = 0

    def point(self) -> Tensor:
        """Q(wr); for stochastic rounding drawn once per update."""
        rounded = quantize(self.weights / self._spacing, self._spec, Key(*self._key, self._steps))
        return rounded.dequantize() * self._spacing

    def move(self, amount: Tensor) -> None:
        """One update."""
        self.weights -= amount
        self._steps += 1
