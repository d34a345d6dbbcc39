"""The machine and the software that numbers are made with: captured once per process, part of every record.

No host name, user name or path is taken down, so that records can be published as they are.
"""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from qbench import __version__
from qbench.variables import variables_of_numbers, variables_of_speed

_LIBRARIES = (
    "torch", "numpy", "numba", "scipy", "scikit-learn", "pillow", "matplotlib", "pandas", "pydantic",
    "cupy-cuda13x", "cupy-cuda12x",
)  # fmt: skip
# Results hang on these; the others only shape tables and messages. matplotlib carries the fonts of the glyphs.
_IN_KEYS = ("torch", "numpy", "numba", "scikit-learn", "pillow", "matplotlib")
# These compute on a GPU only: installing one must not make the cells of a CPU run again.
_IN_KEYS_OF_GPUS = ("cupy-cuda13x", "cupy-cuda12x")
# Instruction sets that decide which kernels run.
_ISA = re.compile(r"^(sse4_[12]|avx2?|fma|f16c|avx512\w*|avx_vnni\w*|amx_\w+|asimd\w*|i8mm|bf16|sve2?|sme2?)$")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@cache
def environment() -> dict[str, Any]:
    """Everything that may explain a number, as plain JSON data."""
    return {
        "qbench": {"version": __version__, **_checkout()},
        "python": platform.python_version(),
        "libraries": _versions(_LIBRARIES),
        "os": {"system": platform.system(), "release": platform.release(), "machine": platform.machine()},
        "cpu": {"model": cpu_model(), "cores": num_cores(), "flags": list(cpu_flags())},
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus(),
        "threads": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
        "variables": {k: _nameless(v) for k, v in {**variables_of_numbers(), **variables_of_speed()}.items()},
    }


def library_key(device: str) -> dict[str, str]:
    """Versions that the key of a result on ``device`` holds: another version may give other numbers."""
    names = (*_IN_KEYS, *_IN_KEYS_OF_GPUS) if device.startswith("cuda") else _IN_KEYS
    return {"python": ".".join(map(str, sys.version_info[:2])), **_versions(names)}


def hardware_key(device: str) -> dict[str, Any]:
    """The hardware that a result's key holds: the CPU's model and instruction sets, and the GPU if one computes."""
    key: dict[str, Any] = {"machine": platform.machine(), "cpu": cpu_model(), "flags": list(cpu_flags())}
    if device.startswith("cuda"):
        index = int(device.partition(":")[2] or 0)
        key["gpu"] = gpus()[index : index + 1]
    return key


@cache
def cpu_model() -> str:
    """The CPU's marketing name, or the best the system tells."""
    for field in ("model name", "Model", "cpu model"):
        if found := _cpuinfo(field):
            return found
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    # 64-bit Arm kernels give no name: implementer and part number identify the core.
    arm = " ".join(filter(None, (_cpuinfo("CPU implementer"), _cpuinfo("CPU part"))))
    return f"{platform.machine()} {arm}" if arm else platform.processor() or platform.machine()


@cache
def cpu_flags() -> tuple[str, ...]:
    """The instruction sets that arithmetic can use, sorted."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features") or "").split()
    return tuple(sorted(flag for flag in flags if _ISA.match(flag)))


def num_cores() -> int:
    """CPU cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> int:
    """How many cores this process can keep busy: those it may run on, but no more than its container is granted."""
    return max(1, int(min(num_cores(), _granted_cores())))


def _granted_cores(groups: Path = Path("/sys/fs/cgroup")) -> float:
    """Cores' worth of time that Linux grants the container, by either version of its control groups."""
    one, two = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"), ("cpu.max",)
    for files in (two, one):
        try:
            quota, period = " ".join((groups / file).read_text() for file in files).split()
        except (OSError, ValueError):
            continue
        if quota not in {"max", "-1"}:
            return int(quota) / int(period)
    return math.inf


@cache
def gpus() -> list[dict[str, Any]]:
    """The CUDA GPUs that torch sees: name, compute capability, memory, driver, CUDA version. Empty without one."""
    import torch

    if not torch.cuda.is_available():
        return []
    driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0")
    return [
        {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_bytes": properties.total_memory,
            "driver": driver,
            "cuda": torch.version.cuda,
        }
        for properties in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    ]


def _nameless(value: str) -> str:
    """``value`` with the files that it names, and not the folders, which may be called after somebody."""
    return re.sub(r"[^\s:=]*/", "", value)


def _checkout() -> dict[str, Any]:
    """Commit and dirty flag where qbench runs from its own git checkout; nothing where it is installed."""
    here = Path(__file__).resolve()
    # A virtual environment may lie inside some other project's checkout: only a tracked file is our own.
    if _output("git", "-C", str(here.parent), "ls-files", "--error-unmatch", here.name) is None:
        return {}
    commit = _output("git", "-C", str(here.parent), "rev-parse", "HEAD")
    changes = _output("git", "-C", str(here.parent), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)}


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _cpuinfo(field: str) -> str | None:
    found = re.search(rf"^{re.escape(field)}\s*:\s*(.+)$", _cpuinfo_text(), re.MULTILINE)
    return found[1].strip() if found else None


@cache
def _cpuinfo_text() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _output(*command: str) -> str | None:
    """What ``command`` prints, or None where it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
