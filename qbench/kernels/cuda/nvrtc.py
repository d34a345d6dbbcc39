"""CUDA's compiler, wherever it is installed."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path


def version() -> tuple[int, int]:
    """Of NVRTC, which CuPy can be asked to compile with from then on.

    CuPy 13 finds that of a system's CUDA alone, not the one among the packages that PyTorch needs, but asks for a
    library by a name that one which is loaded already answers to. So does NVRTC for the second half of itself, which it
    does not find where PyTorch has loaded the first from those packages.

    Raises ImportError or RuntimeError where there is none that CuPy takes.
    """
    from cupy.cuda import nvrtc

    _load_packaged("libnvrtc-builtins.so.*")
    try:
        found: tuple[int, int] = nvrtc.getVersion()
    except RuntimeError:
        _load_packaged("libnvrtc.so.*")
        found = nvrtc.getVersion()
    return found


@cache
def _load_packaged(name: str) -> None:
    """Load libraries of NVIDIA's packages: ``cuda_nvrtc`` for CUDA 12, ``cu13`` for 13."""
    for library in packaged(name):
        with suppress(OSError):
            ctypes.CDLL(str(library))


def packaged(name: str) -> list[Path]:
    """The libraries of that name, a pattern, in NVIDIA's packages."""
    spec = find_spec("nvidia")
    folders = (spec and spec.submodule_search_locations) or ()
    return [library for folder in folders for library in sorted(Path(folder).glob(f"*/lib/{name}"))]
