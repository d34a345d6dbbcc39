"""A program: the C++ kernels of a library built with sanitizers, at every level, on many of the exactness test's cases.

A read or a write outside an operand ends it with the sanitizer's report: they are PyTorch's memory, which the sanitizer
surrounds with guards. Arguments: the library, the number of drawn seeds, and of how many listed cases one is taken;
``beyond`` in place of the numbers makes one call that reads too far.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator

import torch
from cpu_emulation import LEVELS
from kernel_cases import CASES
from kernel_draws import drawn
from kernel_matrix import Case, Implementation, results

from qbench.kernels import cpu
from qbench.kernels.cpu.calls import call


def cases(seeds: int, step: int) -> Iterator[Case]:
    """Drawn ones, and some of the listed ones that are not long."""
    for seed in range(seeds):
        yield from drawn(seed)
    yield from [case for case in CASES if not case.is_long][::step]


def main(library: str, *numbers: str) -> None:
    loaded = ctypes.CDLL(library)
    cpu.library, cpu.levels = (lambda: loaded), (lambda: LEVELS)  # type: ignore[assignment]
    if numbers == ("beyond",):
        x, ends = torch.zeros(1000), torch.empty(2)
        call("extremes", x.data_ptr(), 1001, ends.data_ptr())
        return
    count = 0
    for case in cases(*map(int, numbers)):
        arguments = case.build()
        for level in LEVELS:
            with cpu.limited_to(level):
                results(Implementation("cpp"), case.op, arguments)
            count += 1
    print(count, "calls")


main(*sys.argv[1:])
