"""Launches on a real device through CuPy."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np
import torch
from torch import Tensor

from qbench.kernels.cuda.launch import Argument, Double, Launch
from qbench.kernels.cuda.sources import FILES, OPTIONS, source

STATIC_SHARED_BYTES = 48 * 1024
"""Dynamic shared memory beyond this must be asked for."""


class CupyDriver:
    """Compiles each kernel at its first launch on a device; CuPy keeps the machine code on disk between processes."""

    def __init__(self) -> None:
        self._functions: dict[tuple[int, str], Any] = {}
        self._multiprocessors: dict[int, int] = {}

    def launch(self, launch: Launch) -> None:
        """Queue one launch on PyTorch's current stream of the launch's device.

        The stream is looked up every time: a kernel on another stream would be missing from a graph being captured.
        """
        index = _index(launch.device)
        with cupy.cuda.Device(index):
            function = self._function(index, launch.kernel, launch.shared_bytes)
            with cupy.cuda.ExternalStream(torch.cuda.current_stream(index).cuda_stream, index):
                arguments = tuple(_passed(argument) for argument in launch.arguments)
                function(launch.grid, (launch.threads, 1, 1), arguments, shared_mem=launch.shared_bytes)

    def multiprocessors(self, device: torch.device) -> int:
        """As the device reports it."""
        index = _index(device)
        if index not in self._multiprocessors:
            self._multiprocessors[index] = torch.cuda.get_device_properties(index).multi_processor_count
        return self._multiprocessors[index]

    def _function(self, index: int, kernel: str, shared_bytes: int) -> Any:
        function = self._functions.get((index, kernel))
        if function is None:
            function = compiled(kernel)
            if shared_bytes > STATIC_SHARED_BYTES:
                function.max_dynamic_shared_size_bytes = shared_bytes
            self._functions[index, kernel] = function
        return function


def compiled(kernel: str) -> Any:
    """The kernel compiled for CuPy's current device, one instance of a template at a time."""
    names = (kernel,) if "<" in kernel else None
    module = cupy.RawModule(code=source(FILES[kernel]), options=OPTIONS, name_expressions=names)
    return module.get_function(kernel)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _passed(argument: Argument) -> Any:
    if argument is None:
        return np.intp(0)
    if isinstance(argument, Tensor):
        return np.intp(argument.data_ptr())
    if isinstance(argument, Double):
        return np.float64(argument)
    return np.float32(argument) if isinstance(argument, float) else np.int64(argument)
