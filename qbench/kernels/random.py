"""Counter-based random bits: Philox4x32-7 (Salmon et al. 2011, SC'11, "Parallel random
numbers: as easy as 1, 2, 3").

The bits are a pure function of (seed, tensor, step, element index): the same on every device, for every thread
count and batch split, and a run can be resumed or replayed.

A second generator, ``hash``, is cheaper: one 32-bit mixing function of the element index (a bijection from Chris
Wellons' hash-prospector, public domain), offset by a word of Philox that depends on the key. The streams of all keys
are one sequence of 2^32 words, entered at different places, so it is for speed where that is good enough.

Element index: row-major over the dimensions, except that 4-D tensors are indexed in N, H, W, C order whatever their
memory layout, so that channels-last kernels read and count in one direction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor

ROUNDS = 7
MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
MASK = 0xFFFFFFFF
FRACTION_BITS = 24
"""Random bits used per element: what a float32 fraction in [0, 1) can hold."""


Generator = Literal["philox", "hash"]
GENERATORS = ("philox", "hash")
"""The number of a generator in a key's list is its place here."""

INDEX_LOW, INDEX_HIGH = 0x9E3779B1, 0x85EBCA6B
MIX_1, MIX_2 = 0x21F0AAAD, 0x735A2D97


class Key(NamedTuple):
    """What a stream of random bits depends on. Seed, tensor and step are taken modulo 2^32."""

    seed: int
    tensor: int
    step: int
    generator: Generator = "philox"

    def words(self) -> list[int]:
        """[seed, tensor, step, number of the generator]: how the kernels' operators take a key."""
        if self.generator not in GENERATORS:
            raise ValueError(f"a key's generator must be one of {', '.join(GENERATORS)}, got {self.generator!r}")
        return [self.seed & MASK, self.tensor & MASK, self.step & MASK, GENERATORS.index(self.generator)]

    @classmethod
    def of(cls, words: Sequence[int]) -> Key:
        """The key whose :meth:`words` these are."""
        seed, tensor, step, generator = words
        return cls(seed, tensor, step, GENERATORS[generator])  # type: ignore[arg-type]


_elapsed: Tensor | None = None


@contextmanager
def steps_elapsed(count: Tensor) -> Iterator[None]:
    """Within the context, launches on a CUDA device draw the random bits of ``count`` steps later than their keys say.

    What is captured in a CUDA graph has the words of its keys for good. It reads ``count`` (int32, 0-d, on the device)
    whenever it runs, so that each replay can have random bits of its own.
    """
    global _elapsed  # noqa: PLW0603 - autograd launches from threads of its own
    before, _elapsed = _elapsed, count
    try:
        yield
    finally:
        _elapsed = before


def elapsed() -> Tensor | None:
    """The count of :func:`steps_elapsed`, None outside."""
    return _elapsed


def philox(block: Tensor, key: Key) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-7 on counters (block low, block high, step, 0) under the key (seed, tensor).

    block: int64 of any shape, >= 0. Returns four int64 tensors of that shape with values in [0, 2^32).
    """
    c0, c1 = block & MASK, block >> 32
    c2, c3 = torch.full_like(block, key.step & MASK), torch.zeros_like(block)
    if _elapsed is not None:
        c2 = (c2 + _elapsed) & MASK
    k0, k1 = key.seed & MASK, key.tensor & MASK
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, MULTIPLIER_0)
        high1, low1 = _multiply(c2, MULTIPLIER_1)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + WEYL_0) & MASK, (k1 + WEYL_1) & MASK
    return c0, c1, c2, c3


def _multiply(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a * b. Split in 16-bit halves: the 64-bit product would overflow int64's sign."""
    low, high = a & 0xFFFF, a >> 16
    low_product, high_product = low * b, high * b
    carry = high_product + (low_product >> 16)
    return carry >> 16, ((carry & 0xFFFF) << 16) | (low_product & 0xFFFF)


def random_words(count: int, key: Key, device: torch.device | str = "cpu") -> Tensor:
    """``count`` random 32-bit words as int64 in [0, 2^32): word i % 4 of the Philox block i // 4, or hash of i."""
    *_, generator = key.words()
    if GENERATORS[generator] == "hash":
        return hash_words(torch.arange(count, dtype=torch.int64, device=device), key)
    blocks = torch.arange((count + 3) // 4, dtype=torch.int64, device=device)
    return torch.stack(philox(blocks, key), dim=1).flatten()[:count]


def hash_words(index: Tensor, key: Key) -> Tensor:
    """The word of each element index (int64 >= 0): mix(low * 0x9E3779B1 + high * 0x85EBCA6B + k) modulo 2^32, with the
    halves of the index and k the first word of Philox's block 0 under the key."""
    offset = philox(torch.zeros((), dtype=torch.int64, device=index.device), key)[0]
    # Products wrap modulo 2^64 in int64, which leaves the low 32 bits right.
    h = ((index & MASK) * INDEX_LOW + (index >> 32) * INDEX_HIGH + offset) & MASK
    h = ((h ^ (h >> 16)) * MIX_1) & MASK
    h = ((h ^ (h >> 15)) * MIX_2) & MASK
    return h ^ (h >> 15)


def counted(x: Tensor) -> Tensor:
    """``x`` with its dimensions in counting order."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x


def uncounted(y: Tensor, like: Tensor) -> Tensor:
    """The inverse of :func:`counted` for a tensor shaped like ``like``."""
    return y.permute(0, 3, 1, 2) if like.dim() == 4 else y
