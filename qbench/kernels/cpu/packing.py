"""Packing of codes in C++: as :mod:`qbench.kernels.reference.packing`, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cpu.calls import call


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Flat uint8."""
    packed = torch.empty((codes.numel() * bits + 7) // 8, dtype=torch.uint8)
    call("pack_bits", codes.data_ptr(), codes.numel(), bits, packed.data_ptr())
    return packed


def unpack_bits(packed: Tensor, bits: int, shape: Sequence[int]) -> Tensor:
    """Codes of ``shape``."""
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    codes = torch.empty(tuple(shape), dtype=torch.uint8, memory_format=layout)
    call("unpack_bits", packed.data_ptr(), codes.numel(), bits, codes.data_ptr())
    return codes
