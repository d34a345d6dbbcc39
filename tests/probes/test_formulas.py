"""Every figure against its formula, written out once more in NumPy, and what it is where the formula says nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from qbench.kernels.random import Key
from qbench.probes import formulas, grid
from qbench.probes.base import Pair
from qbench.probes.clipping import clipping
from qbench.probes.cosine import cosine
from qbench.probes.drift import octaves, ratio
from qbench.probes.sqnr import sqnr
from qbench.quant.formats import (
    Affine,
    Binary,
    Direct,
    FixedPoint,
    Flag,
    Float,
    Levels,
    Quantizer,
    Shift,
    Symmetric,
)
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import quantize

NAN, INF = math.nan, math.inf

FORMATS = [
    Affine(4), Affine(8, scheme="min_offset"), Affine(4, granularity="channel"), Symmetric(4),
    Symmetric(8, granularity="channel"), Direct(4), Direct(8, limit=0.5), Shift(6), Flag(8), Binary(0.5),
    FixedPoint(2, 4), Float("float16"), Levels(3),
]  # fmt: skip


def sample(spread: float = 1.0, shape: tuple[int, ...] = (6, 5, 3, 3)) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(7).normal(0, spread, shape).astype(np.float32))


def numbers(x: torch.Tensor) -> np.ndarray:
    return x.double().numpy().ravel()


@pytest.mark.parametrize("spec", FORMATS, ids=str)
def test_figures_are_their_formulas(spec: Quantizer) -> None:
    x = sample()
    v = quantize(x, spec, Key(0, 0, 0)).dequantize()
    q, e = numbers(v), numbers(x)
    cos = q @ e / np.sqrt((q @ q) * (e @ e))
    # Both sides are float64: they differ by rounding alone, which the arc cosine and 1 - cos^2 magnify near 1.
    assert formulas.cosine(v, x) == pytest.approx(cos, abs=1e-14)
    assert formulas.angle(v, x) == pytest.approx(math.degrees(math.acos(min(cos, 1.0))), rel=1e-5, abs=1e-5)
    assert formulas.sqnr(v, x) == pytest.approx(10 * np.log10((e @ e) / ((e - q) @ (e - q))), abs=1e-9)
    assert formulas.scaled_sqnr(v, x) == pytest.approx(-10 * np.log10(1 - cos**2), rel=1e-6)
    assert formulas.norm(x) == pytest.approx(np.sqrt(e @ e), rel=1e-14)


def test_best_scale_undoes_a_factor_and_plain_ratio_does_not() -> None:
    x = sample()
    q = quantize(x, Symmetric(6), Key(0, 0, 0)).dequantize()
    assert formulas.scaled_sqnr(7 * q, x) == pytest.approx(formulas.scaled_sqnr(q, x), abs=1e-6)  # 7 q is rounded
    assert formulas.sqnr(7 * q, x) < 0 < formulas.sqnr(q, x)


def test_known_angles() -> None:
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0])
    assert (formulas.cosine(x, y), formulas.angle(x, y)) == (0.0, pytest.approx(90.0))
    assert (formulas.cosine(x, -2 * x), formulas.angle(x, -2 * x)) == (-1.0, pytest.approx(180.0))
    assert formulas.angle(x, x + y) == pytest.approx(math.degrees(math.atan(3)))
    small = torch.tensor([1.0, 1e-6])
    assert formulas.angle(x, small) == pytest.approx(math.degrees(1e-6), rel=1e-6)  # the arc cosine would say 0


@pytest.mark.parametrize("size", [1e-38, 1e38])
def test_no_underflow_and_no_overflow(size: float) -> None:
    x = size * sample(0.5).clamp(-1, 1)
    assert formulas.cosine(x, x) == pytest.approx(1.0, abs=1e-12)
    assert formulas.norm(x) == pytest.approx(np.linalg.norm(numbers(x)), rel=1e-12)


@pytest.mark.parametrize(
    ("value", "exact", "expected"),
    [
        ([0.0, 0.0], [0.0, 0.0], (1.0, 0.0, INF, INF)),
        ([0.0, 0.0], [1.0, 2.0], (0.0, 90.0, 0.0, 0.0)),
        ([1.0, 2.0], [0.0, 0.0], (0.0, 90.0, -INF, INF)),
        ([3.0, 3.0], [3.0, 3.0], (1.0, 0.0, INF, INF)),
        ([], [], (NAN,) * 4),
        ([1.0, NAN], [1.0, 2.0], (NAN,) * 4),
        ([1.0, 2.0], [1.0, NAN], (NAN,) * 4),
        ([1.0, INF], [1.0, 2.0], (NAN,) * 4),
        ([1.0, 2.0], [-INF, 2.0], (NAN,) * 4),
    ],
    ids=["zeros", "lost", "made up", "constant", "empty", "NaN", "exact NaN", "infinite", "exact infinite"],
)
def test_borders(value: list[float], exact: list[float], expected: tuple[float, ...]) -> None:
    pair = Pair("layer", "weight", torch.tensor(value), torch.tensor(exact))
    found = {**cosine().pair(pair), **sqnr().pair(pair)}
    values = [found[name] for name in ("cosine", "angle", "sqnr", "sqnr_scaled")]
    # The scaled ratio without signal: any factor on noise is 0, so nothing is left of it.
    assert values == pytest.approx(list(expected), nan_ok=True, abs=1e-6)


# --- clipping


def shares(x: torch.Tensor, spec: Quantizer) -> dict[str, float | None]:
    q = quantize(x, spec, Key(0, 0, 0))
    return dict(clipping().pair(Pair("layer", "weight", q.dequantize(), x, q)))


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [
        (FixedPoint(2, 4), -2 - 1 / 32, 2 - 1 / 16 + 1 / 32),
        (Direct(4, limit=0.5), -0.5 - 1 / 16, 0.5 + 1 / 16),
        (Binary(0.5), -1.0, 1.0),
    ],
    ids=str,
)
def test_clip_rate_of_fixed_grids(spec: Quantizer, low: float, high: float) -> None:
    x = sample(1.5)
    e = numbers(x)
    assert shares(x, spec)["clipped"] == pytest.approx(np.mean((e < low) | (e > high)))
    assert 0 < shares(x, spec)["clipped"] < 1


def test_clip_rate_of_levels_counts_from_half_a_step_outside() -> None:
    x, spec = sample(1.5), Levels(3)
    table = numbers(quantize(x, spec, Key(0, 0, 0)).table)
    half = (table[1] - table[0]) / 2
    e = numbers(x)
    assert shares(x, spec)["clipped"] == pytest.approx(np.mean(np.abs(e) > table[-1] + half))


@pytest.mark.parametrize("spec", [Symmetric(4), Symmetric(4, granularity="channel"), Affine(8, scheme="min_offset")])
def test_a_range_from_the_tensor_itself_clips_nothing(spec: Quantizer) -> None:
    assert shares(sample(), spec)["clipped"] == 0


def test_shift_clips_where_its_power_of_two_is_too_small() -> None:
    x = torch.tensor([1.3, 0.5, -1.3, 0.0])  # R = 1: the largest value is 1 - 2^-3
    assert shares(x, Shift(4))["clipped"] == 0.5


def test_flag_clips_from_half_a_coarse_step_outside() -> None:
    # R = 1: the coarse step is 1/8, the largest value 7/8.
    x = torch.tensor([1.0, 0.95, 0.93, 0.1])
    assert shares(x, Flag(4))["clipped"] == 0.5


def test_zero_and_lost() -> None:
    x = torch.tensor([0.0, 0.01, -0.01, 1.0])
    assert shares(x, Symmetric(4)) == {"clipped": 0.0, "zero": 0.75, "lost": 0.5}


@pytest.mark.parametrize("spec", FORMATS, ids=str)
@pytest.mark.parametrize("x", [torch.zeros(4, 2), torch.full((4, 2), 0.25), torch.empty(0, 2)], ids=["0", "c", "empty"])
def test_shares_of_zeros_constants_and_nothing(spec: Quantizer, x: torch.Tensor) -> None:
    found = shares(x, spec)
    assert set(found) == {"clipped", "zero", "lost"}
    for value in found.values():
        assert value is not None
        assert math.isnan(value) if x.numel() == 0 else 0 <= value <= 1


@pytest.mark.parametrize("spec", [Symmetric(4), Affine(8), Direct(4)], ids=str)
def test_shares_of_what_is_not_finite(spec: Quantizer) -> None:
    assert all(math.isnan(value) for value in shares(torch.tensor([1.0, NAN]), spec).values() if value is not None)


def test_float16_clips_where_it_overflows() -> None:
    q = QTensor(torch.tensor([1.0, INF], dtype=torch.float16), None, None, Float())
    assert grid.clipped(q, torch.tensor([1.0, 1e6])).tolist() == [False, True]


def test_pair_without_a_quantiser_has_no_shares() -> None:
    assert clipping().pair(Pair("layer", "update", sample(), sample())) == {}


# --- steps off the nearest code


def test_off_by_counts_steps() -> None:
    off = torch.tensor([0, 0, 0, 1, 1, 2, 3, 0])
    found = sqnr().pair(Pair("l", "weight", sample(), sample(), steps_off=lambda: off))
    assert (found["off_by_0"], found["off_by_1"], found["off_by_more"]) == (0.5, 0.25, 0.25)
    assert "off_by_0" not in sqnr().pair(Pair("l", "weight", sample(), sample()))


# --- drift


def test_ratios_and_octaves() -> None:
    assert [ratio(3, 2), ratio(0, 0), ratio(2, 0)] == [1.5, 1.0, INF]
    assert math.isnan(ratio(NAN, 0))
    assert [octaves(4, 1), octaves(1, 2)] == [2, -1]
    assert math.isnan(octaves(1, 0))
    assert math.isnan(octaves(NAN, 1))
    assert math.isnan(octaves(INF, 1))
    assert math.isnan(octaves(1, INF))


def test_scale_is_the_step_between_neighbours() -> None:
    x = sample()
    assert grid.scale_of(quantize(x, Symmetric(8), Key(0, 0, 0))) == pytest.approx(float(x.abs().max()) / 127)
    by_channel = quantize(x, Symmetric(8, granularity="channel"), Key(0, 0, 0))
    assert grid.scale_of(by_channel) == pytest.approx(float(x.abs().amax((1, 2, 3)).double().mean()) / 127)
    assert grid.scale_of(quantize(x, Binary(0.5), Key(0, 0, 0))) == 1.0
    assert math.isnan(grid.scale_of(quantize(x, Float(), Key(0, 0, 0))))
