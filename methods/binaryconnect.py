"""BinaryConnect: Courbariaux, Bengio, David 2015, arXiv:1511.00363."""

from __future__ import annotations

from typing import Literal

from qbench import Binary, ClippedMaster, Recipe, Update, method


@method(
    "binaryconnect",
    paper="arXiv:1511.00363",
    null={"rounding": "none"},
    deviations=(
        "the shared initial weights, scaled to the authors' spread, stand in for their uniform initialisation",
        "batch norm is the model's own; the authors average the deviation instead of the variance",
    ),
)
def binaryconnect(
    *,
    rounding: Literal["nearest", "stochastic", "none"] = "nearest",
    scale: Literal["unit", "glorot", "none"] = "unit",
    inference: Literal["auto", "binary", "float"] = "auto",
    first_layer: Literal["quantized", "float"] = "quantized",
    last_layer: Literal["quantized", "float"] = "quantized",
) -> Recipe:
    """Binary weights in both passes, a clipped float copy updated by the gradient of the binary ones.

    rounding: sign, or a fresh Bernoulli draw per step; ``none`` trains the float weights. scale: of the binary values
    and the learning rate (paper section 2.5 and code). inference: ``auto`` reads binary weights for ``nearest`` and the
    float copy for ``stochastic``, as the authors do. first_layer, last_layer: binary too, as in the authors' nets, or
    float.
    """
    if rounding == "none":
        return Recipe(update=Update())
    reads_float = inference == "float" or (inference == "auto" and rounding == "stochastic")
    return Recipe(
        weight=Binary("glorot" if scale == "glorot" else 1.0, rounding),
        update=ClippedMaster(scale),
        inference_weight="float" if reads_float else "quantized",
        first_layer=first_layer,
        last_layer=last_layer,
    )
