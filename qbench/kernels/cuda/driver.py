"""Launches on a real device, through CuPy's bindings of the CUDA driver."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Sequence
from typing import Any

import cupy
import torch
from cupy.cuda import driver, runtime
from torch import Tensor

from qbench.kernels.cuda.compiler import machine_code
from qbench.kernels.cuda.launch import Argument, Double, Launch

STATIC_SHARED_BYTES = 48 * 1024
"""Dynamic shared memory beyond this must be asked for."""

MOST_ARGUMENTS = 64


class CupyDriver:
    """Compiles each kernel at its first launch on a device."""

    def __init__(self) -> None:
        self._functions: dict[tuple[int, str], Any] = {}
        self._multiprocessors: dict[int, int] = {}
        self._parameters = Parameters()

    def launch(self, launch: Launch) -> None:
        """Queue one launch on PyTorch's current stream of the launch's device.

        The stream is looked up every time: a kernel on another stream would be missing from a graph being captured.
        """
        index = _index(launch.device)
        before = torch.cuda.current_device()
        runtime.setDevice(index)  # also where it is the current one already: a thread of autograd's has no context yet
        try:
            function = self._function(index, launch.kernel, launch.shared_bytes)
            stream = torch._C._cuda_getCurrentRawStream(index)  # as torch.cuda.current_stream, without an object
            parameters = self._parameters.filled(launch.kernel, launch.arguments)
            driver.launchKernel(
                function.ptr, *launch.grid, launch.threads, 1, 1, launch.shared_bytes, stream, parameters, 0
            )
        finally:
            if before != index:  # through PyTorch, which makes no context on a device that nothing uses
                torch.cuda._maybe_exchange_device(before)

    def multiprocessors(self, device: torch.device) -> int:
        """As the device reports it."""
        index = _index(device)
        if index not in self._multiprocessors:
            self._multiprocessors[index] = torch.cuda.get_device_properties(index).multi_processor_count
        return self._multiprocessors[index]

    def _function(self, index: int, kernel: str, shared_bytes: int) -> Any:
        function = self._functions.get((index, kernel))
        if function is None:
            function = loaded(kernel, index)
            if shared_bytes > STATIC_SHARED_BYTES:
                driver.funcSetAttribute(
                    function.ptr, driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes
                )
            self._functions[index, kernel] = function
        return function


class Parameters(threading.local):
    """A kernel's parameters as the driver takes them: an array of pointers to the values, one array per thread.

    Filled in place, and by a format that is looked up, because a step makes two thousand launches and each converts
    dozens of values.
    """

    def __init__(self) -> None:
        self._values = (ctypes.c_uint64 * MOST_ARGUMENTS)()
        first = ctypes.addressof(self._values)
        self._pointers = (ctypes.c_uint64 * MOST_ARGUMENTS)(*range(first, first + 8 * MOST_ARGUMENTS, 8))
        self._address = ctypes.addressof(self._pointers)
        self._formats: dict[str, struct.Struct] = {}

    def filled(self, kernel: str, arguments: Sequence[Argument]) -> int:
        """The address of the array, valid until the next call; the driver copies the values at a launch.

        Every launch of a kernel has arguments of the same types.
        """
        form = self._formats.get(kernel)
        if form is None:
            assert len(arguments) <= MOST_ARGUMENTS, len(arguments)
            form = self._formats[kernel] = struct.Struct("=" + "".join(map(_format, arguments)))
        values = [x.data_ptr() if isinstance(x, Tensor) else 0 if x is None else x for x in arguments]
        form.pack_into(self._values, 0, *values)
        return self._address


def loaded(kernel: str, index: int) -> Any:
    """The kernel on a device that is the current one."""
    major, minor = torch.cuda.get_device_capability(index)
    code = machine_code(kernel, 10 * major + minor)
    module = cupy.cuda.Module()
    module.load(code.binary)
    return module.get_function(code.name)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _format(argument: Argument) -> str:
    """How it is passed, in eight bytes, as :mod:`struct` has it."""
    if argument is None or isinstance(argument, Tensor):
        return "Q"
    if isinstance(argument, float):
        return "d" if isinstance(argument, Double) else "f4x"
    return "q"
