"""Codes of 1 to 4 bits, packed without gaps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.checks import dense, require_bits, require_type
from qbench.kernels.library import ops

MOST_BITS = 4


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Codes below 2^bits (uint8, any shape) -> flat uint8 of ceil(elements * bits / 8) bytes.

    Element i occupies the bits [i * bits, (i + 1) * bits) of the stream, lowest bit of a byte first; the last byte is
    padded with zeros. Elements count in row-major order, in N, H, W, C order with four dimensions.
    Raises ValueError for bits outside 1 to 4.
    """
    require_type(codes, "codes", torch.uint8)
    require_bits(bits, MOST_BITS)
    result: Tensor = ops.pack_bits(dense(codes), bits)
    return result


def unpack_bits(packed: Tensor, bits: int, shape: Sequence[int]) -> Tensor:
    """The codes (uint8 of ``shape``, channels-last with four dimensions) that :func:`pack_bits` packed.

    Raises ValueError where the number of bytes is not that of such codes.
    """
    require_type(packed, "packed", torch.uint8)
    require_bits(bits, MOST_BITS)
    expected = (math.prod(shape) * bits + 7) // 8
    if packed.shape != (expected,):
        raise ValueError(
            f"codes of shape {tuple(shape)} take {expected} bytes at {bits} bits, got shape {tuple(packed.shape)}"
        )
    result: Tensor = ops.unpack_bits(packed.contiguous(), bits, list(shape))
    return result
