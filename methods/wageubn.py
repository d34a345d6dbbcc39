"""WAGEUBN, full 8-bit integer training: Yang, Deng, Wu, Yan, Xie, Li 2020, arXiv:1909.02384."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt, Interval, MultipleOf

from qbench import (
    BatchNorm,
    Bits,
    Direct,
    DirectNorm,
    Flag,
    Fraction,
    QuantizedMomentum,
    Recipe,
    Shift,
    Update,
    method,
)

FLOAT_BITS = 32

SignedBits = Annotated[int, Interval(ge=2, le=16)] | Literal[32]
"""Widths of a grid inside (-1, 1), which has no value but 0 in one bit."""

CODE_RATES = ((0.0, 1.0), (0.3, 0.12), (0.6, 0.06), (0.8, 0.03))
"""What the authors' code multiplies the rate by from these shares of its 100 epochs on (its comment says 0.1 each)."""

CODE_LEVELS = ((0.0, 128), (0.6, 32), (0.8, 8), (0.9, 2))
"""dr in the code, g_scale there; 2 leaves ternary gradients."""


@method(
    "wageubn",
    paper="arXiv:1909.02384",
    null={"bits": 32, "error": "float", "norm": "batch", "update": "suite", "first_last": "float"},
    presets={
        "full8": {
            "bits": 8, "error": "flag8", "branch_error_clip": "one", "norm": "direct", "normalised_bits": 8,
            "update": "quantized", "lr": 0.05, "momentum": 0.25, "schedule": "code", "dr": "code", "trunk_bits": 32,
            "first_last": "float",
        },
        "e2_16": {
            "bits": 8, "error": "sq16", "branch_error_clip": "inside", "norm": "direct", "normalised_bits": 16,
            "update": "quantized", "lr": 0.05, "momentum": 0.25, "schedule": "code", "dr": "code", "trunk_bits": 32,
            "first_last": "float",
        },
    },
    deviations=(
        "running statistics move by 0.1 per step, in the presets too, instead of 0.003, which needs thousands of steps",
        "stored weights are clipped to the 24-bit grid's range (-1, 1)",
        "residual blocks with the norm behind the convolution, where the authors have it in front; a shortcut that "
        "changes the shape has a norm of its own",
        "the accumulator is rounded in front of each step and the update is exact; the code leaves their order open",
        "the suite's initial weights, rounded to 16 bits as the authors' are, and its weight decay; its schedule too "
        "unless a preset or option says otherwise",
    ),
)  # fmt: skip
def wageubn(
    *,
    bits: SignedBits = 8,
    error: Literal["flag8", "sq16", "float"] = "flag8",
    branch_error_clip: Literal["inside", "one"] = "inside",
    norm: Literal["direct", "batch"] = "direct",
    normalised_bits: Bits = 8,
    activation_limit: Annotated[float, Gt(0)] | None = None,
    update: Literal["quantized", "suite"] = "quantized",
    lr: Annotated[float, Gt(0)] = 0.05,
    momentum: Annotated[float, Interval(ge=0.0, lt=1.0), MultipleOf(0.25)] = 0.25,
    schedule: Literal["suite", "code"] = "suite",
    dr: Literal["code", "constant"] = "code",
    trunk_bits: SignedBits = 32,
    running_weight: Fraction = 0.1,
    first_last: Literal["float", "quantized"] = "float",
) -> Recipe:
    """Weights, activations, gradients, errors, updates and batch norm all on power-of-two grids.

    bits: of weights, activations, E1, gamma and beta (32: float). error: E2, the gradient at a convolution's output:
    ``flag8``, plain 16-bit shift or float. branch_error_clip: E1 clipped at 1 - 2^(1-bits) (paper) or 1 (code).
    norm: WAGEUBN's batch norm or the model's own. normalised_bits: of the normalised value. activation_limit: clip
    activations; None as in the code, whose grid fixes the step and not the width. update: the quantised momentum or
    the suite's optimiser. lr: of the quantised update, before the suite's schedule. momentum: a multiple of 1/4.
    schedule: of the rate, the suite's or the code's five intervals. dr: of the gradient's constant quantiser, falling
    as in the code or 128 throughout. trunk_bits: of the residual stream, on the activations' grid (32: float, as in
    the code; 16 bits clip at 256). running_weight: of the new value in running statistics. first_last: the first and
    last layer, float in the code.
    """
    weight_limit = 1 - 2.0 ** (1 - bits)
    low = bits < FLOAT_BITS
    return Recipe(
        weight=Direct(bits, weight_limit) if low else None,
        activation=Direct(bits, activation_limit) if low else None,
        error={"flag8": Flag(8), "sq16": Shift(16), "float": None}[error],
        branch_error=Shift(bits, branch_error_clip) if low else None,
        norm=_norm(bits, normalised_bits, running_weight) if norm == "direct" else BatchNorm(),
        trunk=Direct(bits, (2.0 ** (trunk_bits - 1) - 1) * 2.0 ** (1 - bits))
        if low and trunk_bits < FLOAT_BITS
        else None,
        update=_update(lr, momentum, schedule, dr) if update == "quantized" else Update(),
        first_layer=first_last,
        last_layer=first_last,
    )


def _norm(bits: int, normalised_bits: int, running_weight: float) -> DirectNorm:
    def grid(width: int) -> Direct | None:
        return Direct(width) if width < FLOAT_BITS else None

    return DirectNorm(grid(16), grid(16), grid(normalised_bits), grid(bits), momentum=running_weight)


def _update(lr: float, momentum: float, schedule: str, dr: str) -> QuantizedMomentum:
    rates = CODE_RATES if schedule == "code" else ()
    return QuantizedMomentum(lr, momentum, rates=rates, levels=CODE_LEVELS if dr == "code" else CODE_LEVELS[:1])
