"""The device of a cell, and which float kernels run on it."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch

from qbench.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator


def find_device(name: str) -> torch.device:
    """The device called ``name``. Raises :class:`DeviceError` when this machine does not have it."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"device '{name}' is not one PyTorch knows; use cpu, cuda or cuda:N") from None
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceError(f"device '{name}' is not here: PyTorch {torch.__version__} sees {count} GPUs; use device cpu")
    return device


@contextmanager
def float_kernels(*, reproducible: bool) -> Iterator[None]:
    """cuDNN's kernels for as long as the context lasts: the same bits every time, or the fastest found by trial.

    TensorFloat-32 is off in both, so that the float32 every method is compared with has float32's 24 bits.
    Does nothing on the CPU.
    """
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=not reproducible, deterministic=reproducible, allow_tf32=False
        ):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def kept_generators(device: torch.device) -> AbstractContextManager[None]:
    """PyTorch's random generators, the CPU's and the device's, are afterwards what they were."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def synchronize(device: torch.device) -> None:
    """Wait until the device has done everything it was given; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
