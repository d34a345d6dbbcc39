"""Every number format on one list of properties, and each format's own known answers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qbench.kernels.random import Key
from qbench.quant import compiled
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
)  # fmt: skip
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import encode as reference_encode
from qbench.quant.quantize import power_of_two_range, quantize

KEY = Key(7, 8, 9)

FORMATS: list[Quantizer] = [
    Affine(8), Affine(4, "stochastic"), Affine(8, scheme="min_offset"), Affine(8, "stochastic", "min_offset"),
    Affine(8, granularity="channel"), Affine(8, range="mean_minmax"), Symmetric(8), Symmetric(8, "stochastic"),
    Symmetric(4, granularity="channel"), Direct(8), Direct(8, 1 - 2.0**-7), Direct(8, 1.0, "stochastic"), Shift(8),
    Shift(8, "one"), Shift(16), Flag(8), Constant(128), Constant(2), Binary(), Binary(0.25, "stochastic"),
    FixedPoint(2, 6), FixedPoint(2, 6, "stochastic"), Float("float16"), Float("bfloat16"), Levels(1), Levels(4),
    Levels(4, "equal_area"), Levels(3, "lloyd_max"), Levels(4, "log"), Levels(8),
]  # fmt: skip
FROM_DATA = (Affine, Symmetric, Shift, Flag, Constant)
DISCARDS_SIZE = (Constant, Binary, Levels)

every_format = pytest.mark.parametrize("spec", FORMATS, ids=str)
nearest_formats = pytest.mark.parametrize("spec", [f for f in FORMATS if not f.is_stochastic], ids=str)


def encode(spec: Quantizer, x: torch.Tensor) -> QTensor:
    return quantize(spec, x, KEY)


def sample(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5)) * scale


@every_format
def test_codes_are_integers_within_the_declared_width(spec: Quantizer) -> None:
    codes = encode(spec, sample(16, 33)).codes
    if isinstance(spec, Float):
        return
    assert torch.equal(codes, codes.round())
    if math.isfinite(spec.bound_bits):
        assert float(codes.max()) < 2**spec.bound_bits
        assert float(codes.min()) >= -(2 ** (spec.bound_bits - 1))


@every_format
def test_shape_is_kept_and_empty_stays_empty(spec: Quantizer) -> None:
    assert encode(spec, sample(2, 3, 4, 5)).dequantize().shape == (2, 3, 4, 5)
    needs_rows = getattr(spec, "granularity", "") == "channel" or getattr(spec, "range", "") == "mean_minmax"
    if not needs_rows:
        assert encode(spec, torch.empty(0)).dequantize().shape == (0,)


@every_format
def test_zero_tensor(spec: Quantizer) -> None:
    """Zeros stay zeros in every format that has a zero; grids without one give their smallest value, never NaN."""
    value = encode(spec, torch.zeros(4, 5)).dequantize()
    assert value.isfinite().all()
    if not isinstance(spec, Binary | Levels):
        assert torch.equal(value, torch.zeros(4, 5))


@every_format
@pytest.mark.parametrize("constant", [1.0, -0.75, 2.0**-20, 1e-30])
def test_constant_tensor_is_finite(spec: Quantizer, constant: float) -> None:
    value = encode(spec, torch.full((3, 4), constant)).dequantize()
    assert value.isfinite().all()
    if isinstance(spec, Affine | Symmetric) and not spec.is_stochastic and abs(constant) > 1e-6:
        assert torch.allclose(value, torch.full((3, 4), constant), rtol=2.0 ** (1 - spec.bits))


@every_format
def test_one_element(spec: Quantizer) -> None:
    assert encode(spec, torch.tensor([[0.3]])).dequantize().isfinite().all()


@every_format
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_non_finite_is_never_silently_a_number(spec: Quantizer, bad: float) -> None:
    x = sample(4, 5)
    x[1, 2] = bad
    value = encode(spec, x).dequantize()
    if isinstance(spec, FROM_DATA) and not math.isnan(bad) and getattr(spec, "granularity", "") == "channel":
        assert value[1].isnan().any()
    elif isinstance(spec, FROM_DATA) or math.isnan(bad):
        assert value.isnan().any()
    else:
        assert not value.isnan().any()


@nearest_formats
def test_idempotent(spec: Quantizer) -> None:
    """Values on the grid stay where they are (where the grid does not move with the data)."""
    if isinstance(spec, Affine | Levels | Constant):
        return
    once = encode(spec, sample(8, 16)).dequantize()
    assert torch.equal(encode(spec, once).dequantize(), once)


@nearest_formats
def test_monotone(spec: Quantizer) -> None:
    if getattr(spec, "granularity", "") == "channel" or getattr(spec, "range", "") == "mean_minmax":
        return
    x = torch.linspace(-3, 3, 4001)
    assert bool((encode(spec, x).dequantize().diff() >= 0).all())


@nearest_formats
def test_sign_symmetric(spec: Quantizer) -> None:
    if isinstance(spec, Affine | FixedPoint | Levels):
        return  # unsigned codes, half-up rounding, half-open cells
    x = sample(8, 16)
    assert torch.equal(encode(spec, -x).dequantize(), -encode(spec, x).dequantize())


UNBIASED = [
    (Affine(8, "stochastic"), 1.0), (Affine(4, "stochastic", "min_offset"), 1.0), (Symmetric(4, "stochastic"), 1.0),
    (Direct(4, 1.0, "stochastic"), 1.0), (Binary(1.0, "stochastic"), 1.0), (FixedPoint(2, 3, "stochastic"), 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "size"), UNBIASED, ids=str)
@settings(max_examples=10, deadline=None)
@given(value=st.floats(-0.9375, 0.9375, width=32, allow_subnormal=False))
def test_stochastic_rounding_is_unbiased(spec: Quantizer, size: float, value: float) -> None:
    """Mean over 40,000 draws within 5 standard errors of a two-point law with this step."""
    x = torch.full((40_000,), value)
    x[0], x[1] = -size, size * 0.99
    got = encode(spec, x)
    values = got.dequantize()[2:].double()
    step = float(got.scale) * (2 if isinstance(spec, Binary) else 1) if got.scale is not None else 1.0
    assert values.unique().numel() <= 2
    assert abs(float(values.mean()) - value) <= 5 * step / 2 / 40_000**0.5 + 1e-6


def test_affine_keeps_real_zero_as_a_code() -> None:
    for low, high in [(-1.0, 3.0), (0.5, 2.0), (-2.0, -0.5)]:
        q = encode(Affine(8), torch.tensor([low, 0.0, high]))
        assert q.dequantize()[1] == 0


def test_affine_step_of_paper_and_code() -> None:
    x = torch.linspace(-1, 1, 100)
    assert float(encode(Affine(8), x).scale) == pytest.approx(2 / 256)
    assert float(encode(Affine(8, scheme="min_offset"), x).scale) == pytest.approx(2 / 255)


def test_power_of_two_range() -> None:
    for largest, expected in [(1.0, 1), (1.41, 1), (1.42, 2), (0.7, 0.5), (0.71, 1), (3e-20, 2.0**-65), (0.0, 1)]:
        assert float(power_of_two_range(torch.tensor([-largest, 0.0]))) == expected


def test_flag_has_at_most_509_values_and_shift_255_or_257() -> None:
    """Counts of the format (WAGEUBN, k = 8), over a dense sweep."""
    x = torch.cat([torch.linspace(-1.4, 1.4, 400_001), torch.linspace(-0.01, 0.01, 100_001)])
    assert encode(Flag(8), x).dequantize().unique().numel() == 509
    assert encode(Shift(8), x).dequantize().unique().numel() == 255
    assert encode(Shift(8, "one"), x).dequantize().unique().numel() == 257


@pytest.mark.parametrize("levels", [128, 32, 8, 2])
def test_constant_quantisation_is_on_the_grid_and_bounded(levels: int) -> None:
    value = encode(Constant(levels), sample(1000, scale=1e-4)).dequantize()
    units = value * 2**14
    assert torch.equal(units, units.round())
    assert float(units.abs().max()) <= levels - 1


@pytest.mark.parametrize(("lr", "steps"), [(0.05, 26), (0.006, 3), (0.003, 2), (0.0015, 1)])
def test_direct_on_learning_rates(lr: float, steps: int) -> None:
    assert float(encode(Direct(10), torch.tensor([lr])).dequantize()) == steps / 512


def test_binary_takes_zero_to_plus_one() -> None:
    assert encode(Binary(), torch.tensor([0.0, -0.0, -1e-9])).dequantize().tolist() == [1, 1, -1]


def test_fixed_point_rounds_half_up_and_saturates() -> None:
    value = encode(FixedPoint(2, 1), torch.tensor([0.25, -0.25, 5.0, -5.0, 0.5 - 2**-25])).dequantize()
    assert value.tolist() == [0.5, 0.0, 1.5, -2.0, 0.5]


COSINE = [  # bits including sign, cosine of a Gaussian vector with its quantised self: affine min/max
    (2, 0.8036),
    (3, 0.9318),
    (4, 0.9839),
    (6, 0.9991),
    (8, 0.9999),
]


@pytest.mark.parametrize(("bits", "expected"), COSINE)
def test_cosine_of_gaussian_vectors(bits: int, expected: float) -> None:
    """Measured table for N = 1e6; a sample's extremes scatter the range by a few percent, hence 0.003 from 4 bits up
    and 0.02 below, where one step is the size of the deviation."""
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1))
    value = encode(Affine(bits, scheme="min_offset"), x).dequantize()
    cosine = float(torch.nn.functional.cosine_similarity(x, value, dim=0))
    assert cosine == pytest.approx(expected, abs=0.003 if bits >= 4 else 0.02)


def test_sign_cosine() -> None:
    """sqrt(2 / pi) = 0.79788 for a Gaussian vector."""
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1))
    value = encode(Binary(), x).dequantize()
    assert float(torch.nn.functional.cosine_similarity(x, value, dim=0)) == pytest.approx(0.79788, abs=1e-3)


AWKWARD = {
    "normal": torch.randn(4099, generator=torch.Generator().manual_seed(3)),
    "one sign": -torch.rand(513) - 0.5,
    "zeros": torch.zeros(7),
    "constant": torch.full((9,), 0.3),
    "one element": torch.tensor([2.5]),
    "ties": torch.arange(-512, 513) / 256,
    "tiny": torch.tensor([1e-39, -1e-40, 0.0, 3e-38]),
    "huge": torch.tensor([3e38, -3e38, 1.0]),
    "nan": torch.tensor([torch.nan, 1.0, -1.0]),
    "infinite": torch.tensor([torch.inf, 1.0, -torch.inf]),
    "channels last": torch.randn(2, 3, 5, 7).contiguous(memory_format=torch.channels_last),
    "strided": torch.randn(6, 10)[::2, ::3],
}


@every_format
@pytest.mark.parametrize("name", AWKWARD)
def test_compiled_loops_give_the_reference_codes(spec: Quantizer, name: str) -> None:
    x = AWKWARD[name]
    got = compiled.quantize(spec, x, KEY, None)
    if got is None or (getattr(spec, "range", "") == "mean_minmax" and x.dim() == 1 and x.numel() < 2):
        return
    expected = reference_encode(spec, x, KEY)
    assert torch.equal(torch.nan_to_num(got.codes, -7.0), torch.nan_to_num(expected.codes, -7.0))
    for a, b in ((got.scale, expected.scale), (got.zero_point, expected.zero_point)):
        assert (a is None) == (b is None)
        assert a is None or b is None or torch.equal(torch.nan_to_num(a, -7.0), torch.nan_to_num(b, -7.0))
