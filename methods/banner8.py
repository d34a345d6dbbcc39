"""Scalable 8-bit training: Banner, Hubara, Hoffer, Soudry 2018, arXiv:1805.11046."""

from __future__ import annotations

from typing import Literal

from qbench import Affine, BatchNorm, Bits, Float, PositiveInt, Quantizer, RangeNorm, Recipe, Symmetric, method

FLOAT_BITS = 32
Scheme = Literal["zero_point", "min_offset"]
Rounds = Literal["nearest", "stochastic"]


@method(
    "banner8",
    paper="arXiv:1805.11046",
    null={"bits": 32, "error_bits": 32, "wgrad_error": "fp32", "norm": "batch", "norm_error": False},
    presets={
        "paper": {
            "wgrad_error": "int16", "activation_rounding": "nearest", "scheme": "zero_point", "constant": "paper",
            "chunks": 1, "norm_error": False,
        },
        "code": {
            "wgrad_error": "fp32", "activation_rounding": "stochastic", "scheme": "min_offset", "constant": "code",
            "chunks": 16, "norm_error": True, "running_weight": 0.9,
        },
    },
    deviations=(
        "the integer zero point is clipped to 2^bits - 1, not 2^bits, so that real zero is always a code",
        "activation ranges are measured per batch and tracked for inference; the paper takes them from Range BN",
    ),
)  # fmt: skip
def banner8(
    *,
    bits: Bits = 8,
    error_bits: Bits = 8,
    wgrad_error: Literal["int16", "fp16", "fp32", "error"] = "int16",
    activation_rounding: Rounds = "nearest",
    scheme: Scheme = "zero_point",
    weight_axis: Literal["tensor", "channel"] = "tensor",
    norm: Literal["range", "batch"] = "range",
    constant: Literal["paper", "code", "exact"] = "code",
    chunks: PositiveInt = 16,
    tie: Literal["one", "split", "all"] = "one",
    norm_error: bool = True,
    running_weight: float = 0.1,
) -> Recipe:
    """Range batch norm, 8-bit weights, activations and layer gradients, a wider gradient for the weight gradient.

    bits: of weights and activations. error_bits: of the layer gradients. wgrad_error: the gradient operand of the
    weight gradient (``error``: no bifurcation). scheme: the affine quantiser of the paper or of the authors' code;
    activation_rounding: stochastic in the code, by an argument slip. weight_axis: one scale per tensor or per channel.
    norm: Range batch norm or the model's own.
    norm_error: quantise the gradient at the norm's output too, as the code does. constant, chunks, tie: see RangeNorm.
    running_weight: of the new value in running statistics (0.9 in the authors' code). 32 bits mean float.
    """
    wide: dict[str, Quantizer | Literal["error"] | None] = {
        "int16": Symmetric(16), "fp16": Float("float16"), "fp32": None, "error": "error"
    }  # fmt: skip
    error = _affine(error_bits, "stochastic", scheme)
    return Recipe(
        weight=_affine(bits, "nearest", scheme, granularity=weight_axis),
        activation=_affine(bits, activation_rounding, scheme, tracked=True),
        error=error,
        wgrad_error=wide[wgrad_error],
        norm_error=error if norm_error else None,
        norm=RangeNorm(constant, chunks, tie, running_weight) if norm == "range" else BatchNorm(),
    )


def _affine(
    bits: int,
    rounding: Rounds,
    scheme: Scheme,
    *,
    granularity: Literal["tensor", "channel"] = "tensor",
    tracked: bool = False,
) -> Affine | None:
    if bits == FLOAT_BITS:
        return None
    return Affine(bits, rounding, scheme, granularity, tracked=tracked)
