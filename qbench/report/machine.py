"""The machine and the software that results are of, in one line."""

from __future__ import annotations

from collections.abc import Mapping

from qbench.report.text import counted, memory


def machine_line(environment: Mapping[str, object]) -> str:
    """The processor, its cores, threads per process, memory, GPUs, and the versions of torch, Python and qbench."""
    cpu, threads, size, gpus = (environment.get(name) for name in ("cpu", "worker_threads", "memory_bytes", "gpus"))
    parts = [f"{_of(cpu, 'model', 'unknown CPU')}, {_of(cpu, 'cores')} cores"]
    if isinstance(threads, int):
        parts.append(f"{counted(threads, 'thread')} per process")
    if isinstance(size, int):
        parts.append(memory(size))
    parts += [_of(gpu, "name", "a GPU") for gpu in (gpus if isinstance(gpus, list) else ())]
    parts.append(f"torch {_of(environment.get('libraries'), 'torch')}, Python {environment.get('python', '?')}")
    return "; ".join([*parts, f"qbench {_of(environment.get('qbench'), 'version')}"])


def _of(part: object, name: str, unknown: str = "?") -> str:
    """What a part of an environment says; a record may have come from elsewhere."""
    return str(part.get(name, unknown)) if isinstance(part, Mapping) else unknown
