"""Operands of the block kernels that a kernel could not read as they are: made dense, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernel_matrix import spaced
from torch import Tensor

from qbench.kernels.blocks import encode_error, encode_error_pair, range_norm
from qbench.kernels.random import Key

C, KEY = 3, Key(1, 2, 3)


@pytest.mark.parametrize(
    ("encode", "rest"),
    [(encode_error, (8, KEY)), (encode_error_pair, (8, KEY, 127.0, "nearest", None, torch.int8))],
)
def test_errors_of_strided_vectors(encode: Callable[..., tuple[Tensor, ...]], rest: tuple[Any, ...]) -> None:
    codes = torch.arange(2 * C, dtype=torch.uint8).view(2, C)
    vectors = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.0, 0.0, -3.0])
    places = torch.tensor([1, 4]), torch.tensor([7.0, -7.0])
    expected = encode(codes, *vectors, *places, *rest)
    found = encode(codes, *map(spaced, vectors), *map(spaced, places), *rest)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    with pytest.raises(ValueError, match="slope must have one value per channel"):
        encode(codes, vectors[0][:1], vectors[1], *places, *rest)


@pytest.mark.parametrize("shape", [(0, C), (4, 0)])
def test_norm_of_nothing_is_refused(shape: tuple[int, int]) -> None:
    y, vector, end = torch.zeros(shape), torch.ones(shape[1]), torch.zeros(())
    with pytest.raises(ValueError, match="y must have elements"):
        range_norm(y, end, end, 8, None, 1, vector, vector, 1.0, 1e-5, False)
