"""WAGE's layer scale (Wu, Li, Chen, Shi 2018, section 3.3.1): a constant power of two in place of batch norm."""

from __future__ import annotations

import math

from torch import Tensor, nn

from qbench.nn.layers import QuantizedLayer
from qbench.recipe import LayerScale


def weight_limit(weight: Tensor, numerator: float) -> float:
    """sqrt(numerator / fan-in): the limit of a uniform distribution that keeps a signal's variance through the layer.

    weight: [K, C, R, S] or [K, C]; the fan-in is what one output sums over.
    """
    return math.sqrt(numerator / weight[0].numel())


def layer_scale(weight: Tensor, spec: LayerScale) -> float:
    """alpha = max(2^round(log2(smallest / limit)), 1): how much larger than ``limit`` the low-precision weights start,
    as a power of two; 1 where ``smallest`` is 0."""
    ratio = spec.smallest / weight_limit(weight, spec.numerator)
    return 2.0 ** round(math.log2(ratio)) if ratio > 1 else 1.0


class LayerScaling(nn.Module):
    """y = x / alpha: exact, because alpha is a power of two."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape, float32."""
        return x * (1 / self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}"


class ScaledLayer(QuantizedLayer):
    """A layer that no norm follows, its output divided by its layer scale."""

    alpha: float = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """x -> (product with the weight, plus the bias) / alpha."""
        return super().forward(x) * (1 / self.alpha)
