"""The reference of bounded activations and their errors against values worked out by hand."""

from __future__ import annotations

import math

import torch

from qbench.kernels.reference.bounded import bounded_values, encode_bounded, encode_bounded_error
from qbench.kernels.reference.packing import unpack_bits

INF, NAN = math.inf, math.nan


def flags(bits: torch.Tensor, count: int) -> list[int]:
    return unpack_bits(bits, 1, [count]).tolist()


def test_relu_masks_and_limit_clips() -> None:
    y = torch.tensor([-2.0, 0.0, 1.0, 2.0, 2.5, NAN, INF, -INF])
    value, passed, unclipped = bounded_values(y, 0.5, None, None, True, 1.0)
    assert torch.equal(value.nan_to_num(9.0), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0, 9.0, 1.0, 0.0]))
    assert flags(passed, 8) == [0, 0, 1, 1, 0, 1, 0, 0]
    assert flags(unclipped, 8) == [1, 1, 1, 1, 0, 1, 0, 1]


def test_without_relu_both_ends_clip() -> None:
    y = torch.tensor([-4.0, -2.0, 0.0, 2.0, 4.0, NAN])
    value, passed, unclipped = bounded_values(y, 0.5, None, None, False, 1.0)
    assert torch.equal(value.nan_to_num(9.0), torch.tensor([-1.0, -1.0, 0.0, 1.0, 1.0, 9.0]))
    assert flags(passed, 6) == flags(unclipped, 6) == [0, 1, 1, 1, 0, 1]


def test_codes_of_a_sum_with_codes() -> None:
    """(1 + 2 * 0.25) / 0.25 = 6; halves to even: 0.875 / 0.25 = 3.5 -> 4."""
    y, trunk = torch.tensor([2.0, 0.75, 9.0]), torch.tensor([2, 2, 2], dtype=torch.int8)
    codes, scale, passed, _ = encode_bounded(y, 0.5, trunk, torch.tensor(0.25), True, 1.75, 0.25, -7.0, 7.0, torch.int8)
    assert codes.tolist() == [6, 4, 7] and scale == 0.25 and flags(passed, 3) == [1, 1, 0]


def test_error_is_scaled_by_what_was_not_clipped_and_zero_where_masked() -> None:
    """The largest unclipped magnitude, 6, is masked by the ReLU: it makes the scale 8 / 4 and has no code itself."""
    g = torch.tensor([100.0, 6.0, 3.0, -5.0])
    passed, unclipped = torch.tensor([0b1100], dtype=torch.uint8), torch.tensor([0b1110], dtype=torch.uint8)
    codes, scale = encode_bounded_error(g, None, None, passed, unclipped, 4.0, 3.0, torch.int8)
    assert scale == 2.0 and codes.tolist() == [0, 0, 2, -2]  # 1.5 -> 2, -2.5 -> -2
    joined = torch.tensor([1, 1, 1, 1], dtype=torch.int16)
    codes, scale = encode_bounded_error(g, joined, torch.tensor(1.0), passed, unclipped, 4.0, 3.0, torch.int8)
    assert scale == 2.0 and codes.tolist() == [0, 0, 2, -2]  # 4 / 2, -4 / 2; 7 makes the same power of two
