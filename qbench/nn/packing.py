"""Codes without spare bits: how inference keeps binary weights and how checkpoints store every format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qbench.kernels.packing import MOST_BITS, pack_bits, unpack_bits
from qbench.kernels.random import counted, uncounted
from qbench.quant.formats import Binary, Quantizer

WORD = 4
"""Bytes of the integers through which wide codes are packed."""


@dataclass(frozen=True)
class Packing:
    """Codes step * u + lowest, stored as the ``bits``-bit number u, without gaps.

    Element i, in counting order (N, H, W, C with four dimensions), occupies the bits [i * bits, (i + 1) * bits) of the
    stream, lowest bit of a byte first; the last byte is padded with zeros.
    """

    bits: int
    lowest: int
    step: int = 1

    def holds(self, codes: Tensor) -> bool:
        """Whether every code has such a number."""
        if not codes.numel():
            return True
        u = codes.to(torch.int64) - self.lowest
        return bool(((u >= 0) & (u < self.step << self.bits) & (u % self.step == 0)).all())

    def num_bytes(self, shape: Sequence[int]) -> int:
        """Bytes of packed codes of ``shape``."""
        return math.ceil(math.prod(shape) * self.bits / 8)

    def pack(self, codes: Tensor) -> Tensor:
        """Integer codes of any shape -> flat uint8 on the same device."""
        u = (codes.to(torch.int64) - self.lowest) // self.step
        if self.bits <= MOST_BITS:
            return pack_bits(u.to(torch.uint8), self.bits)
        words = counted(u).contiguous().flatten().cpu().numpy().astype(f"<u{WORD}")
        if self.bits % 8 == 0:
            stream = words.view(np.uint8).reshape(-1, WORD)[:, : self.bits // 8].copy()
        else:
            bits = np.unpackbits(words.view(np.uint8).reshape(-1, WORD), axis=1, count=self.bits, bitorder="little")
            stream = np.packbits(bits, bitorder="little")
        return torch.from_numpy(stream.reshape(-1)).to(codes.device)

    def unpack(self, packed: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """The codes that :meth:`pack` packed, dense in counting order.

        Raises ValueError where the number of bytes is not that of such codes.
        """
        if packed.shape != (self.num_bytes(shape),):
            raise ValueError(f"{self.num_bytes(shape)} bytes expected, got shape {tuple(packed.shape)}")
        if self.bits <= MOST_BITS:
            return unpack_bits(packed, self.bits, shape).to(dtype).mul_(self.step).add_(self.lowest)
        like = torch.empty(tuple(shape), device="meta")
        words = self._words(packed.cpu().numpy(), math.prod(shape))
        u = uncounted(torch.from_numpy(words).view(counted(like).shape), like).to(packed.device)
        return u.mul_(self.step).add_(self.lowest).to(dtype)

    def _words(self, stream: np.ndarray, count: int) -> np.ndarray:
        if self.bits % 8 == 0:
            octets = stream.reshape(count, self.bits // 8)
        else:
            bits = np.unpackbits(stream, count=count * self.bits, bitorder="little").reshape(count, self.bits)
            octets = np.packbits(bits, axis=1, bitorder="little")
        padded = np.zeros((count, WORD), np.uint8)
        padded[:, : octets.shape[1]] = octets
        return padded.view(f"<u{WORD}").reshape(-1).astype(np.int64)


def narrow_packing(spec: Quantizer, dtype: torch.dtype) -> Packing:
    """Codes of type ``dtype`` in the format's ``storage_bits``."""
    bits = int(spec.storage_bits)
    if isinstance(spec, Binary):
        return Packing(1, -1, 2)
    return Packing(bits, 0 if dtype == torch.uint8 else -(2 ** (bits - 1)))


def full_packing(dtype: torch.dtype) -> Packing:
    """Codes in all the bits of their type."""
    info = torch.iinfo(dtype)
    return Packing(info.bits, info.min)


def packing_of(spec: Quantizer, codes: Tensor) -> Packing:
    """The narrow packing where it holds every code, else the full one."""
    narrow = narrow_packing(spec, codes.dtype)
    return narrow if narrow.holds(codes) else full_packing(codes.dtype)
