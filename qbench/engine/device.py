"""Which device computes, how many cells run at a time, and on how many threads each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qbench.environment import usable_cores
from qbench.errors import DeviceError, InputError
from qbench.variables import check_variables

if TYPE_CHECKING:
    from qbench.suite import Suite

# More threads than this do not load data faster for one GPU.
_GPU_THREADS = 8
_MOST = 1024  # tens of thousands of threads end a process with a signal, as each takes a stack of its own


@dataclass(frozen=True)
class Allotment:
    """jobs: cells trained at a time. threads: CPU threads of each worker, also when it is measured."""

    jobs: int
    threads: int


def check_device(name: str) -> str:
    """The device to use: ``name`` (``cpu``, ``cuda``, ``cuda:1``), or the best there is for ``auto``.

    Raises :class:`DeviceError` where this machine does not have it, and InputError where an environment variable asks
    for what is not here.
    """
    check_variables()
    if name == "cpu":
        return name
    found = re.fullmatch(r"auto|cuda(?::(\d+))?", name)
    if found is None:
        raise DeviceError(f"unknown device '{name}'; use cpu, cuda, cuda:N or auto")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    if not count:
        reason = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch sees no GPU"
        raise DeviceError(f"device '{name}' is not available: {reason}; use --device cpu")
    if int(found[1] or 0) >= count:
        raise DeviceError(f"device '{name}' is not available: this machine has {count} GPU(s), counted from cuda:0")
    return name


def check_kernels(suite: Suite, device: str) -> tuple[str, ...]:
    """What is to be said of the kernels before a run: that something slow has to serve.

    Raises :class:`DeviceError` where ``device`` has none and a method needs them: all its cells would fail of it.
    """
    from qbench.kernels.backends import why_none, why_slow

    if all(entry.recipe().stays_float for entry in suite.entries):
        return ()
    kind = device.partition(":")[0]
    reason = why_none(kind)
    if reason:
        raise DeviceError(f"device '{device}' cannot run the kernels of low precision: {reason}; or use --device cpu")
    slow = why_slow(kind) if suite.arithmetic == "integer" else ""
    return (slow,) if slow else ()


def allot(device: str, jobs: int | None = None, threads: int | None = None) -> Allotment:
    """How to share the machine: on a CPU one thread per cell and a cell per core, on a GPU one cell at a time.

    Raises :class:`InputError` for less than one of either, and for more than a machine survives.
    """
    for value, flag in ((jobs, "--jobs"), (threads, "--threads")):
        if value is not None and value < 1:
            raise InputError(f"{flag}: must be at least 1, not {value}")
        if value is not None and value > max(_MOST, usable_cores()):
            raise InputError(f"{flag}: must be at most {max(_MOST, usable_cores())}, not {value}")
    if device.startswith("cuda"):
        jobs = jobs or 1
        return Allotment(jobs, threads or max(1, min(_GPU_THREADS, usable_cores() // jobs)))
    threads = threads or 1
    return Allotment(jobs or max(1, usable_cores() // threads), threads)
