"""The facts that ``qbench doctor`` shows."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from qbench import __version__
from qbench.errors import QbenchError
from qbench.report.text import memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qbench.kernels.backends import Row


@dataclass(frozen=True)
class Fact:
    """One line of the diagnosis; is_fault: something that should work does not."""

    name: str
    text: str
    is_fault: bool = False


def diagnose() -> Iterator[Fact]:
    """Everything worth knowing about this machine before a run."""
    yield Fact("qbench", __version__)
    yield from _machine()
    yield from _torch()
    yield _cupy()
    yield from _kernels()
    yield from _data()


def _machine() -> Iterator[Fact]:
    from qbench.environment import environment

    facts = environment()
    cpu, system = facts["cpu"], facts["os"]
    yield Fact("python", f"{facts['python']} on {system['system']} {system['release']} ({system['machine']})")
    yield Fact("cpu", f"{cpu['model']}, {cpu['cores']} cores, {memory(facts['memory_bytes'])} of memory")
    yield Fact("instructions", " ".join(cpu["flags"]) or "unknown")
    yield Fact("libraries", ", ".join(f"{name} {version}" for name, version in facts["libraries"].items()))


def _torch() -> Iterator[Fact]:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    yield Fact("torch on the CPU", f"{capability} kernels, {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        reason = "this PyTorch is built without CUDA" if torch.version.cuda is None else "no GPU is visible"
        yield Fact("CUDA", f"not available: {reason}")
        return
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield Fact(f"cuda:{index}", f"{device.name}, {memory(device.total_memory)}, CUDA {torch.version.cuda}")


def _cupy() -> Fact:
    """CuPy carries the integer kernels on GPUs; only with a GPU is its absence worth a thought."""
    import torch

    if find_spec("cupy") is None:
        extra = "cuda12" if (torch.version.cuda or "").startswith("12") else "cuda13"
        return Fact("CuPy", f"not installed; only GPUs need it: pip install 'qbench[{extra}]'")
    try:
        cupy = importlib.import_module("cupy")
        return Fact("CuPy", f"{cupy.__version__}, {cupy.cuda.runtime.getDeviceCount()} GPUs")
    except Exception as error:
        return Fact("CuPy", f"installed but not usable: {type(error).__name__}: {error}", torch.cuda.is_available())


def _kernels() -> Iterator[Fact]:
    """Which implementations of the integer kernels this machine has, and which one serves each kernel."""
    from qbench.kernels import backends
    from qbench.variables import check_variables

    for implementation, label in IMPLEMENTATIONS.items():
        yield Fact(label, _presence(implementation))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", backends.KernelWarning)  # what it would say is in the facts below
            check_variables()  # as every run does
            rows = backends.report()
    except Exception as error:  # a forced choice that this machine does not have, for example
        yield Fact("kernels", f"NOT USABLE: {error}", is_fault=True)
        return
    for device in dict.fromkeys(row.device for row in rows):
        differences, failure = _trained(device)
        yield from (_kernel(row, differences.get(row.op)) for row in rows if row.device == device)
        if failure:
            yield Fact(f"training on {device}", f"FAILED: {failure}", is_fault=True)


def _trained(device: str) -> tuple[dict[str, str], str]:
    """Where kernels differ from the reference in short trainings, nothing where the reference is all there is; and why
    the trainings failed, empty where they did not."""
    from qbench.kernels import backends
    from qbench.train import rehearsal

    if backends.candidates(device) == ("reference",) or backends.why_none(device):
        return {}, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", backends.KernelWarning)
            return rehearsal.differences(device), ""
    except Exception as error:  # of a kernel that does not compile or launch: what is known of the others still counts
        return {}, f"{type(error).__name__}: {error}"


IMPLEMENTATIONS = {
    "cpp": "C++ kernels",
    "numba": "numba kernels",
    "onednn": "oneDNN kernels",
    "cuda": "CUDA kernels",
}
"""What an implementation is called here. The reference in PyTorch is always there."""


def _presence(implementation: str) -> str:
    from qbench.kernels import backends, cpu

    reason = backends.why_not(implementation)
    if reason:
        return f"not available: {reason}"
    if implementation != "cpp":
        return "available"
    return f"available; this CPU runs {', '.join(cpu.levels())}"


def _kernel(row: Row, difference: str | None) -> Fact:
    """What serves one kernel. A fault: nothing does, something faster gave wrong sums and was left out, or it differs
    from the reference in training. difference: the first such; empty where none, None where no training calls it."""
    from qbench.kernels import backends

    name = f"kernel {row.op} on {row.device}"
    if row.implementation == "none":
        return Fact(name, f"MISSING: {row.self_test}", is_fault=True)
    order = backends.candidates(row.device)
    verdicts = {other: _verdict(row, other) for other in order[: order.index(row.implementation)]}
    failures = [f"{other} SELF-TEST {verdict}" for other, verdict in verdicts.items() if verdict.startswith("failed")]
    detail = "slow" if row.implementation == "reference" else row.isa
    serves = [f"{row.implementation}{detail and f' ({detail})'}"]
    if row.self_test != "not needed":
        serves.append(f"self-test {row.self_test}")
    if difference:
        failures.append(f"DIFFERS FROM THE REFERENCE in training: {difference}")
    elif row.implementation != "reference":
        serves.extend(_comparison(row, difference))
    return Fact(name, "; ".join([", ".join(serves), *failures]), is_fault=bool(failures))


def _comparison(row: Row, difference: str | None) -> Iterator[str]:
    if difference is not None:
        yield "equal to the reference in training"
    elif row.self_test == "not needed":
        yield "not compared here: no training calls it"


def _verdict(row: Row, implementation: str) -> str:
    from qbench.kernels import backends

    if backends.find(row.op, implementation) is None:
        return ""
    return backends.self_test(row.op, implementation, row.device)


def _data() -> Iterator[Fact]:
    from qbench.data import cache_dir, dataset_names, registry

    cache = cache_dir()
    yield Fact("cache", f"{cache}" + ("" if cache.exists() else " (made when first needed)"))
    for name in dataset_names():
        needs_root = registry.get(name).needs_root
        yield Fact(f"data: {name}", "read from a directory: pass it with --data DIR" if needs_root else _state(name))


def _state(name: str) -> str:
    from qbench.data import dataset_fingerprint

    try:
        return f"available, fingerprint {dataset_fingerprint(name)}"
    except QbenchError as error:
        return f"not available: {error}"
