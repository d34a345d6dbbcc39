"""The loops of encoding in Python, compiled by numba and cached on disk. Same bits as the reference.

The functions stand at module level because numba's on-disk cache does not recognise closures in a new process.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

ROUNDS = 7
MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
INDEX_LOW, INDEX_HIGH = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B)
MIX_1, MIX_2 = np.uint32(0x21F0AAAD), np.uint32(0x735A2D97)
SHIFT_15, SHIFT_16 = np.uint32(15), np.uint32(16)
HALF = np.uint64(32)
TOP_24 = np.uint32(8)
SCALE_24 = np.float32(2**24)
ONE, ZERO, ONE_HALF = np.float32(1), np.float32(0), np.float32(0.5)


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
def _word(words: Any, place: Any) -> Any:  # pragma: no cover - compiled
    """``words[place]``: a tuple cannot be indexed by a variable here."""
    if place == 0:
        return words[0]
    if place == 1:
        return words[1]
    return words[2] if place == 2 else words[3]


@numba.njit(inline="always")
def _hash(index: Any, offset: Any) -> Any:  # pragma: no cover - compiled
    h = np.uint32(np.uint32(index) * INDEX_LOW + np.uint32(np.uint64(index) >> HALF) * INDEX_HIGH + offset)
    h = np.uint32((h ^ (h >> SHIFT_16)) * MIX_1)
    h = np.uint32((h ^ (h >> SHIFT_15)) * MIX_2)
    return np.uint32(h ^ (h >> SHIFT_15))


@numba.njit(inline="always")
def _round(value: Any, word: Any) -> Any:  # pragma: no cover - compiled
    floor = np.floor(value)
    up = np.float32(word >> TOP_24) < (value - floor) * SCALE_24
    return floor + ONE if up else floor


@numba.njit(inline="always")
def _clip(value: Any, low: Any, high: Any) -> Any:  # pragma: no cover - compiled
    """0 for NaN."""
    return min(max(ZERO if np.isnan(value) else value, low), high)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def encode_nearest(
    source: Any, result: Any, scale: Any, zero: Any, low: Any, high: Any, half_up: Any
) -> Any:  # pragma: no cover - compiled
    """result = clip(round(source / scale + zero), low, high), half to even or half up; whether a NaN was met."""
    nan = False
    for i in range(source.size):
        nan |= source[i] != source[i]
        value = source[i] / scale + zero
        if half_up:
            floor = np.floor(value)
            rounded = floor + ONE if value - floor >= ONE_HALF else floor
        else:
            rounded = np.rint(value)
        result[i] = _clip(rounded, low, high)
    return nan


@numba.njit(cache=True, nogil=True, error_model="numpy")
def encode_philox(
    source: Any, result: Any, scale: Any, zero: Any, low: Any, high: Any, seed: Any, tensor: Any, step: Any
) -> Any:  # pragma: no cover - compiled
    """As :func:`encode_nearest`, rounding stochastically; element i uses word i % 4 of block i // 4."""
    nan, count = False, source.size
    for block in range((count + 3) // 4):
        words = _philox(np.uint64(block), seed, tensor, step)
        for i in range(block * 4, min(block * 4 + 4, count)):
            nan |= source[i] != source[i]
            result[i] = _clip(_round(source[i] / scale + zero, _word(words, i & 3)), low, high)
    return nan


@numba.njit(cache=True, nogil=True, error_model="numpy")
def encode_hash(
    source: Any, result: Any, scale: Any, zero: Any, low: Any, high: Any, seed: Any, tensor: Any, step: Any
) -> Any:  # pragma: no cover - compiled
    """As :func:`encode_nearest`, rounding stochastically with the cheaper generator."""
    nan = False
    offset = _philox(np.uint64(0), seed, tensor, step)[0]
    for i in range(source.size):
        nan |= source[i] != source[i]
        result[i] = _clip(_round(source[i] / scale + zero, _hash(i, offset)), low, high)
    return nan


@numba.njit(cache=True, nogil=True, error_model="numpy")
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


@numba.njit(cache=True, nogil=True, error_model="numpy")
def look_up(codes: Any, table: Any, result: Any) -> None:  # pragma: no cover - compiled
    """result[i] = table[codes[i]]."""
    for i in range(codes.size):
        result[i] = table[codes[i]]
