"""The launchers' driver for machines without a GPU: kernels compiled by g++ against emulation.h.

Every launch works on copies of its tensors, each next to an inaccessible page and with known bytes on its other side,
so that reading or writing beyond a tensor is noticed.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qbench.kernels.cuda.launch import Argument, Double, Launch
from qbench.kernels.cuda.sources import FILES, KERNELS, source

HEADER = Path(__file__).parent / "emulation.h"
FLAGS = (
    "-O1", "-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-w", "-fsanitize=alignment",
)  # fmt: skip
PAGE = mmap.PAGESIZE
VECTOR = 16
CANARY = 0xA5
SIZES = (1, 2, 5)

LETTERS = {
    torch.float32: "F", torch.float64: "D", torch.int8: "B", torch.uint8: "U", torch.int16: "H", torch.int32: "I",
    torch.int64: "L",
}  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


class EmulationError(RuntimeError):
    """A kernel did what a GPU would not allow."""


class EmulatedDriver:
    """seed: of the schedules. multiprocessors: of the device, None for another number at every question, so that work
    is split in many ways. kernels: by file, those to compile. mutate: changes the source text of a file."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 1,
        multiprocessors: int | None = None,
        kernels: Mapping[str, tuple[str, ...]] = KERNELS,
        mutate: Callable[[str, str], str] | None = None,
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.num_multiprocessors = multiprocessors
        self.kernels = kernels
        self.mutate = mutate
        self.questions = seed
        self.launched: list[str] = []
        self._libraries: dict[str, ctypes.CDLL] = {}

    def multiprocessors(self, device: torch.device) -> int:
        if self.num_multiprocessors is not None:
            return self.num_multiprocessors
        self.questions += 1
        return SIZES[self.questions % len(SIZES)]

    def launch(self, launch: Launch) -> None:
        self.launched.append(launch.kernel)
        self.seed += 1
        rng = np.random.default_rng(self.seed)
        places = {id(a): Guarded(a, bool(rng.integers(2))) for a in launch.arguments if isinstance(a, Tensor)}
        slots = np.array([_slot(argument, places) for argument in launch.arguments], dtype=np.uint64)
        letters = "".join(_letter(argument) for argument in launch.arguments)
        failure = self.library(FILES[launch.kernel]).emulated_launch(
            launch.kernel.encode(), (ctypes.c_uint * 3)(*launch.grid), launch.threads, launch.shared_bytes,
            slots.ctypes.data_as(ctypes.POINTER(ctypes.c_uint64)), letters.encode(), ctypes.c_uint64(self.seed),
        )  # fmt: skip
        if failure:
            raise EmulationError(f"{launch.kernel}: {failure.decode()}")
        for guarded in places.values():
            guarded.copy_back(launch.kernel)

    def library(self, file: str) -> ctypes.CDLL:
        """The kernels of one source file, compiled at the first call."""
        if file not in self._libraries:
            text = source(file) if self.mutate is None else self.mutate(file, source(file))
            library = ctypes.CDLL(str(build(text, self.kernels[file], self.folder)))
            library.emulated_launch.restype = ctypes.c_char_p
            self._libraries[file] = library
        return self._libraries[file]


def build(text: str, kernels: tuple[str, ...], folder: Path) -> Path:
    """A shared library of the kernels in one source text, compiled unless it is there from before."""
    entries = [f'if (name == "{kernel}") return emulated::bind({kernel}, slots, letters);' for kernel in kernels]
    program = "\n".join(
        [
            f'#include "{HEADER}"',
            text,
            "emulated::Call bind_kernel(const std::string& name, const uint64_t* slots, const char* letters) {",
            *entries,
            'throw emulated::Failure{"no kernel " + name};',
            "}\n",
        ]
    )
    digest = hashlib.sha256((program + HEADER.read_text() + " ".join(FLAGS)).encode()).hexdigest()[:24]
    library = folder / f"{digest}.so"
    if not library.exists():
        # Names of this process alone: others of the same test run may be at it too.
        program_file, unfinished = (folder / f"{digest}.{os.getpid()}.{kind}" for kind in ("cpp", "unfinished"))
        program_file.write_text(program)
        command = ["g++", *FLAGS, str(program_file), "-o", str(unfinished)]
        result = subprocess.run(command, check=False, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[:4000]
        program_file.unlink()
        unfinished.rename(library)  # at once
    return library


class Guarded:
    """A tensor's memory, copied to where it ends (or begins) at an inaccessible page."""

    def __init__(self, tensor: Tensor, at_end: bool) -> None:
        self.tensor = tensor
        self.num_bytes = _extent(tensor)
        pages = -(-(self.num_bytes + VECTOR) // PAGE)
        self._map = mmap.mmap(-1, (pages + 2) * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        _protect(base)
        _protect(base + (pages + 1) * PAGE)
        # The same place within 16 bytes as before: kernels choose their accesses by it.
        start = tensor.data_ptr() % VECTOR
        if at_end:
            last = pages * PAGE - self.num_bytes
            start = last - (last - start) % VECTOR
        self.address = base + PAGE + start
        whole = np.frombuffer(self._map, dtype=np.uint8)[PAGE : (pages + 1) * PAGE]
        whole[:] = CANARY
        self._around = (whole[:start], whole[start + self.num_bytes :])
        ctypes.memmove(self.address, tensor.data_ptr(), self.num_bytes)

    def copy_back(self, kernel: str) -> None:
        if any((side != CANARY).any() for side in self._around):
            raise EmulationError(f"{kernel} wrote outside of a tensor of shape {tuple(self.tensor.shape)}")
        ctypes.memmove(self.tensor.data_ptr(), self.address, self.num_bytes)


def _extent(tensor: Tensor) -> int:
    """Bytes from the first to behind the last element."""
    if not tensor.numel():
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return int(last + 1) * tensor.element_size()


def _protect(address: int) -> None:
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")


def _slot(argument: Argument, places: Mapping[int, Guarded]) -> int:
    if argument is None:
        return 0
    if isinstance(argument, Tensor):
        return places[id(argument)].address
    if isinstance(argument, Double):
        return int(np.float64(argument).view(np.uint64))
    if isinstance(argument, float):
        return int(np.float32(argument).view(np.uint32))
    return int(argument) % 2**64


def _letter(argument: Argument) -> str:
    if argument is None:
        return "n"
    if isinstance(argument, Tensor):
        return LETTERS[argument.dtype]
    if isinstance(argument, Double):
        return "d"
    return "f" if isinstance(argument, float) else "i"
