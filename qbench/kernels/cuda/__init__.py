"""CUDA kernels, compiled by NVRTC at their first use on a device and launched through CuPy's bindings of the driver.

Every launcher has the name and signature of its reference (:mod:`qbench.kernels.reference`). Results and scratch memory
come from PyTorch's allocator, kernels run on PyTorch's current stream, and every scale, zero point and range is read on
the device: nothing waits for the host, so a step can be captured in a CUDA graph once it has run (a kernel cannot be
compiled during a capture). The words of a key are arguments of a launch, which a graph repeats; so there a launch adds
a count that lies on the device to its key's step (:func:`qbench.kernels.random.steps_elapsed`).
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch

LEAST_CAPABILITY = (8, 0)
"""Of the instructions used: asynchronous copies and 8-bit matrix products (Ampere)."""


@cache
def why_not() -> str:
    """One sentence on why the kernels cannot run on PyTorch's current CUDA device, and what to do; empty where they
    can."""
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device"
    if find_spec("cupy") is None:
        return "CuPy is not installed: pip install 'qbench[cuda13]' (or 'qbench[cuda12]' with a driver for CUDA 12)"
    lacking = _why_no_compiler()
    if lacking:
        return f"CuPy cannot load NVRTC, CUDA's compiler ({lacking}): pip install 'cupy-cuda13x[ctk]' (or cupy-cuda12x)"
    known, needed = _cuda_versions()
    if known < needed:
        return f"the driver knows CUDA {known}, and CuPy is made for CUDA {needed}: pip install 'qbench[cuda{known}]'"
    capability = torch.cuda.get_device_capability()
    if capability < LEAST_CAPABILITY:
        return f"{torch.cuda.get_device_name()} has compute capability {capability[0]}.{capability[1]}, 8.0 is needed"
    return ""


def _why_no_compiler() -> str:
    from qbench.kernels.cuda import nvrtc

    try:
        nvrtc.version()
    except (ImportError, RuntimeError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return ""


def _cuda_versions() -> tuple[int, int]:
    """The newest major version that the driver knows, and the compiler's, whose machine code an older one refuses."""
    from cupy.cuda import runtime

    from qbench.kernels.cuda import nvrtc

    compiler = nvrtc.version()[0]
    driver = runtime.driverGetVersion() // 1000  # 0 where there is no driver, as for PyTorch's device in a test
    return driver or compiler, compiler
