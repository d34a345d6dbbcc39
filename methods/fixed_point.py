"""Fixed point with stochastic rounding: Gupta, Agrawal, Gopalakrishnan, Narayanan 2015, arXiv:1502.02551."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Interval

from qbench import BatchNorm, BatchRenorm, FixedPoint, InputError, LayerScale, Norm, OnGrid, Recipe, method

IntegerBits = Annotated[int, Interval(ge=1, le=8)]
FractionBits = Annotated[int, Interval(ge=0, le=15)]
LONGEST_WORD = 16
NORMS: dict[str, Norm] = {"batch": BatchNorm(), "renorm": BatchRenorm(), "none": LayerScale(smallest=0.0)}


@method(
    "fixed_point",
    paper="arXiv:1502.02551",
    null={"rounding": "none"},
    deviations=(
        "the models have batch norm, which the authors' nets do not: what enters it, the activation behind it, its "
        "parameters and the gradients on both sides are in fixed point, what it computes in between is float",
        "the residual stream's gradient is rounded where branches add to it and where norms take it, not as a sum; "
        "average pooling is float",
        "gradients of biases and of the norms' parameters, and the optimiser's momentum, are float; the parameters "
        "themselves are rounded after each step",
        "evaluation rounds to nearest",
    ),
)
def fixed_point(
    *,
    rounding: Literal["stochastic", "nearest", "none"] = "stochastic",
    integer_bits: IntegerBits = 2,
    fraction_bits: FractionBits = 14,
    output_integer_bits: IntegerBits = 6,
    output_fraction_bits: FractionBits = 10,
    norm: Literal["batch", "renorm", "none"] = "batch",
) -> Recipe:
    """Weights, biases, outputs, errors, gradients and updates all in fixed point of at most 16 bits.

    rounding: of every conversion; ``none`` is float. integer_bits (the sign among them), fraction_bits: of parameters,
    errors, gradients and updates. output_integer_bits, output_fraction_bits: of what a layer computes, rounded once
    behind the whole sum, and of activations. norm: the model's own, batch renormalisation with its paper's schedule, or
    none, as in the authors' nets.
    """
    if rounding == "none":
        return Recipe()
    for length in (integer_bits + fraction_bits, output_integer_bits + output_fraction_bits):
        if length > LONGEST_WORD:
            raise InputError(f"integer and fraction bits make words of at most {LONGEST_WORD} bits, not {length}")
    signal = FixedPoint(integer_bits, fraction_bits, rounding)
    output = FixedPoint(output_integer_bits, output_fraction_bits, rounding)
    return Recipe(
        weight=FixedPoint(integer_bits, fraction_bits),
        activation=output,
        output=output,
        trunk=output,
        error=signal,
        branch_error=signal,
        norm_error=signal,
        gradient=signal,
        norm=NORMS[norm],
        update=OnGrid(signal, others=signal),
    )
