"""What a probe is, and what it is shown in an observed step. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from qbench.quant.qtensor import QTensor

Values = Mapping[str, "float | None"]
"""Quantity name to value; None where the quantity is not defined yet, NaN where the tensor has none."""

PATHS = {
    "weight": "W", "bias": "W", "stored": "W",
    "activation": "A", "output": "A", "trunk": "A",
    "error": "E", "wgrad_error": "E", "branch_error": "E", "norm_error": "E",
    "gradient": "G", "loss_gradient": "G",
    "update": "U",
}  # fmt: skip
"""The data path that each named tensor belongs to; all others are inside a normalisation (N)."""


DATA_PATHS = {
    "W": "weight", "A": "activation", "E": "error", "G": "gradient", "U": "update", "N": "norm",
}  # fmt: skip
"""The data paths in the order of a step, in words."""


def data_path(path: str) -> str:
    """W, A, E, G, U or N."""
    return PATHS.get(path, "N")


@dataclass(frozen=True)
class Quantity:
    """A number that a probe gives per layer, data path and epoch.

    unit: of the axis; empty for a pure number. low, high: the ends of the colour scale, None for those of the data.
    centre: where the colours turn, for a quantity that deviates to both sides. drawn: False where the pictures of
    another quantity show the same; it is recorded all the same.
    """

    name: str
    title: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    centre: float | None = None
    drawn: bool = True


@dataclass(frozen=True)
class Pair:
    """A tensor as training uses it beside the exact one, both of one shape.

    layer, path: as in the precision manifest. value, exact: float32 or float64. Three kinds:

    * the output of a quantiser and its input, which is computed from the quantised tensors before it: the error of
      this rounding alone. ``quantised`` is then the output as codes.
    * path ``loss_gradient``: the weight's gradient as the update gets it, and that of the same loss at the same stored
      weights and batch with every number format taken out of the network: all roundings of the step together.
    * path ``update``: the change of the stored weight, and the change that the rule makes without rounding or clipping.

    steps_off: how many grid steps each element lies from its nearest code (int64, of the same shape); None where it is
    always that one, or where no single rounding leads to the stored value.
    """

    layer: str
    path: str
    value: Tensor
    exact: Tensor
    quantised: QTensor | None = None
    steps_off: Callable[[], Tensor] | None = None


@dataclass(frozen=True)
class Weight:
    """A layer's weight at the end of an epoch.

    path: ``weight``, as the forward product takes it, rounded to nearest where training rounds at random; or
    ``stored``, as the update rule keeps it, where that is a finer grid. codes: integers, or the float values of a
    weight without a format. values: float32, of the same shape.
    """

    layer: str
    path: str
    codes: Tensor
    values: Tensor


@dataclass(frozen=True)
class WeightStep:
    """What one step does to a layer's weight.

    gradient: as the update gets it, float32. exact_gradient: see :class:`Pair`. wanted: the change that the rule makes
    without rounding or clipping, float64. stays: whether the stored value is the same after the step, bool.
    """

    layer: str
    gradient: Tensor
    exact_gradient: Tensor
    wanted: Tensor
    stays: Tensor


class Probe:
    """Measures something in observed steps; it may remember what it saw in earlier epochs.

    quantities: what the methods below return values of, all of them. A subclass overrides what it needs.
    """

    quantities: tuple[Quantity, ...]

    def begin(self, weight: Weight) -> None:
        """Shown every layer's weight before the first training step."""

    def pair(self, pair: Pair) -> Values:
        """Shown every quantised tensor, in the order in which the step makes them."""
        return {}

    def weight(self, weight: Weight) -> Values:
        """Shown every layer's weight, before the observed step changes it."""
        return {}

    def step(self, step: WeightStep) -> Values:
        """Shown what the observed step does to every layer's weight; recorded under path ``update``."""
        return {}
