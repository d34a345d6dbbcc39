"""The cosine between a Gaussian vector and its quantised copy, by bits (Banner et al. 2018, section 5)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from qbench.kernels.random import Key
from qbench.quant.formats import Affine, Binary, Direct
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import quantize
from qbench.theory.directions import (
    Levels,
    cosine,
    gaussian_bound,
    gaussian_vector,
    magnitude_quantizer,
    right_triangle,
    ternary_cosine,
)
from qbench.theory.findings import Answer, Estimate, Findings, Panel, Picture, Series, bounded, equals
from qbench.theory.progress import Progress, tracked

Bits = Annotated[int, Interval(ge=1, le=12)]
Scheme = Literal["magnitude", "sign", "affine"]

TABLE = {
    ("magnitude", 2): 0.9455, ("magnitude", 3): 0.9855, ("magnitude", 4): 0.9963, ("magnitude", 6): 0.9998,
    ("magnitude", 8): 1.0000,
    ("sign", 2): 0.8355, ("sign", 3): 0.9455, ("sign", 4): 0.9855, ("sign", 6): 0.9991, ("sign", 8): 0.9999,
    ("affine", 2): 0.8036, ("affine", 3): 0.9318, ("affine", 4): 0.9839, ("affine", 6): 0.9991, ("affine", 8): 0.9999,
}  # fmt: skip
"""An independent measurement on one vector of 10^6 values."""

LARGEST = 4.77
"""Largest magnitude of that vector, in standard deviations: the one that all of its figures fit."""

NAMES: dict[Scheme, str] = {
    "magnitude": "max/2^M, sign extra",
    "sign": "max/2^(M-1), sign included",
    "affine": "affine min/max",
}
EXACT = "closed form for Gaussian values, at the range that was drawn"
MEASURED = f"an independent measurement on 10^6 values, the largest {LARGEST} s; the same range here"
BOUND = "Banner et al. 2018, Eq. 12: 2^M / (2^M + sqrt(ln N / 6))"
NOISE = "1 / sqrt(1 + D^2 / 12 s^2): rounding as uniform noise at right angles"
SIGN = "sqrt(2 / pi)"
TERNARY = "sqrt(2 / pi) exp(-t^2 / 2) / sqrt(erfc(t / sqrt 2))"

_TABLE_TOLERANCE = 0.003
_NOISE_TOLERANCE = 0.01
_FINE_STEP = 0.7
"""In steps of at most this many standard deviations rounding errors are as good as uniform noise."""
_THRESHOLDS = (0.2, 0.4, 0.612, 0.8, 1.0)
BEST_THRESHOLD = 0.612


@dataclass(frozen=True)
class Found:
    """One quantiser on one vector: the measured cosine, and the exact one for Gaussian values."""

    measured: Estimate
    exact: float


def gaussian_direction(
    *,
    seed: int,
    progress: Progress,
    bits: tuple[Bits, ...] = (2, 3, 4, 6, 8),
    count: Annotated[int, Ge(1000)] = 1_000_000,
    draws: Annotated[int, Ge(2)] = 4,
) -> Findings:
    """Cosines of quantised Gaussian vectors.

    bits: M of the analysis. count: values of a vector; draws: vectors.
    """
    vectors = [gaussian_vector(count, seed + draw) for draw in range(draws)]
    answers: list[Answer] = []
    cosines: dict[tuple[Scheme, int], Answer] = {}
    cases = [(scheme, m) for scheme in NAMES for m in bits]
    for scheme, m in tracked(cases, len(cases), progress, 0, 0.9):
        cosines[scheme, m] = _exact_answer(scheme, m, vectors)
        answers.append(cosines[scheme, m])
        answers += _table_answer(scheme, m, vectors[0])
    for m in bits:
        measured = Estimate(cosines["magnitude", m].measured, cosines["magnitude", m].error)
        answers += _bounds(m, measured, vectors, count)
    answers += _few_levels(vectors[0])
    return Findings(answers=tuple(answers), pictures=(_picture(bits, cosines, vectors, count),))


def _quantized(scheme: Scheme, bits: int, x: Tensor, limits: Tensor | None) -> tuple[QTensor, int]:
    """``x`` in one of the schemes, and how many levels it has. limits: in place of the vector's own range."""
    if scheme == "affine":
        spec = Affine(bits, scheme="min_offset")
        return quantize(x, spec, Key(0, 0, 0), limits), 2**bits
    largest = x.abs().max() if limits is None else limits[1]
    magnitude_bits = bits - (scheme == "sign")
    return magnitude_quantizer(x, magnitude_bits, largest), 2 ** (magnitude_bits + 1)


def _exact_answer(scheme: Scheme, bits: int, vectors: Sequence[Tensor]) -> Answer:
    found = [_found(scheme, bits, x) for x in vectors]
    exact = math.fsum(one.exact for one in found) / len(found)
    return equals(
        f"cosine, {NAMES[scheme]}", f"M = {bits}", _combined([one.measured for one in found]), exact, EXACT,
        extra=1e-6, because="for float32 levels",
    )  # fmt: skip


def _found(scheme: Scheme, bits: int, x: Tensor) -> Found:
    q, levels = _quantized(scheme, bits, x, None)
    return Found(cosine(x, q.dequantize()), Levels.of(q, levels).gaussian_cosine())


def _combined(cosines: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates."""
    error = math.sqrt(math.fsum(one.error**2 for one in cosines)) / len(cosines)
    return Estimate(math.fsum(one.value for one in cosines) / len(cosines), error)


def _table_answer(scheme: Scheme, bits: int, x: Tensor) -> Iterator[Answer]:
    if (scheme, bits) in TABLE:
        q, _ = _quantized(scheme, bits, x, torch.tensor([-LARGEST, LARGEST]))
        yield equals(
            f"cosine, {NAMES[scheme]}", f"M = {bits}, range \N{PLUS-MINUS SIGN}{LARGEST} s", cosine(x, q.dequantize()),
            TABLE[scheme, bits], MEASURED, extra=_TABLE_TOLERANCE, because="for a range that is known to two digits",
        )  # fmt: skip


def _bounds(bits: int, measured: Estimate, vectors: Sequence[Tensor], count: int) -> Iterator[Answer]:
    name = f"cosine, {NAMES['magnitude']}"
    yield bounded(name, f"M = {bits}, bound", measured, "at least", gaussian_bound(bits, count), BOUND)
    steps = [float(x.abs().max()) / 2**bits for x in vectors]
    if max(steps) <= _FINE_STEP:
        estimated = math.fsum(right_triangle(step) for step in steps) / len(steps)
        yield equals(
            name, f"M = {bits}, noise", measured, estimated, NOISE, extra=_NOISE_TOLERANCE * (1 - estimated),
            because="(1 % of 1 - cosine) as rounding is no noise",
        )  # fmt: skip


def _few_levels(x: Tensor) -> Iterator[Answer]:
    """Sign and ternary quantisers."""
    key = Key(0, 0, 0)
    measured = cosine(x, quantize(x, Binary(), key).dequantize())
    yield equals("cosine, sign", "1 bit", measured, math.sqrt(2 / math.pi), SIGN)
    for threshold in _THRESHOLDS:
        # On the grid {-1, 0, 1} a value is rounded to 0 up to one half.
        ternary = quantize(x / (2 * threshold), Direct(1, limit=1.0), key)
        text = f"threshold {threshold:g} s" + (", the best" if threshold == BEST_THRESHOLD else "")
        exact = ternary_cosine(threshold)
        yield equals("cosine, ternary", text, cosine(x, ternary.dequantize()), exact, TERNARY)


def _picture(
    bits: Sequence[int], cosines: dict[tuple[Scheme, int], Answer], vectors: Sequence[Tensor], count: int
) -> Picture:
    below_one = partial(_below_one, bits)
    series = [
        below_one(NAMES[scheme], scheme, [cosines[scheme, m].measured for m in bits], "points") for scheme in NAMES
    ]
    fine = sum(float(x.abs().max()) for x in vectors) / len(vectors)
    series.append(below_one("noise at right angles", "known", [right_triangle(fine / 2**m) for m in bits], "dashed"))
    series.append(below_one("bound, Eq. 12", "known", [gaussian_bound(m, count) for m in bits], "line"))
    panel = Panel(x_label="bits M", y_label="1 \N{MINUS SIGN} cosine", series=tuple(series), y_scale="log")
    return Picture(
        name="gaussian-direction",
        title=f"{count:,} Gaussian values: how far quantisation turns the vector",
        note="points: measured; lines: Banner et al. 2018, for the quantiser whose M bits do not count the sign",
        columns=1,
        panels=(panel,),
    )


def _below_one(
    bits: Sequence[int], label: str, role: str, cosines: Sequence[float], style: Literal["points", "dashed", "line"]
) -> Series:
    return Series(label=label, role=role, style=style, x=tuple(bits), y=tuple(1 - value for value in cosines))
