"""Scalable 8-bit training: Banner, Hubara, Hoffer, Soudry 2018, arXiv:1805.11046."""

from __future__ import annotations

from typing import Literal

from qbench import (
    Affine,
    BatchNorm,
    Bits,
    Float,
    Fraction,
    PositiveInt,
    Quantizer,
    RangeNorm,
    Recipe,
    Symmetric,
    method,
)

FLOAT_BITS = 32
Scheme = Literal["zero_point", "min_offset"]
Rounds = Literal["nearest", "stochastic"]


@method(
    "banner8",
    paper="arXiv:1805.11046",
    null={"bits": 32, "error_bits": 32, "wgrad_error": "fp32", "norm": "batch", "norm_error": False},
    presets={
        "paper": {
            "bits": 8, "error_bits": 8, "wgrad_error": "int16", "activation_rounding": "nearest",
            "activation_range": "minmax", "scheme": "zero_point", "weight_axis": "tensor", "vectors": False,
            "norm": "range", "constant": "paper", "chunks": 1, "norm_input": True, "norm_error": False,
        },
        "code": {
            "bits": 8, "error_bits": 8, "wgrad_error": "fp32", "activation_rounding": "stochastic",
            "activation_range": "mean_minmax", "scheme": "min_offset", "weight_axis": "tensor", "vectors": True,
            "norm": "range", "constant": "code", "chunks": 16, "tie": "one", "norm_input": True, "norm_error": True,
            "running_weight": 0.9,
        },
    },
    deviations=(
        "the weight gradient's error is the float of section 4 and the code by default, not the paper's other 16 bits",
        "ranges are widened to hold 0, and the integer zero point is clipped to 2^bits - 1, not 2^bits, so that real "
        "zero is always a code",
        "activation ranges are measured per batch and tracked for inference; the paper takes them from Range BN",
        "the paper's batch norm is 8-bit without a word on which of its tensors: preset paper rounds its input alone",
        "a step too small for a float32 quotient becomes 1; the code's floor of 1e-8 leaves small gradients few levels",
        "running statistics average the norm's scale and start at 1; the code averages its reciprocal, from 0",
        "evaluation rounds to nearest; in the code activations are rounded at random there too",
        "the suite's initial weights, loss, schedule and weight decay",
    ),
)  # fmt: skip
def banner8(
    *,
    bits: Bits = 8,
    error_bits: Bits = 8,
    wgrad_error: Literal["line", "int16", "fp16", "fp32", "error"] = "line",
    activation_rounding: Rounds = "nearest",
    activation_range: Literal["minmax", "mean_minmax"] = "minmax",
    scheme: Scheme = "zero_point",
    weight_axis: Literal["tensor", "channel"] = "tensor",
    vectors: bool = False,
    norm: Literal["range", "batch"] = "range",
    constant: Literal["paper", "code", "exact"] = "code",
    chunks: PositiveInt = 16,
    tie: Literal["one", "split", "all"] = "one",
    norm_input: bool = True,
    norm_error: bool = True,
    running_weight: Fraction = 0.1,
) -> Recipe:
    """Range batch norm, 8-bit weights, activations and layer gradients, a wider gradient for the weight gradient.

    bits: of weights and activations. error_bits: of the layer gradients. wgrad_error: the gradient operand of
    the weight gradient (``error``: no bifurcation). ``line`` is fp32 behind a quantised Range norm, where that
    gradient is a line of the 8-bit codes at the norm's output and is multiplied as such, and int16 elsewhere.
    scheme: the affine quantiser of the paper or of the authors' code; activation_rounding: stochastic in the
    code, by an argument slip. activation_range: extremes of the batch, or the mean of its samples' extremes as
    in the code. weight_axis: one scale per tensor or per channel. vectors: biases, gamma, beta and the norm's
    scale in ``bits`` too, as in the code. norm: Range batch norm or the model's own. norm_input, norm_error:
    quantise the norm's input, and the gradient at its output, too, as the code does. constant, chunks, tie: see
    RangeNorm. running_weight: of the new value in running statistics (0.9 in the code). 32 bits mean float.
    """
    wide: dict[str, Quantizer | Literal["error"] | None] = {
        "line": Symmetric(16), "int16": Symmetric(16), "fp16": Float("float16"), "fp32": None, "error": "error"
    }  # fmt: skip
    activation = _affine(bits, activation_rounding, scheme, measured=activation_range, tracked=True)
    error = _affine(error_bits, "stochastic", scheme)
    vector = _affine(bits, "nearest", scheme) if vectors else None
    range_norm = RangeNorm(
        constant, chunks, tie, running_weight, input=activation if norm_input else None, scale=vector, affine=vector
    )
    return Recipe(
        weight=_affine(bits, "nearest", scheme, granularity=weight_axis),
        activation=activation,
        bias=vector,
        error=error,
        wgrad_error=wide[wgrad_error],
        wgrad_line=wgrad_error == "line",
        norm_error=error if norm_error else None,
        norm=range_norm if norm == "range" else BatchNorm(),
    )


def _affine(
    bits: int,
    rounding: Rounds,
    scheme: Scheme,
    *,
    granularity: Literal["tensor", "channel"] = "tensor",
    measured: Literal["minmax", "mean_minmax"] = "minmax",
    tracked: bool = False,
) -> Affine | None:
    if bits == FLOAT_BITS:
        return None
    return Affine(bits, rounding, scheme, granularity, measured, tracked=tracked)
