"""Launching kernels: what the launchers say, and the driver that carries it out.

The driver can be replaced, so that tests run the same launchers on a machine without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from qbench.kernels.cuda.sources import FILES


class Double(float):
    """A float64 argument."""


Argument = Tensor | int | float | None
"""Tensors are passed as pointers (None as a null pointer), int and bool as int64, float as float32 but for Double."""

THREADS = 256
ELEMENTS_PER_THREAD = 16
"""That a thread takes at a time in elements.cuh: groups of four, several of them under way."""

LOOP_BLOCKS = 24
"""Blocks of THREADS threads for each multiprocessor. It holds 3, 4, 5, 6 or 8 at a time, as a kernel needs registers:
the last ones are as many as those before them, or nearly."""


class Launch(NamedTuple):
    """One kernel launch. grid: blocks along x, y and z; shared_bytes: dynamic shared memory per block."""

    kernel: str
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    arguments: tuple[Argument, ...]
    device: torch.device


class Driver(Protocol):
    """Runs launches, in order, after everything that PyTorch has queued before."""

    def launch(self, launch: Launch) -> None:
        """Queue one launch."""

    def multiprocessors(self, device: torch.device) -> int:
        """How many blocks' worth of hardware there is."""


@cache
def _device_driver() -> Driver:
    """The real one; imported here because CuPy is optional."""
    from qbench.kernels.cuda.driver import CupyDriver

    return CupyDriver()


_replacement: Driver | None = None


def current_driver() -> Driver:
    """The driver that launches go to."""
    return _replacement or _device_driver()


@contextmanager
def driven_by(driver: Driver) -> Iterator[None]:
    """Within the context, launches go to ``driver``."""
    global _replacement  # noqa: PLW0603 - one driver for the process
    before, _replacement = _replacement, driver
    try:
        yield
    finally:
        _replacement = before


def launch(
    kernel: str,
    grid: int | Sequence[int],
    *arguments: Argument,
    device: torch.device,
    threads: int = THREADS,
    shared_bytes: int = 0,
) -> None:
    """Queue one kernel; a grid without blocks does nothing."""
    assert kernel in FILES, kernel
    x, y, z = (grid, 1, 1) if isinstance(grid, int) else (*grid, 1, 1)[:3]
    if x and y and z:
        current_driver().launch(Launch(kernel, (x, y, z), threads, shared_bytes, arguments, device))


def flat_grid(elements: int, device: torch.device, *, per_thread: int = ELEMENTS_PER_THREAD) -> int:
    """Blocks for a loop in which a thread takes ``per_thread`` elements at a time."""
    blocks = -(-elements // (THREADS * per_thread))
    return min(blocks, LOOP_BLOCKS * current_driver().multiprocessors(device))
