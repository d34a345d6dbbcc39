"""Every number format on the tensors that break quantisers, and each format's own known answers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from quant_formats import FORMATS, FROM_DATA, needs_rows
from torch import Tensor

from qbench.errors import InputError
from qbench.kernels.random import Key
from qbench.nn.integer import is_factor, why_float
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
from qbench.quant.qtensor import QTensor, dequantize
from qbench.quant.quantize import quantize, rounded
from qbench.recipe import ClippedMaster, RangeNorm

KEY = Key(7, 8, 9)

every_format = pytest.mark.parametrize("spec", FORMATS, ids=str)


def encode(spec: Quantizer, x: Tensor) -> QTensor:
    return quantize(x, spec, KEY)


def sample(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5)) * scale


@every_format
def test_codes_have_the_declared_type_and_fit_the_declared_width(spec: Quantizer) -> None:
    codes = encode(spec, sample(16, 33)).codes
    assert codes.dtype == getattr(torch, spec.code_dtype)
    if isinstance(spec, Float):
        return
    assert not codes.is_floating_point()
    if math.isfinite(spec.bound_bits):
        assert int(codes.max()) < 2**spec.bound_bits
        assert int(codes.min()) >= -(2 ** (spec.bound_bits - 1))
    if math.isfinite(spec.largest_integer) and codes.dtype != torch.uint8:
        assert int(codes.to(torch.int64).abs().max()) <= spec.largest_integer


WIDTHS = [
    (Affine(8), 8, 8, 255), (Affine(4), 4, 4, 15), (Symmetric(8), 8, 8, 127), (Float(), 16, math.inf, math.inf),
    (Direct(8), 8, math.inf, 32767), (Direct(24), 24, math.inf, 2**24), (Direct(8, 1 - 2.0**-7), 8, 8, 127),
    (Direct(8, 1.0), 8, 9, 128), (Shift(8), 8, 8, 127), (Shift(8, "one"), 9, 9, 128), (Flag(8), 9, 15, 128 * 127),
    (Constant(128), 8, 8, 127), (Binary(), 1, 2, 1), (FixedPoint(2, 6), 8, 8, 128), (Levels(4), 4, 4, math.inf),
]  # fmt: skip
"""Format, bits that a stored value takes, bits of its codes as integers, largest magnitude of a code."""


@pytest.mark.parametrize(("spec", "stored", "bound", "largest"), WIDTHS, ids=str)
def test_width_of_a_format(spec: Quantizer, stored: float, bound: float, largest: float) -> None:
    assert (spec.storage_bits, spec.bound_bits, spec.largest_integer) == (stored, bound, largest)


def test_every_format_has_its_width_in_the_list() -> None:
    assert {type(spec) for spec in FORMATS} == {type(spec) for spec, *_ in WIDTHS}


@every_format
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_values_come_in_any_float_type(spec: Quantizer, dtype: torch.dtype) -> None:
    q = encode(spec, sample(16, 33))
    values = dequantize(q, dtype)
    assert values.dtype == dtype
    assert torch.equal(values, q.dequantize().to(dtype))
    assert torch.equal(dequantize(q), q.dequantize())
    assert not values.isnan().any()


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.bool, torch.complex64], ids=str)
def test_values_come_in_no_other_type(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=rf"^dtype must be a float type, got {dtype}$"):
        dequantize(encode(Affine(8), sample(4, 4)), dtype)


@every_format
def test_codes_are_channels_last_in_memory(spec: Quantizer) -> None:
    """Counted and multiplied in N, H, W, C order whatever the layout of the values was."""
    x = sample(2, 3, 4, 5)
    codes = encode(spec, x).codes
    other = encode(spec, x.contiguous(memory_format=torch.channels_last)).codes
    assert torch.equal(codes, other)
    if not isinstance(spec, Float) and not needs_rows(spec):
        assert codes.is_contiguous(memory_format=torch.channels_last)


@every_format
def test_shape_is_kept_and_empty_stays_empty(spec: Quantizer) -> None:
    assert encode(spec, sample(2, 3, 4, 5)).dequantize().shape == (2, 3, 4, 5)
    for shape in ((0,), (0, 4), (0, 3, 2, 2), (2, 0)):
        q = encode(spec, torch.empty(shape))
        assert q.dequantize().shape == shape
        assert q.codes.dtype == getattr(torch, spec.code_dtype)


@every_format
def test_zero_tensor(spec: Quantizer) -> None:
    """Zeros stay zeros in every format that has a zero; grids without one give their smallest value, never NaN."""
    value = encode(spec, torch.zeros(4, 5)).dequantize()
    assert value.isfinite().all()
    if isinstance(spec, Binary):
        assert value.abs().unique().tolist() == [spec.scale]
    elif isinstance(spec, Levels):
        table = encode(spec, torch.zeros(1)).table
        assert table is not None
        assert torch.equal(value.abs(), table.abs().min().expand(4, 5))
    else:
        assert torch.equal(value, torch.zeros(4, 5))


@every_format
@pytest.mark.parametrize("constant", [1.0, -0.75, 2.0**-20, 1e-30, -1e-40])
def test_constant_tensor(spec: Quantizer, constant: float) -> None:
    """Every value of a constant tensor is the same (two neighbours where rounding is stochastic), and finite."""
    value = encode(spec, torch.full((3, 4), constant)).dequantize()
    assert value.isfinite().all()
    assert value.unique().numel() <= (2 if spec.is_stochastic else 1)
    if isinstance(spec, Affine) and not spec.is_stochastic and abs(constant) > 1e-6:
        assert torch.allclose(value, torch.full((3, 4), constant), rtol=2.0 ** (1 - spec.bits))


@every_format
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 1, 1, 1)])
def test_one_element(spec: Quantizer, shape: tuple[int, ...]) -> None:
    if needs_rows(spec) and not shape:
        return  # there is no dimension 0
    value = encode(spec, torch.full(shape, 0.3)).dequantize()
    assert value.shape == shape
    assert value.isfinite().all()


@every_format
def test_a_nan_poisons_the_tensor_where_a_scale_is_shared(spec: Quantizer) -> None:
    x = sample(4, 5)
    x[1, 2] = torch.nan
    value = encode(spec, x).dequantize()
    if isinstance(spec, Float):
        assert torch.equal(value.isnan(), x.isnan())
    elif getattr(spec, "granularity", "") == "channel":
        assert value.isnan().all(1).tolist() == [False, True, False, False]
    else:
        assert value.isnan().all()


@every_format
@pytest.mark.parametrize("infinity", [torch.inf, -torch.inf])
def test_an_infinity_poisons_or_is_clipped(spec: Quantizer, infinity: float) -> None:
    """It leaves no scale where the scale comes from the data; a fixed grid clips it to its end."""
    x = sample(4, 5)
    x[1, 2] = infinity
    value = encode(spec, x).dequantize()
    if isinstance(spec, Float):
        assert value[1, 2] == infinity
    elif getattr(spec, "granularity", "") == "channel":
        assert value.isnan().all(1).tolist() == [False, True, False, False]
    elif isinstance(spec, FROM_DATA):
        assert value.isnan().all()
    else:
        assert value.isfinite().all()
        end = value.max() if infinity > 0 else value.min()
        assert value[1, 2] == end


@every_format
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_reason_is_known_for_what_the_integer_products_do_not_take(spec: Quantizer, per_channel: bool) -> None:
    is_taken = is_factor(encode(spec, sample(16, 33)), per_channel=per_channel)
    assert is_taken == (why_float(spec, per_channel=per_channel) == "")


def test_fixed_grids_clip_at_their_ends() -> None:
    ends = {
        Direct(8, 1 - 2.0**-7): (-127 / 128, 127 / 128), Direct(8): (-32767 / 128, 32767 / 128),
        Direct(2, 0.5): (-0.5, 0.5), FixedPoint(2, 6): (-2.0, 2 - 2.0**-6), FixedPoint(6, 10): (-32.0, 32 - 2.0**-10),
        Binary(0.25): (-0.25, 0.25),
    }  # fmt: skip
    for spec, (low, high) in ends.items():
        value = encode(spec, torch.tensor([-torch.inf, -1e9, 1e9, torch.inf])).dequantize()
        assert value.tolist() == [low, low, high, high], spec


def test_affine_keeps_real_zero_as_a_code() -> None:
    for low, high in [(-1.0, 3.0), (0.5, 2.0), (-2.0, -0.5)]:
        q = encode(Affine(8), torch.tensor([low, 0.0, high]))
        assert q.dequantize()[1] == 0
        assert q.zero_point is not None
        assert float(q.zero_point) == int(q.zero_point)


def test_given_limits_are_used_instead_of_the_tensors_own() -> None:
    x = torch.tensor([-5.0, 0.0, 5.0])
    q = quantize(x, Affine(8), KEY, torch.tensor([-1.0, 1.0]))
    assert q.scale is not None
    assert float(q.scale) == 2 / 256
    assert q.codes.tolist() == [0, 128, 255]


MEASURED = [spec for spec in FORMATS if isinstance(spec, FROM_DATA) and getattr(spec, "takes_extremes", True)]


@pytest.mark.parametrize("spec", MEASURED, ids=str)
def test_extremes_that_are_known_already_give_the_same_codes(spec: Quantizer) -> None:
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) - 1.5
    measured, given = quantize(x, spec, KEY), quantize(x, spec, KEY, torch.stack([x.min(), x.max()]))
    assert torch.equal(measured.codes, given.codes)
    assert torch.equal(measured.dequantize(), given.dequantize())


@every_format
@pytest.mark.parametrize("spoil", [0.3, math.nan, math.inf])
@pytest.mark.parametrize("shape", [(33, 7), (2, 5, 6, 7), (0, 3)], ids=str)
def test_values_without_codes_are_those_of_the_codes(shape: tuple[int, ...], spoil: float, spec: Quantizer) -> None:
    x = sample(*shape)
    x[-1:] = spoil
    assert torch.equal(*(values.nan_to_num(-99.0) for values in (rounded(x, spec, KEY), encode(spec, x).dequantize())))


def test_mean_extremes_are_those_of_the_samples() -> None:
    """Rows of extremes (-1, 1) and (-3, 5): the range is (-2, 3), and what lies outside is clipped."""
    x = torch.tensor([[-1.0, 0.0, 1.0], [-3.0, 0.0, 5.0]])
    q = encode(Affine(8, scheme="min_offset", range="mean_minmax"), x)
    assert q.scale is not None
    assert float(q.scale) == pytest.approx(5 / 255)
    assert q.codes[1].tolist()[::2] == [0, 255]


@pytest.mark.parametrize(
    ("kind", "fewest", "most"),
    [(Affine, 1, 24), (Symmetric, 2, 24), (Direct, 1, 24), (Shift, 2, 24), (Flag, 1, 8), (Levels, 1, 8)],
)
def test_a_width_without_codes_is_refused(
    kind: type[Affine | Symmetric | Direct | Shift | Flag | Levels], fewest: int, most: int
) -> None:
    for bits in (fewest, most):
        assert encode(kind(bits), sample(1000)).dequantize().unique().numel() > 1
    for bits in (fewest - 1, -3, most + 1, 10**30):
        with pytest.raises(InputError, match=f"{kind.__name__} has from {fewest} to {most} bits, not {bits};"):
            kind(bits)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Direct(1, 0.0), "has no value but 0; give it a limit of at least 1.0, or more bits"),
        (lambda: Direct(8, -1.0), "has no value but 0; give it a limit of at least 0.0078125, or more bits"),
        (lambda: Constant(1), "Constant has from 2 to 2^24 levels, not 1"),
        (lambda: Binary(0.0), "the scale of Binary is a number above 0 or 'glorot', not 0.0"),
        (lambda: Binary("glorto"), "the scale of Binary is a number above 0 or 'glorot', not 'glorto'"),  # type: ignore[arg-type]
        (lambda: FixedPoint(0, 0), "words of 1 to 24 bits, not 0"),
        (lambda: FixedPoint(20, 20), "words of 1 to 24 bits, not 40"),
        (lambda: Affine(old_weight=1.5), "the old_weight of Affine lies in [0, 1], not at 1.5"),
    ],
)
def test_a_format_without_values_is_refused(make: Callable[[], Quantizer], complaint: str) -> None:
    with pytest.raises(InputError, match=re.escape(complaint)):
        make()


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (Affine, "rounding"), (Affine, "scheme"), (Affine, "granularity"), (Affine, "range"), (Symmetric, "rounding"),
        (Symmetric, "granularity"), (Shift, "clip"), (Float, "dtype"), (Binary, "rounding"), (Levels, "grid"),
        (RangeNorm, "constant"), (RangeNorm, "tie"), (ClippedMaster, "scale"),
    ],
)  # fmt: skip
def test_a_misspelt_word_is_refused(kind: type[Quantizer | RangeNorm | ClippedMaster], word: str) -> None:
    """It would be taken for another one without a word."""
    with pytest.raises(InputError, match=f"the {word} of {kind.__name__} is one of '.*', not 'stochastc'"):
        kind(**{word: "stochastc"})


def test_whole_numbers_are_scales_too() -> None:
    x = sample(100)
    assert torch.equal(encode(Binary(2), x).dequantize(), encode(Binary(2.0), x).dequantize())


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


def test_binary_takes_zero_to_plus_one() -> None:
    assert encode(Binary(), torch.tensor([0.0, -0.0, -1e-9])).dequantize().tolist() == [1, 1, -1]


def test_fixed_point_rounds_half_up_and_saturates() -> None:
    value = encode(FixedPoint(2, 1), torch.tensor([0.25, -0.25, 5.0, -5.0, 0.5 - 2**-25])).dequantize()
    assert value.tolist() == [0.5, 0.0, 1.5, -2.0, 0.5]


@every_format
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64], ids=str)
def test_other_types_are_refused(spec: Quantizer, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=r"^x must be float32, got "):
        quantize(torch.ones(4, 3).to(dtype), spec, KEY)


@pytest.mark.parametrize("spec", [Affine(8, granularity="channel"), Symmetric(8, granularity="channel")])
def test_a_number_has_no_channels(spec: Quantizer) -> None:
    with pytest.raises(ValueError, match=r"^a format with a scale per channel takes tensors"):
        quantize(torch.tensor(1.0), spec, KEY)


def test_a_stranger_gets_a_clear_error() -> None:
    class Unknown(Quantizer):
        pass

    with pytest.raises(TypeError, match="no quantizer for Unknown"):
        encode(Unknown(), torch.zeros(3))
    with pytest.raises(TypeError, match="Unknown does not say how many bits it stores"):
        _ = Unknown().bound_bits
