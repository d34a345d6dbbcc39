"""BinaryConnect: Courbariaux, Bengio, David 2015, arXiv:1511.00363."""

from __future__ import annotations

from typing import Literal

from qbench import Binary, ClippedMaster, PositiveInt, Recipe, Update, method


@method(
    "binaryconnect",
    paper="arXiv:1511.00363",
    null={"rounding": "none"},
    deviations=(
        "the shared initial weights, scaled to the authors' spread, stand in for their uniform initialisation",
        "batch norm is the model's own; the authors average the deviation, to which they add 1e-4, not the variance",
    ),
)
def binaryconnect(
    *,
    rounding: Literal["nearest", "stochastic", "none"] = "nearest",
    scale: Literal["unit", "glorot", "none"] = "unit",
    inference: Literal["auto", "binary", "float", "ensemble"] = "auto",
    draws: PositiveInt = 8,
    first_layer: Literal["quantized", "float"] = "quantized",
    last_layer: Literal["quantized", "float"] = "quantized",
) -> Recipe:
    """Binary weights in both passes, a clipped float copy updated by the gradient of the binary ones.

    rounding: sign, or a fresh Bernoulli draw per step; ``none`` trains the float weights. scale: of the binary values
    and the learning rate (paper section 2.5 and code). inference: the paper's three readings of the trained weights
    (section 2.6): their signs, the float copy, or an ``ensemble`` of networks binarised at random, ``draws`` of them,
    whose outputs are averaged; ``auto`` is binary for ``nearest`` and float for ``stochastic``, as the authors do.
    first_layer, last_layer: binary too, as in the authors' nets, or float.
    """
    if rounding == "none":
        return Recipe(update=Update())
    if inference == "auto":
        inference = "float" if rounding == "stochastic" else "binary"
    return Recipe(
        weight=Binary("glorot" if scale == "glorot" else 1.0, rounding),
        update=ClippedMaster(scale),
        inference_weight="quantized" if inference == "binary" else inference,
        draws=draws if inference == "ensemble" else 1,
        first_layer=first_layer,
        last_layer=last_layer,
    )
