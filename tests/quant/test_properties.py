"""What each quantiser promises of any tensor: values on the grid, nearest or unbiased, idempotent, monotone,
symmetric."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quant_formats import FORMATS, NEAREST, needs_rows
from torch import Tensor

from qbench.kernels.random import Key
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
from qbench.quant.quantize import quantize

KEY = Key(1, 2, 3)

every_format = pytest.mark.parametrize("spec", FORMATS, ids=str)
nearest_formats = pytest.mark.parametrize("spec", NEAREST, ids=str)
quick = settings(max_examples=25, deadline=None)


def tensors(largest: float = 2.0**20) -> st.SearchStrategy[Tensor]:
    """Two rows of float32 values: of one order of magnitude, or of wildly different ones."""
    ordinary = st.floats(-4, 4, width=32)
    any_size = st.floats(-largest, largest, width=32)
    rows = st.integers(1, 12).flatmap(
        lambda n: st.lists(st.lists(ordinary | any_size, min_size=n, max_size=n), min_size=2, max_size=2)
    )
    return rows.map(lambda values: torch.tensor(values, dtype=torch.float32))


@every_format
@quick
@given(x=tensors())
@example(x=torch.tensor([[0.0], [7.3e-43]]))  # a power of two whose fine grid no float32 can express
def test_values_are_on_the_grid(spec: Quantizer, x: Tensor) -> None:
    """Values are scale * (code - zero point), one float32 rounding each, or the entries of the format's table."""
    q = quantize(x, spec, KEY)
    value = q.dequantize()
    assert value.isfinite().all() or isinstance(spec, Float)
    if isinstance(spec, Float):
        assert torch.equal(value, x.to(getattr(torch, spec.dtype)).float())
    elif q.table is not None:
        assert torch.isin(value, q.table).all()
    else:
        assert q.scale is not None
        zero = 0.0 if q.zero_point is None else q.zero_point
        assert torch.equal(value, (q.codes.float() - zero) * q.scale)
        assert bool((q.scale > 0).all())


@pytest.mark.parametrize(
    "spec", [s for s in NEAREST if isinstance(s, Direct | FixedPoint | Symmetric | Shift)], ids=str
)
@quick
@given(x=tensors())
def test_nearest_is_at_most_half_a_step_away(spec: Quantizer, x: Tensor) -> None:
    """Inside the range; beyond its end the end is taken. In float64; the float32 quotient moves it by some 2^-24."""
    q = quantize(x, spec, KEY)
    assert q.scale is not None
    step = q.scale.double()
    steps = x.double() / step
    top = spec.largest_integer
    high = top - 1 if isinstance(spec, FixedPoint) else top
    wanted = steps.clamp(-top, high)
    distance = (q.codes.double() - wanted).abs()
    assert bool((distance <= 0.5 + steps.abs() * 2.0**-23).all())


@pytest.mark.parametrize("spec", [s for s in NEAREST if isinstance(s, Affine)], ids=str)
@quick
@given(x=tensors())
def test_affine_is_at_most_half_a_step_away(spec: Affine, x: Tensor) -> None:
    """A whole step with a whole zero point, because that is rounded too; only inside the range where values outside
    are clipped."""
    q = quantize(x, spec, KEY)
    assert q.scale is not None
    assert q.zero_point is not None
    distance = (q.dequantize().double() - x.double()).abs() / q.scale.double()
    inside = (q.codes > 0) & (q.codes < 2**spec.bits - 1)
    # Codes up to 2^bits times a scale and a quotient, each rounded to 24 bits.
    slack = 2.0 ** (spec.bits - 22) + 2.0**-22 * q.zero_point.abs()
    limit = 1.0 if spec.scheme == "zero_point" else 0.5
    assert bool((distance <= limit + slack)[inside].all())


@pytest.mark.parametrize("spec", [s for s in FORMATS if s.is_stochastic and hasattr(s, "rounding")], ids=str)
@quick
@given(x=tensors(4.0))
def test_stochastic_rounding_takes_one_of_the_two_neighbours(spec: Quantizer, x: Tensor) -> None:
    q = quantize(x, spec, KEY)
    if isinstance(spec, Binary):
        assert q.codes.abs().eq(1).all()
        assert bool((q.codes[x.abs() >= 0.25] == x.sign()[x.abs() >= 0.25]).all())
        return
    assert q.scale is not None
    zero = 0.0 if q.zero_point is None else q.zero_point.double()
    place = x.double() / q.scale.double() + zero
    top = spec.largest_integer
    low, high = (0.0, top) if q.codes.dtype in (torch.uint8,) else (-top, top - isinstance(spec, FixedPoint))
    slack = 1e-5 * place.abs().clamp(min=1)
    codes = q.codes.double()
    assert bool((codes >= (place - slack).floor().clamp(low, high)).all())
    assert bool((codes <= (place + slack).ceil().clamp(low, high)).all())


UNBIASED: list[Quantizer] = [
    Affine(8, "stochastic"), Affine(4, "stochastic", "min_offset"), Symmetric(4, "stochastic"),
    Symmetric(8, "stochastic", "channel"), Direct(4, 1.0, "stochastic"), Binary(1.0, "stochastic"),
    FixedPoint(2, 3, "stochastic"), Constant(8, 4),
]  # fmt: skip


@pytest.mark.parametrize("spec", UNBIASED, ids=str)
@settings(max_examples=10, deadline=None)
@given(value=st.floats(-0.8125, 0.8125, width=32, allow_subnormal=False))
def test_stochastic_rounding_is_unbiased(spec: Quantizer, value: float) -> None:
    """The mean of 40,000 draws lies within 5 standard errors of a two-point law with this step; 1e-6 is for float32.

    The tensor's extremes are -1 and 0.99, so that no format clips the value. Constant's grid keeps no magnitude: its 8
    levels on 8 units have one here.
    """
    x = torch.full((1, 40_000), value)
    x[0, 0], x[0, 1] = -1.0, 0.99
    q = quantize(x, spec, KEY)
    assert q.scale is not None
    values = q.dequantize()[0, 2:].double()
    step = float(q.scale) * (2 if isinstance(spec, Binary) else 1)
    assert values.unique().numel() <= 2
    assert abs(float(values.mean()) - value) <= 5 * step / 2 / 40_000**0.5 + 1e-6


def test_draws_depend_on_seed_tensor_and_step() -> None:
    x = torch.rand(64, 64)
    spec = FixedPoint(2, 2, "stochastic")
    keys = [Key(1, 2, 3), Key(9, 2, 3), Key(1, 9, 3), Key(1, 2, 9), Key(1, 2, 3, "hash")]
    codes = [quantize(x, spec, key).codes for key in keys]
    assert torch.equal(codes[0], quantize(x, spec, keys[0]).codes)
    assert all(not torch.equal(codes[0], other) for other in codes[1:])


IDEMPOTENT = [s for s in NEAREST if isinstance(s, Symmetric | Direct | Binary | FixedPoint | Float)]
"""Values on the grid stay where they are. Not so where the grid moves with what has been clipped: see below."""


@pytest.mark.parametrize("spec", IDEMPOTENT, ids=str)
@quick
@given(x=tensors())
def test_idempotent(spec: Quantizer, x: Tensor) -> None:
    once = quantize(x, spec, KEY)
    twice = quantize(once.dequantize(), spec, KEY)
    # A scale from the data may move by one float32 rounding: the codes are the same.
    assert torch.equal(twice.codes, once.codes)


@pytest.mark.parametrize("spec", [s for s in FORMATS if s.is_fixed_grid and s.is_stochastic], ids=str)
@quick
@given(x=tensors())
def test_stochastic_rounding_leaves_the_grid_alone(spec: Quantizer, x: Tensor) -> None:
    once = quantize(x, spec, KEY)
    twice = quantize(once.dequantize(), spec, Key(4, 5, 6))
    assert torch.equal(twice.codes, once.codes)
    assert torch.equal(twice.dequantize(), once.dequantize())


@pytest.mark.parametrize("spec", [Shift(8), Shift(8, "one"), Flag(8)], ids=str)
@quick
@given(x=tensors())
def test_power_of_two_grids_are_idempotent_unless_the_maximum_was_clipped(spec: Quantizer, x: Tensor) -> None:
    """Their unit follows the maximum. A maximum that rounds up to the next power of two, or is clipped below the
    boundary sqrt(1/2), moves it."""
    once = quantize(x, spec, KEY)
    twice = quantize(once.dequantize(), spec, KEY)
    if torch.equal(twice.scale, once.scale):  # type: ignore[arg-type]
        assert torch.equal(twice.codes, once.codes)


@pytest.mark.parametrize("spec", [Affine(8), Affine(8, scheme="min_offset"), Affine(4)], ids=str)
@quick
@given(x=tensors(16.0))
def test_affine_is_idempotent_on_one_range(spec: Affine, x: Tensor) -> None:
    limits = torch.stack([x.min(), x.max()])
    once = quantize(x, spec, KEY, limits)
    twice = quantize(once.dequantize(), spec, KEY, limits)
    # min_offset's zero point is no integer: a value half a step away from two codes may fall either way.
    assert int((twice.codes.int() - once.codes.int()).abs().max()) <= (spec.scheme == "min_offset")


@nearest_formats
@quick
@given(x=tensors())
def test_monotone(spec: Quantizer, x: Tensor) -> None:
    """Of two values on one scale the larger never gets the smaller code."""
    if needs_rows(spec):
        x = torch.stack([x[0], x[0]])
    ordered = x.flatten().sort().values if not needs_rows(spec) else x.sort(1).values
    value = quantize(ordered, spec, KEY).dequantize()
    assert bool((value[..., 1:] >= value[..., :-1]).all())


SYMMETRIC = [s for s in NEAREST if isinstance(s, Symmetric | Direct | Shift | Flag | Float)]
"""Not Affine (unsigned codes), FixedPoint (half up, two's complement), Levels (half-open cells), Binary (sign of 0)."""


@pytest.mark.parametrize("spec", SYMMETRIC, ids=str)
@quick
@given(x=tensors())
def test_sign_symmetric(spec: Quantizer, x: Tensor) -> None:
    assert torch.equal(quantize(-x, spec, KEY).dequantize(), -quantize(x, spec, KEY).dequantize())


@pytest.mark.parametrize("spec", [Binary(), Levels(1), Levels(4), Levels(4, "log")], ids=str)
@quick
@given(x=tensors())
def test_sign_symmetric_but_for_ties(spec: Quantizer, x: Tensor) -> None:
    value, mirrored = quantize(x, spec, KEY).dequantize(), quantize(-x, spec, KEY).dequantize()
    tied = value != -mirrored
    if isinstance(spec, Binary):
        assert bool((x[tied] == 0).all())
    else:
        # A value on a threshold goes to the lower level, mirrored or not.
        from qbench.quant.levels import decision_points

        assert torch.isin(x[tied], decision_points(spec)).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", [Symmetric(8), Shift(8), Shift(16), Flag(8), Affine(8), Constant(128)], ids=str)
@quick
@given(x=tensors(4.0), exponent=st.integers(-20, 20))
def test_scaling_by_a_power_of_two_changes_the_scale_alone(spec: Quantizer, x: Tensor, exponent: int) -> None:
    x = torch.where(x.abs() < 2.0**-20, 0.0, x)  # so that nothing becomes subnormal
    factor = 2.0**exponent
    plain, scaled = quantize(x, spec, KEY), quantize(x * factor, spec, KEY)
    assert torch.equal(plain.codes, scaled.codes)
    assert plain.scale is not None
    assert scaled.scale is not None
    if bool((x == 0).all()):
        return
    grows = 1.0 if isinstance(spec, Constant) else factor
    assert float(scaled.scale) == float(plain.scale) * grows


@quick
@given(x=tensors())
def test_channels_are_quantised_one_by_one(x: Tensor) -> None:
    for spec in (Symmetric(8), Affine(8)):
        together = quantize(x, type(spec)(8, granularity="channel"), KEY).dequantize()
        alone = torch.stack([quantize(row, spec, KEY).dequantize() for row in x])
        assert torch.equal(together, alone)


def test_bits_of_codes_follow_from_the_format() -> None:
    """bound_bits holds every code; storage_bits is what an element costs, at most that where codes are bounded."""
    for spec in FORMATS:
        if isinstance(spec, Float):
            continue
        x = torch.linspace(-3, 3, 2001).view(3, -1) * 1.4
        codes = quantize(x, spec, KEY).codes.to(torch.int64)
        if math.isfinite(spec.bound_bits):
            low, high = int(codes.min()), int(codes.max())
            assert high < 2**spec.bound_bits if low >= 0 else max(high + 1, -low) <= 2 ** (spec.bound_bits - 1)


def test_names_of_the_tests_cover_every_format() -> None:
    """A format without a property test is noticed."""
    kinds: Callable[[type], set[type]] = lambda base: {base, *(k for s in base.__subclasses__() for k in kinds(s))}  # noqa: E731
    ours = {kind for kind in kinds(Quantizer) if kind.__module__ == "qbench.quant.formats"} - {Quantizer}
    assert ours == {type(spec) for spec in FORMATS}
