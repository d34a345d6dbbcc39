"""The CPU loops of rounding and encoding, compiled by numba and cached on disk. Same bits as the reference.

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
ONE, ZERO = np.float32(1), np.float32(0)
TINY = np.finfo(np.float32).tiny
"""A smaller scale would divide to infinity."""


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
    for block in range((count + 3) // 4):
        words = _philox(np.uint64(block), seed, tensor, step)
        i = block * 4
        if i + 4 <= count:
            result[i] = _round(source[i], words[0])
            result[i + 1] = _round(source[i + 1], words[1])
            result[i + 2] = _round(source[i + 2], words[2])
            result[i + 3] = _round(source[i + 3], words[3])
        else:
            for j in range(i, count):
                result[j] = _round(source[j], _word(words, j - i))


@numba.njit(inline="always")
def _word(words: Any, place: Any) -> Any:  # pragma: no cover - compiled
    """``words[place]``: a tuple cannot be indexed by a variable here."""
    if place == 0:
        return words[0]
    if place == 1:
        return words[1]
    return words[2] if place == 2 else words[3]


@numba.njit(inline="always")
def _clip(value: Any, low: Any, high: Any) -> Any:  # pragma: no cover - compiled
    if value < low:  # written so that NaN passes
        return low
    return high if value > high else value


@numba.njit(inline="always")
def _affine_parameters(low: Any, high: Any, bits: Any, integer_zero_point: Any) -> Any:  # pragma: no cover - compiled
    steps = np.float32(2.0**bits)
    top = steps - ONE
    if integer_zero_point:
        low = ZERO if low > ZERO else low
        high = ZERO if high < ZERO else high
        scale = (high - low) / steps
        scale = ONE if abs(scale) < TINY else scale
        return scale, _clip(np.rint(-low / scale), ZERO, top), top
    scale = (high - low) / top
    scale = ONE if abs(scale) < TINY else scale
    return scale, -low / scale, top


@numba.njit(cache=True, nogil=True)
def encode_affine_nearest(
    source: Any, result: Any, low: Any, high: Any, bits: Any, integer_zero_point: Any
) -> Any:  # pragma: no cover - compiled
    """Codes of flat float32 ``source``; returns (scale, zero point)."""
    scale, zero_point, top = _affine_parameters(low, high, bits, integer_zero_point)
    for i in range(source.size):
        result[i] = _clip(np.rint(source[i] / scale + zero_point), ZERO, top)
    return scale, zero_point


@numba.njit(cache=True, nogil=True)
def encode_affine_stochastic(
    source: Any, result: Any, low: Any, high: Any, bits: Any, integer_zero_point: Any, seed: Any, tensor: Any, step: Any
) -> Any:  # pragma: no cover - compiled
    """As :func:`encode_affine_nearest`, rounding stochastically; element i uses word i % 4 of block i // 4."""
    scale, zero_point, top = _affine_parameters(low, high, bits, integer_zero_point)
    count = source.size
    for block in range((count + 3) // 4):
        words = _philox(np.uint64(block), seed, tensor, step)
        i = block * 4
        if i + 4 <= count:
            result[i] = _clip(_round(source[i] / scale + zero_point, words[0]), ZERO, top)
            result[i + 1] = _clip(_round(source[i + 1] / scale + zero_point, words[1]), ZERO, top)
            result[i + 2] = _clip(_round(source[i + 2] / scale + zero_point, words[2]), ZERO, top)
            result[i + 3] = _clip(_round(source[i + 3] / scale + zero_point, words[3]), ZERO, top)
        else:
            for j in range(i, count):
                result[j] = _clip(_round(source[j] / scale + zero_point, _word(words, j - i)), ZERO, top)
    return scale, zero_point


@numba.njit(cache=True, nogil=True)
def encode_scaled_nearest(source: Any, result: Any, scale: Any, top: Any) -> None:  # pragma: no cover - compiled
    """clip(round(source / scale), +-top) of a flat float32 array."""
    for i in range(source.size):
        result[i] = _clip(np.rint(source[i] / scale), -top, top)


@numba.njit(cache=True, nogil=True)
def encode_scaled_stochastic(
    source: Any, result: Any, scale: Any, top: Any, seed: Any, tensor: Any, step: Any
) -> None:  # pragma: no cover - compiled
    """As :func:`encode_scaled_nearest`, rounding stochastically."""
    count = source.size
    for block in range((count + 3) // 4):
        words = _philox(np.uint64(block), seed, tensor, step)
        i = block * 4
        if i + 4 <= count:
            result[i] = _clip(_round(source[i] / scale, words[0]), -top, top)
            result[i + 1] = _clip(_round(source[i + 1] / scale, words[1]), -top, top)
            result[i + 2] = _clip(_round(source[i + 2] / scale, words[2]), -top, top)
            result[i + 3] = _clip(_round(source[i + 3] / scale, words[3]), -top, top)
        else:
            for j in range(i, count):
                result[j] = _clip(_round(source[j] / scale, _word(words, j - i)), -top, top)


@numba.njit(cache=True, nogil=True)
def encode_levels(source: Any, result: Any, thresholds: Any) -> None:  # pragma: no cover - compiled
    """result[i] = number of thresholds below source[i], by binary search; NaN gives the last code."""
    count = thresholds.size
    for i in range(source.size):
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if thresholds[middle] < source[i] or source[i] != source[i]:
                low = middle + 1
            else:
                high = middle
        result[i] = low


@numba.njit(cache=True, nogil=True)
def look_up(codes: Any, table: Any, result: Any) -> None:  # pragma: no cover - compiled
    """result[i] = table[codes[i]]."""
    for i in range(codes.size):
        result[i] = table[np.int64(codes[i])]
