"""Codes of 1 to 4 bits, packed without gaps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.random import counted


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Flat uint8: element i, in counting order, occupies the bits [i * bits, (i + 1) * bits) of the stream, lowest bit
    of a byte first; the last byte is padded with zeros."""
    places = torch.arange(bits, device=codes.device)
    stream = (counted(codes).reshape(-1, 1).long() >> places & 1).flatten()
    stream = torch.nn.functional.pad(stream, (0, -stream.numel() % 8))
    return (stream.view(-1, 8) << torch.arange(8, device=codes.device)).sum(1).to(torch.uint8)


def marks(truth: Tensor) -> Tensor:
    """A bit for each element, set where it is true."""
    return pack_bits(truth.to(torch.uint8), 1)


def marked(bits: Tensor, like: Tensor) -> Tensor:
    """Which elements of ``like`` have their bit set, bool."""
    return unpack_bits(bits, 1, like.shape).bool()


def unpack_bits(packed: Tensor, bits: int, shape: Sequence[int]) -> Tensor:
    """The inverse: uint8 codes of ``shape``, channels-last where it has four dimensions."""
    codes = torch.empty(tuple(shape), dtype=torch.uint8, device=packed.device)
    stream = (packed.view(-1, 1).long() >> torch.arange(8, device=packed.device) & 1).flatten()
    stream = stream[: codes.numel() * bits].view(-1, bits)
    values = (stream << torch.arange(bits, device=packed.device)).sum(1).to(torch.uint8)
    if codes.dim() != 4:
        return values.view(codes.shape)
    return values.view(counted(codes).shape).permute(0, 3, 1, 2)
