"""Which implementation serves an operator on a device.

CPU: the C++ library, else numba loops, else oneDNN's int8 matrix product, else the reference. CUDA: its own kernels.
Every implementation is a set of modules with plain functions of the operators' names and signatures; one that lacks a
function leaves it to the next. An implementation of an integer product is compared with the reference before its first
use in a process; one that differs is reported by a :class:`KernelWarning` and left out.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType
from typing import Any

import torch

from qbench.errors import InputError

Function = Callable[..., Any]

DEVICES = ("cpu", "cuda")
ORDER = {"cpu": ("cpp", "numba", "onednn", "reference"), "cuda": ("cuda",)}
"""Implementations by device, fastest first."""

FORCIBLE = ("reference", "numba", "cpp")
VARIABLE = "QBENCH_KERNELS"
"""Environment variable that forces one of FORCIBLE."""

FAMILIES = (
    "products", "line_gradient", "encode", "passes", "direct", "bounded", "updates", "packing", "pooling", "range_norm",
    "blocks",
)  # fmt: skip
MODULES = {
    "cpp": tuple(f"qbench.kernels.cpu.{family}" for family in FAMILIES),
    "numba": ("qbench.kernels.numba.encode", "qbench.kernels.numba.blocks"),
    "onednn": ("qbench.kernels.onednn",),
    "reference": tuple(f"qbench.kernels.reference.{family}" for family in FAMILIES),
    "cuda": tuple(f"qbench.kernels.cuda.{family}" for family in FAMILIES),
}

CHOSEN: dict[tuple[str, str], Function] = {}
"""(operator, device) -> the function that serves it, once it has been called."""

_forced: str | None = None


class KernelWarning(UserWarning):
    """An implementation failed its self-test and was left out."""


class KernelUnavailableError(RuntimeError):
    """No implementation serves an operator, or not the one that was asked for."""


@dataclass(frozen=True)
class Row:
    """What serves one operator on one device. isa: instruction set, empty where it plays no part."""

    op: str
    device: str
    implementation: str
    isa: str
    self_test: str


def choose(op: str, device: str) -> Function:
    """The first implementation of ``op`` that is there and passes its self-test, kept for the next call.

    Raises KernelUnavailableError where there is none.
    """
    implementation, function = _first(op, device)
    CHOSEN[op, device] = function
    slow = _slowness(op, device, implementation)
    if slow:
        warnings.warn(slow, KernelWarning, stacklevel=2)  # Python shows one sentence once
    return function


def _first(op: str, device: str) -> tuple[str, Function]:
    reasons = []
    for implementation in candidates(device):
        function = find(op, implementation)
        if function is None:
            reasons.append(f"{implementation}: {why_not(implementation) or 'does not implement it'}")
            continue
        verdict = self_test(op, implementation, device)
        if verdict.startswith("failed"):
            reasons.append(f"{implementation}: self-test {verdict}")
            continue
        return implementation, function
    raise KernelUnavailableError(f"no kernel for {op} on {device} ({'; '.join(reasons)})")


def candidates(device: str) -> tuple[str, ...]:
    """Implementations to try on ``device``, in order: from the forced one on, where one is forced."""
    forced = _forced or os.environ.get(VARIABLE)
    if not forced:
        return ORDER[device]
    if forced not in FORCIBLE:
        raise ValueError(f"{VARIABLE}={forced}: choose one of {', '.join(FORCIBLE)}")
    if forced == "reference":
        return ("reference",)
    if device == "cuda":
        return ORDER[device]
    reason = why_not(forced)
    if reason:
        raise KernelUnavailableError(f"{VARIABLE}={forced}, but these kernels are not available: {reason}")
    return ORDER[device][ORDER[device].index(forced) :]


def check_environment() -> None:
    """Raises InputError where an environment variable asks for kernels that this machine does not have."""
    from qbench.kernels import cpu

    try:
        for device in DEVICES:
            candidates(device)
        if os.environ.get(cpu.LIBRARY_VARIABLE):
            cpu.library()
        if cpu.available():
            cpu.default_isa()
    except (ValueError, KernelUnavailableError, cpu.NativeLibraryError) as error:
        raise InputError(str(error)) from error


@contextmanager
def forced(implementation: str) -> Iterator[None]:
    """Within the context: one of FORCIBLE in place of the choice, as the environment variable does."""
    global _forced  # noqa: PLW0603 - one choice for the process
    before, chosen = _forced, dict(CHOSEN)
    _forced = implementation
    CHOSEN.clear()
    try:
        yield
    finally:
        _forced = before
        CHOSEN.clear()
        CHOSEN.update(chosen)


def find(op: str, implementation: str) -> Function | None:
    """The implementation's function for ``op``; None where it has none or is not available."""
    if why_not(implementation):
        return None
    for name in MODULES[implementation]:
        function = getattr(import_module(name), op, None)
        if isinstance(function, FunctionType):  # a compiled loop may have the name of the operator that it serves
            return function
    return None


@cache
def why_not(implementation: str) -> str:
    """Why an implementation is not available on this machine; empty where it is."""
    if implementation == "cpp":
        from qbench.kernels import cpu

        return cpu.why_not()
    if implementation == "numba":
        return "" if find_spec("numba") else "numba is not installed"
    if implementation == "onednn":
        return _why_not_onednn()
    return _why_not_cuda() if implementation == "cuda" else ""


def _why_not_onednn() -> str:
    # PyTorch has no public question for it; without the private one the answer is no.
    has_vnni = getattr(torch.cpu, "_is_vnni_supported", lambda: False)()
    return "" if has_vnni else "oneDNN's int8 products need a CPU with AVX512-VNNI"


def _why_not_cuda() -> str:
    from qbench.kernels import cuda

    return cuda.why_not()


@cache
def self_test(op: str, implementation: str, device: str) -> str:
    """``passed``, ``failed: ...`` or ``not needed`` (the reference, and operators that are no integer product)."""
    from qbench.kernels import selftest

    function = find(op, implementation)
    if implementation == "reference" or op not in selftest.PRODUCTS or function is None:
        return "not needed"
    difference = selftest.first_difference(op, function, device)
    if not difference:
        return "passed"
    warnings.warn(
        f"the {implementation} kernel of {op} fails its self-test on this machine ({difference}) and is not used",
        KernelWarning,
        stacklevel=2,
    )
    return f"failed: {difference}"


def report() -> list[Row]:
    """What serves every operator on the devices of this machine; runs the self-tests that have not run yet."""
    from qbench.kernels.library import SCHEMAS

    devices = [device for device in DEVICES if device == "cpu" or torch.cuda.is_available()]
    return [_row(op, device) for device in devices for op in SCHEMAS]


def in_use() -> tuple[str, ...]:
    """What has computed in this process so far, fastest first: ``cpp (avx2)``."""
    served = {(device, implementation_of(op, device)) for op, device in CHOSEN}
    order = [(device, name) for device in DEVICES for name in ORDER[device]]
    return tuple(name + _in_brackets(isa(name)) for _, name in sorted(served, key=order.index))


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def why_none(device: str) -> str:
    """Why nothing can compute on ``device``; empty where something can."""
    reasons = [why_not(implementation) for implementation in candidates(device)]
    return "; ".join(reasons) if all(reasons) else ""


def why_slow(device: str) -> str:
    """What integer products on ``device`` lack, and how slow that makes them; empty where nothing, or where other
    kernels were asked for."""
    from qbench.kernels import selftest

    if device == "cuda":
        return ""  # and no self-test, which would take memory of the GPU for as long as the process lives
    found = (_slowness(op, device, _first(op, device)[0]) for op in selftest.PRODUCTS)
    return "; ".join(dict.fromkeys(sentence for sentence in found if sentence))


def _slowness(op: str, device: str, implementation: str) -> str:
    from qbench.kernels import selftest

    if implementation == "cpp" or candidates(device)[0] != "cpp" or op not in selftest.PRODUCTS:
        return ""
    loss = "many times slower than float ones" if implementation == "reference" else "which is slower"
    reason = why_not("cpp")
    if not reason:
        return f"the C++ kernel of {op} {self_test(op, 'cpp', device)}: {implementation} serves instead, {loss}"
    return f"the C++ kernels are not in use ({reason}): integer products run on {implementation}, {loss}"


def _row(op: str, device: str) -> Row:
    try:
        if (op, device) not in CHOSEN:
            choose(op, device)
    except KernelUnavailableError as error:
        return Row(op, device, "none", "", str(error))
    implementation = implementation_of(op, device)
    return Row(op, device, implementation, isa(implementation), self_test(op, implementation, device))


def implementation_of(op: str, device: str) -> str:
    """The implementation that was chosen for ``op``."""
    return next(name for name in candidates(device) if find(op, name) is CHOSEN[op, device])


def isa(implementation: str) -> str:
    """The instruction set that an implementation uses on this machine, where it chooses one."""
    if implementation == "cpp":
        from qbench.kernels import cpu

        return str(cpu.isa())
    if implementation == "onednn":
        return torch.backends.cpu.get_cpu_capability()
    if implementation == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return f"sm_{major}{minor}"
    return ""
