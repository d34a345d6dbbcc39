"""Weights that live on a grid: rounding (R) and stochastic rounding (SR).

Li, De, Xu, Studer, Samet, Goldstein 2017, arXiv:1706.02379; fixed-point grids as in Gupta et al. 2015,
arXiv:1502.02551.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from annotated_types import Interval

from qbench import Binary, FixedPoint, OnGrid, PositiveInt, Recipe, method

Grid = Literal["binary", "fixed", "none"]
Layer = Literal["quantized", "float"]
IntegerBits = Annotated[int, Interval(ge=1, le=8)]
FractionBits = Annotated[int, Interval(ge=0, le=16)]


def _on_grid(
    grid: Grid,
    stochastic: bool,
    integer_bits: int,
    fraction_bits: int,
    batches: int,
    first_layer: Layer,
    last_layer: Layer,
) -> Recipe:
    if grid == "none":
        return Recipe()
    nearest = Binary() if grid == "binary" else FixedPoint(integer_bits, fraction_bits)
    return Recipe(
        weight=nearest,
        update=OnGrid(replace(nearest, rounding="stochastic") if stochastic else nearest, batches),
        first_layer=first_layer,
        last_layer=last_layer,
    )


@method("sr", paper="arXiv:1706.02379", null={"grid": "none"})
def sr(
    *,
    grid: Grid = "fixed",
    integer_bits: IntegerBits = 2,
    fraction_bits: FractionBits = 6,
    batches: PositiveInt = 1,
    first_layer: Layer = "quantized",
    last_layer: Layer = "quantized",
) -> Recipe:
    """Stochastic rounding: w <- Q_s(w - step), weights on the grid and nowhere else.

    grid: ``binary`` is {-1, +1}; ``fixed`` has integer_bits (the sign among them) and fraction_bits. batches: big-batch
    SR, one update of all parameters per so many batches with their mean gradient, whose smaller noise crosses fewer
    thresholds; norms keep the statistics of each batch.
    first_layer, last_layer: on the grid too, or float.
    """
    return _on_grid(grid, True, integer_bits, fraction_bits, batches, first_layer, last_layer)


@method("r", paper="arXiv:1706.02379", null={"grid": "none"})
def r(
    *,
    grid: Grid = "fixed",
    integer_bits: IntegerBits = 2,
    fraction_bits: FractionBits = 6,
    batches: PositiveInt = 1,
    first_layer: Layer = "quantized",
    last_layer: Layer = "quantized",
) -> Recipe:
    """Rounding to nearest: w <- Q_d(w - step); steps below half the grid spacing are lost.

    grid, integer_bits, fraction_bits, batches, first_layer, last_layer: as for ``sr``.
    """
    return _on_grid(grid, False, integer_bits, fraction_bits, batches, first_layer, last_layer)
