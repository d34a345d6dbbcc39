"""Environment variables that decide how qbench, and the libraries below it, compute."""

from __future__ import annotations

import os

from qbench.errors import InputError
from qbench.registry import nearest

_OURS = "QBENCH_"
_OF_THE_BUILD = ("QBENCH_NATIVE", "QBENCH_CXXFLAGS")  # of setup.py: they may well stay set

# Other instructions, or fewer bits, in PyTorch's own loops, oneDNN, MKL and cuBLAS: other sums.
_OF_NUMBERS = (
    "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip
# Other allocators, other threads' places and ways to wait: the same sums at another speed.
_OF_SPEED = (
    "LD_PRELOAD", "GLIBC_TUNABLES", "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY", "GOMP_CPU_AFFINITY",
    "GOMP_SPINCOUNT", "KMP_AFFINITY", "KMP_BLOCKTIME", "CUDA_LAUNCH_BLOCKING", "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING",
)  # fmt: skip


def variables_of_numbers() -> dict[str, str]:
    """Those that are set of what makes libraries give other numbers."""
    return _set_of(_OF_NUMBERS)


def variables_of_speed() -> dict[str, str]:
    """Those that are set of what makes the same numbers take another time, or other memory."""
    return _set_of(_OF_SPEED)


def _set_of(names: tuple[str, ...]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def check_variables() -> None:
    """Raises InputError where one asks for kernels that this machine does not have, or for what qbench does not know:
    all that is run would fail of it, one after another; and where one is misspelt, which would change nothing."""
    from qbench.kernels import backends, cpu
    from qbench.train.replay import VARIABLE, is_allowed

    known = [backends.VARIABLE, cpu.ISA_VARIABLE, cpu.LIBRARY_VARIABLE, VARIABLE, *_OF_THE_BUILD]
    for name in sorted(os.environ):
        if name.startswith(_OURS) and name not in known and os.environ[name]:
            raise InputError(f"environment variable {name} is unknown{nearest(name, known)}")
    backends.check_environment()
    is_allowed()
