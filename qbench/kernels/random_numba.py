"""The CPU loop of stochastic rounding, compiled by numba and cached on disk. Same bits as the reference.

The functions stand at module level because numba's on-disk cache does not recognise closures in a new process.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

ROUNDS = 7
MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
HALF = np.uint64(32)
TOP_24 = np.uint32(8)
SCALE_24 = np.float32(2**24)
ONE = np.float32(1)


@numba.njit(inline="always")
def _philox(block: Any, seed: Any, tensor: Any, step: Any) -> Any:  # pragma: no cover - compiled
    c0, c1, c2, c3 = np.uint32(block), np.uint32(block >> HALF), step, np.uint32(0)
    k0, k1 = seed, tensor
    for _ in range(ROUNDS):
        product0 = MULTIPLIER_0 * np.uint64(c0)
        product1 = MULTIPLIER_1 * np.uint64(c2)
        c0, c1, c2, c3 = (
            np.uint32(product1 >> HALF) ^ c1 ^ k0,
            np.uint32(product1),
            np.uint32(product0 >> HALF) ^ c3 ^ k1,
            np.uint32(product0),
        )
        k0, k1 = np.uint32(k0 + WEYL_0), np.uint32(k1 + WEYL_1)
    return c0, c1, c2, c3


@numba.njit(inline="always")
def _round(value: Any, word: Any) -> Any:  # pragma: no cover - compiled
    floor = np.floor(value)
    up = np.float32(word >> TOP_24) < (value - floor) * SCALE_24
    return floor + ONE if up else floor


@numba.njit(cache=True, nogil=True)
def stochastic_round_all(
    source: Any, result: Any, seed: Any, tensor: Any, step: Any
) -> None:  # pragma: no cover - compiled
    """Round flat float32 ``source`` into ``result``; element i uses word i % 4 of block i // 4."""
    count = source.size
    for block in range(count // 4):
        w0, w1, w2, w3 = _philox(np.uint64(block), seed, tensor, step)
        i = block * 4
        result[i] = _round(source[i], w0)
        result[i + 1] = _round(source[i + 1], w1)
        result[i + 2] = _round(source[i + 2], w2)
        result[i + 3] = _round(source[i + 3], w3)
    rest = count % 4
    if rest:
        w0, w1, w2, _ = _philox(np.uint64(count // 4), seed, tensor, step)
        i = count - rest
        result[i] = _round(source[i], w0)
        if rest > 1:
            result[i + 1] = _round(source[i + 1], w1)
        if rest > 2:
            result[i + 2] = _round(source[i + 2], w2)
