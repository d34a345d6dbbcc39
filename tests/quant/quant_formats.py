"""The list of formats that the tests of this folder share; a new format enters here."""

from __future__ import annotations

from qbench.quant.formats import (
    Affine,
    Binary,
    Constant,
    Direct,
    FixedPoint,
    Flag,
    Float,
    Levels,
    Quantizer,
    Shift,
    Symmetric,
)

FORMATS: list[Quantizer] = [
    Affine(8), Affine(4, "stochastic"), Affine(8, scheme="min_offset"), Affine(8, "stochastic", "min_offset"),
    Affine(8, granularity="channel"), Affine(8, range="mean_minmax"), Affine(12), Symmetric(8),
    Symmetric(8, "stochastic"), Symmetric(4, granularity="channel"), Symmetric(8, "stochastic", "channel"),
    Symmetric(16), Direct(8), Direct(8, 1 - 2.0**-7), Direct(8, 1.0, "stochastic"), Direct(2, 0.5), Direct(6, 3.96875),
    Direct(24, 1 - 2.0**-23), Shift(8), Shift(8, "one"), Shift(12), Shift(16), Flag(8), Flag(4), Constant(128),
    Constant(2), Binary(), Binary(0.25, "stochastic"), FixedPoint(2, 6), FixedPoint(2, 6, "stochastic"),
    FixedPoint(2, 14), FixedPoint(6, 10, "stochastic"), Float("float16"), Float("bfloat16"), Levels(1), Levels(4),
    Levels(4, "equal_area"), Levels(3, "lloyd_max"), Levels(4, "log"), Levels(8),
]  # fmt: skip

NEAREST = [spec for spec in FORMATS if not spec.is_stochastic]
FROM_DATA = (Affine, Symmetric, Shift, Flag, Constant)
"""Formats whose scale comes from the tensor: an infinity leaves no scale."""


def needs_rows(spec: Quantizer) -> bool:
    """Whether dimension 0 means something to the format: one scale per channel, or extremes of each sample."""
    return getattr(spec, "granularity", "") == "channel" or getattr(spec, "range", "") == "mean_minmax"
