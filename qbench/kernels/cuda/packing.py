"""Codes of 1 to 4 bits, packed without gaps: launchers of packing.cu."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cuda.launch import flat_grid, launch
from qbench.kernels.cuda.layout import dense

GROUP = 8
"""Codes per thread: they end at a byte."""


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Flat uint8: element i occupies the bits [i * bits, (i + 1) * bits), lowest bit of a byte first."""
    count, device = codes.numel(), codes.device
    packed = torch.empty(-(-count * bits // 8), dtype=torch.uint8, device=device)
    launch("pack_bits", flat_grid(count, device, per_thread=GROUP), codes, count, bits, packed, device=device)
    return packed


def unpack_bits(packed: Tensor, bits: int, shape: Sequence[int]) -> Tensor:
    """The inverse: uint8 codes of ``shape``."""
    codes, device = dense(shape, torch.uint8, packed.device), packed.device
    count = codes.numel()
    launch("unpack_bits", flat_grid(count, device, per_thread=GROUP), packed, count, bits, codes, device=device)
    return codes
