"""Low-precision batch-normalised activations: Graham 2017, arXiv:1702.08231."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Interval

from qbench import LevelNorm, Levels, Recipe, method


@method(
    "graham",
    paper="arXiv:1702.08231",
    null={"bits": 32},
    deviations=(
        "the paper's level sets could not be read; the grid is an option and the report says which was used",
        "codes of 5 to 7 bits are kept in a byte each; narrower ones are packed",
        "the activation of the first layer is quantised like all others; the published results leave it float",
    ),
)
def graham(
    *,
    bits: Annotated[int, Interval(ge=1, le=8)] | Literal[32] = 4,
    grid: Literal["uniform", "equal_area", "lloyd_max", "log"] = "uniform",
    saturate: bool = False,
    energy_correction: bool = False,
) -> Recipe:
    """Activations quantised inside batch norm, between normalisation and affine; float weights.

    bits: of the stored code (32: not quantised). grid: the fixed levels for a unit-variance input.
    saturate: stop the gradient where the normalised value was clipped. energy_correction: divide the third term of
    the backward by the mean of q^2.
    """
    return Recipe(norm=LevelNorm(None if bits == 32 else Levels(bits, grid), saturate, energy_correction))
