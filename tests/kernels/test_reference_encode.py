"""The reference encoders against formulas in numpy, one scalar at a time."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from kernel_cases_encoding import HASH, KEYS, PHILOX, halves
from kernel_matrix import normal, number
from torch import Tensor

from qbench.kernels.checks import dense
from qbench.kernels.random import Key, counted, random_words
from qbench.kernels.reference import encode, packing

F = np.float32


def rounded(value: np.float32, word: int | None) -> float:
    if word is None:
        return float(np.rint(value))
    floor = np.floor(value)
    return float(floor + F(1)) if F(word >> 8) < (value - floor) * F(2**24) else float(floor)


def words_of(count: int, key: list[int] | None) -> list[int | None]:
    return [None] * count if key is None else [int(word) for word in random_words(count, Key.of(key))]


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("integer_zero_point", [True, False])
def test_affine_codes_one_by_one(key: list[int] | None, integer_zero_point: bool) -> None:
    x = normal((3, 5, 4, 6))
    low, high = F(-1.3), F(2.1)
    top = F(255)
    scale = (high - low) / (F(256) if integer_zero_point else top)
    zero = -low / scale
    if integer_zero_point:
        zero = min(max(np.rint(zero), F(0)), top)
    values = counted(x).flatten().numpy()
    expected = [
        min(max(rounded(value / scale + zero, word), 0.0), 255.0)
        for value, word in zip(values, words_of(x.numel(), key), strict=True)
    ]
    codes, found_scale, found_zero = encode.encode_affine(x, number(-1.3), number(2.1), 8, integer_zero_point, key)
    assert counted(codes).flatten().tolist() == expected
    assert found_scale.item() == scale and found_zero.item() == zero


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.0), (-2.0, -0.5)])
def test_zero_point_range_holds_zero(low: float, high: float) -> None:
    codes, scale, zero = encode.encode_affine(torch.tensor([0.0]), number(low), number(high), 8, True, None)
    assert scale.item() == 2.0 / 256
    assert zero.item() == (0 if low > 0 else 255)
    assert codes.item() == zero.item()


@pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
def test_affine_codes_reach_both_ends(bits: int) -> None:
    x = torch.tensor([-1.0, 1.0])
    codes, _, _ = encode.encode_affine(x, number(-1.0), number(1.0), bits, False, None)
    assert codes.tolist() == [0, 2**bits - 1]
    assert codes.dtype == (torch.uint8 if bits <= 8 else torch.int32)


@pytest.mark.parametrize("scheme", [True, False])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_range_that_is_not_finite_poisons(bad: float, scheme: bool) -> None:
    x = torch.tensor([1.0, bad, -2.0])
    low, high = encode.extremes(x)
    codes, scale, zero = encode.encode_affine(x, low, high, 8, scheme, None)
    assert scale.isnan() and zero.item() == 0 and codes.tolist() == [0, 0, 0]


def test_nan_within_a_finite_range_is_code_zero() -> None:
    codes, scale, _ = encode.encode_affine(torch.tensor([1.0, math.nan]), number(-1.0), number(1.0), 8, True, None)
    assert codes.tolist() == [255, 0]
    assert scale.isfinite()


def test_per_channel_ranges_are_the_channels_own() -> None:
    w = normal((3, 4, 2, 2))
    low, high = w.amin((1, 2, 3), keepdim=True), w.amax((1, 2, 3), keepdim=True)
    codes, scale, zero = encode.encode_affine(w, low, high, 8, True, None)
    for k in range(3):
        own, own_scale, own_zero = encode.encode_affine(w[k : k + 1], w[k].min(), w[k].max(), 8, True, None)
        assert torch.equal(codes[k : k + 1], own)
        assert scale[k].item() == own_scale.item() and zero[k].item() == own_zero.item()


@pytest.mark.parametrize("key", [PHILOX, HASH], ids=["philox", "hash"])
def test_scaled_codes_one_by_one(key: list[int]) -> None:
    x = normal((2, 3, 5, 4), scale=3.0)
    scale = F(3.7) / F(127)
    values = counted(x).flatten().numpy()
    expected = [
        min(max(rounded(value / scale, word), -100.0), 99.0)
        for value, word in zip(values, words_of(120, key), strict=True)
    ]
    codes, found = encode.encode_scaled(x, number(3.7), "linear", 127.0, -100.0, 99.0, "stochastic", key, torch.int8)
    assert counted(codes).flatten().tolist() == expected
    assert found.item() == scale


def test_half_up_is_floor_of_value_plus_one_half_in_exact_arithmetic() -> None:
    x = halves()
    codes, _ = encode.encode_scaled(x, number(1.0), "fixed", 1.0, -128.0, 127.0, "half_up", None, torch.int8)
    assert codes.tolist() == [math.floor(Fraction(value) + Fraction(1, 2)) for value in x.tolist()]


def test_nearest_is_half_to_even() -> None:
    x = halves()
    codes, _ = encode.encode_scaled(x, number(1.0), "fixed", 1.0, -128.0, 127.0, "nearest", None, torch.int8)
    assert codes.tolist() == [round(Fraction(value)) for value in x.tolist()]


@pytest.mark.parametrize("exponent", [*range(-149, 127, 23), 126, 127])
def test_power_of_two_rounds_the_exponent(exponent: int) -> None:
    power = 2.0**exponent
    assert encode.power_of_two(number(power)).item() == power
    if exponent > -120:
        root = F(power) * F(2**0.5)
        below = float(np.nextafter(root, F(0)))
        assert encode.power_of_two(number(below)).item() == power
        if exponent < 127:
            assert encode.power_of_two(number(float(root))).item() == 2 * power


def test_power_of_two_of_what_has_none() -> None:
    assert encode.power_of_two(number(0.0)).item() == 1.0
    assert encode.power_of_two(number(math.inf)).isnan() and encode.power_of_two(number(math.nan)).isnan()
    assert encode.power_of_two(number(3.4e38)).item() == 2.0**127


@pytest.mark.parametrize(
    ("dtype", "ends"), [(torch.int8, (-128, 127)), (torch.int16, (-32768, 32767)), (torch.int32, (-(2**24), 2**24))]
)
def test_codes_saturate_at_the_ends_of_their_type(dtype: torch.dtype, ends: tuple[int, int]) -> None:
    x = torch.tensor([-1e30, 1e30, -math.inf, math.inf])
    codes, scale = encode.encode_scaled(x, number(1.0), "fixed", 1.0, -math.inf, math.inf, "nearest", None, dtype)
    assert codes.tolist() == [*ends, *ends]
    assert scale.item() == 1.0


def test_nan_on_a_fixed_grid_poisons_the_scale_and_is_code_zero() -> None:
    x = torch.tensor([3.0, math.nan, -4.0])
    codes, scale = encode.encode_scaled(x, number(1.0), "fixed", 1.0, -8.0, 7.0, "nearest", None, torch.int8)
    assert codes.tolist() == [3, 0, -4] and scale.isnan()


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_zeros_and_subnormals_of_a_linear_scale(key: list[int] | None) -> None:
    for value in (0.0, 2.0**-140):
        x = torch.full((9,), value)
        rounding = "nearest" if key is None else "stochastic"
        codes, scale = encode.encode_scaled(x, number(value), "linear", 127.0, -127.0, 127.0, rounding, key, torch.int8)
        assert scale.item() == 1.0 and not codes.any()


def test_flag_format_one_by_one() -> None:
    """Bits 3: P = 8, coarse unit 2, fine unit 1/2; codes count fine units."""
    x = torch.tensor([7.9, -7.9, 3.1, 2.0, -2.0, 1.99, 1.7, 0.3, 0.2, -0.75, 0.0])
    codes, scale = encode.encode_flag(x, number(7.9), 3)
    assert scale.item() == 0.5
    assert codes.tolist() == [12, -12, 8, 4, -4, 4, 3, 1, 0, -2, 0]
    assert codes.dtype == torch.int16


def test_binary_draws_the_sign_with_its_probability() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0]).repeat_interleave(40_000)
    codes, _ = encode.encode_binary(x, number(1.0), PHILOX)
    share = (codes == 1).double().view(5, -1).mean(1)
    assert set(codes.tolist()) == {-1, 1}
    assert share[0] == 0 and share[4] == 1
    # The standard error of a share is at most 0.0025.
    assert (share[1:4] - torch.tensor([0.25, 0.5, 0.75])).abs().max() < 0.01


def test_binary_nearest_is_the_sign() -> None:
    codes, scale = encode.encode_binary(torch.tensor([-0.1, -0.0, 0.0, 5.0, math.inf]), number(0.3), None)
    assert codes.tolist() == [-1, 1, 1, 1, 1] and scale.item() == number(0.3).item()


def test_levels_count_the_thresholds_below() -> None:
    x = normal((500,))
    thresholds = torch.cat([normal((10,), seed=1), x[:5]]).sort().values
    expected = [sum(float(t) < float(value) for t in thresholds) for value in x]
    assert encode.encode_levels(x, thresholds).tolist() == expected
    assert encode.encode_levels(torch.tensor([math.nan, math.inf, -math.inf]), thresholds).tolist() == [15, 15, 0]


def test_decode_rounds_twice() -> None:
    codes = torch.arange(256).to(torch.uint8)
    zero, scale = F(3.3), F(0.017)
    expected = [float((F(code) - zero) * scale) for code in range(256)]
    assert encode.decode(codes, number(0.017), number(3.3)).tolist() == expected


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(0,), (1,), (29,), (2, 3, 5, 4)], ids=str)
def test_packed_bits_are_numpys(bits: int, shape: tuple[int, ...]) -> None:
    codes = dense(torch.randint(0, 2**bits, shape).to(torch.uint8))
    in_order = counted(codes).flatten().numpy()
    planes = np.unpackbits(in_order[:, None], axis=1, bitorder="little", count=bits)
    expected = np.packbits(planes.flatten(), bitorder="little")
    packed = packing.pack_bits(codes, bits)
    assert packed.tolist() == expected.tolist()
    assert torch.equal(packing.unpack_bits(packed, bits, shape), codes)


@pytest.mark.parametrize("x", [torch.zeros(0), torch.zeros(2, 0, 3, 3)], ids=["flat", "image"])
def test_empty_tensors_have_extremes_of_zero(x: Tensor) -> None:
    assert encode.extremes(x).tolist() == [0.0, 0.0]
