"""Calls timed in turn, each against a copy of memory made just before it, so that what slows the machine slows both."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch
from bench_intervals import median_interval

Call = Callable[[], object]
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


@dataclass(frozen=True)
class Times:
    """Seconds of a call and of the copy before it, round by round."""

    call: list[float]
    copy: list[float]

    @property
    def seconds(self) -> float:
        """Of the middle round."""
        return median(self.call)

    def per_copy(self) -> list[float]:
        """How many of the calls fit the time of the copy."""
        return [copy / call for call, copy in zip(self.call, self.copy, strict=True)]


def race(calls: Mapping[str, Call], elements: int, rounds: int) -> dict[str, Times]:
    """Time every call against a float32 copy of ``elements`` elements."""
    source, target = torch.randn(elements), torch.empty(elements)
    found = {name: Times([], []) for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            copying, calling = _seconds(lambda: target.copy_(source)), _seconds(call)
            if turn or rounds == 1:  # the first round allocates and compiles
                found[name].copy.append(copying)
                found[name].call.append(calling)
    return found


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratio_of(faster: Times, slower: Times) -> tuple[float, tuple[float, float]]:
    """How many times as fast, round by round relative to the copies: the median and its 95 % interval."""
    ratios = [a / b for a, b in zip(faster.per_copy(), slower.per_copy(), strict=True)]
    return median(ratios), median_interval(ratios)


def copy_ratio(times: Times) -> tuple[float, tuple[float, float]]:
    """Elements per second relative to the copy: the median and its 95 % interval."""
    return median(times.per_copy()), median_interval(times.per_copy())


def keep_freed_memory() -> None:
    """Make glibc keep what is freed: returning it to the system costs page faults at the next call."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
