"""CUDA's compiler, wherever it is installed."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path


def version() -> tuple[int, int]:
    """Of NVRTC, which CuPy can be asked to compile with from then on.

    CuPy 13 finds that of a system's CUDA alone, not the one among the packages that PyTorch needs. It asks for a
    library by a name that one which is loaded already answers to, and so does NVRTC for the second half of itself.

    Raises ImportError or RuntimeError where there is none that CuPy takes.
    """
    from cupy.cuda import nvrtc

    try:
        found: tuple[int, int] = nvrtc.getVersion()
    except RuntimeError:
        for library in _among_packages():
            with suppress(OSError):
                ctypes.CDLL(str(library))
        found = nvrtc.getVersion()
    return found


def _among_packages() -> Iterator[Path]:
    """NVRTC's libraries in NVIDIA's packages, ``cuda_nvrtc`` for CUDA 12 and ``cu13`` for 13, in the order to load."""
    spec = find_spec("nvidia")
    for folder in (spec and spec.submodule_search_locations) or ():
        for name in ("libnvrtc-builtins.so.*", "libnvrtc.so.*"):
            yield from sorted(Path(folder).glob(f"*/lib/{name}"))
