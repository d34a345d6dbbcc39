"""What ``qbench doctor`` says about the integer kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from qbench.cli.diagnosis import Fact, _kernels
from qbench.kernels import backends, cpu
from qbench.kernels.library import SCHEMAS
from qbench.kernels.reference import products as reference
from qbench.train import rehearsal

pytestmark = pytest.mark.usefixtures("forget_kernels")


@pytest.fixture
def few_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """One product and one other kernel: enough to see how they are shown."""
    for op in set(SCHEMAS) - {"matmul", "extremes"}:
        monkeypatch.delitem(SCHEMAS, op)
    monkeypatch.setattr(rehearsal, "differences", lambda device: {})


def facts() -> dict[str, Fact]:
    return {fact.name: fact for fact in _kernels()}


def test_every_kernel_is_shown_with_what_serves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, "reference")  # quick: nothing to test
    shown = facts()
    for op in SCHEMAS:
        assert shown[f"kernel {op} on cpu"] == Fact(f"kernel {op} on cpu", "reference (slow)")


@pytest.mark.usefixtures("few_kernels")
def test_missing_library_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "why_not", lambda: "no compiler was found")
    monkeypatch.setattr(cpu, "available", lambda: False)
    shown = facts()
    assert shown["C++ kernels"] == Fact("C++ kernels", "not available: no compiler was found")
    assert not shown["kernel matmul on cpu"].text.startswith("cpp")
    assert not any(fact.is_fault for fact in shown.values())


@pytest.mark.usefixtures("few_kernels")
def test_library_is_shown_with_its_instruction_sets(
    monkeypatch: pytest.MonkeyPatch, forget_kernels: Callable[[], None]
) -> None:
    if not cpu.available():
        pytest.skip(f"the C++ kernels are not here: {cpu.why_not()}")
    assert facts()["C++ kernels"].text == f"available; this CPU runs {', '.join(cpu.levels())}"
    monkeypatch.setenv(cpu.ISA_VARIABLE, "scalar")
    forget_kernels()
    assert facts()["kernel extremes on cpu"].text == "cpp (scalar), not compared here: no training calls it"


@pytest.mark.usefixtures("few_kernels")
def test_kernel_that_gives_wrong_sums_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    find, exact = backends.find, reference.matmul

    def wrong(*arguments: Any) -> Tensor:
        return exact(*arguments) + 1

    def found(op: str, implementation: str) -> Callable[..., Any] | None:
        return wrong if (op, implementation) == ("matmul", "numba") else find(op, implementation)

    monkeypatch.setattr(backends, "find", found)
    monkeypatch.setitem(backends.ORDER, "cpu", ("numba", "reference"))
    fact = facts()["kernel matmul on cpu"]
    assert fact.is_fault
    assert fact.text.startswith("reference (slow); numba SELF-TEST failed: uint8 255 times int8 127: ")


@pytest.mark.usefixtures("few_kernels")
def test_kernel_that_differs_in_training_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    if not cpu.available():
        pytest.skip(f"the C++ kernels are not here: {cpu.why_not()}")
    monkeypatch.setattr(rehearsal, "differences", lambda device: {"extremes": "1.0 instead of 2.0"})
    fact = facts()["kernel extremes on cpu"]
    assert fact.is_fault
    assert fact.text.endswith("; DIFFERS FROM THE REFERENCE in training: 1.0 instead of 2.0")
    monkeypatch.setattr(rehearsal, "differences", lambda device: {"extremes": ""})
    assert facts()["kernel extremes on cpu"].text.endswith(", equal to the reference in training")


@pytest.mark.usefixtures("few_kernels")
def test_kernel_that_nothing_serves_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends.ORDER, "cpu", ())
    fact = facts()["kernel matmul on cpu"]
    assert fact.is_fault
    assert fact.text.startswith("MISSING: no kernel for matmul on cpu")


@pytest.mark.usefixtures("few_kernels")
def test_trainings_that_fail_are_a_fault_beside_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def differences(device: str) -> dict[str, str]:
        raise RuntimeError("invalid device function")

    monkeypatch.setattr(rehearsal, "differences", differences)
    shown = facts()
    assert shown["training on cpu"] == Fact("training on cpu", "FAILED: RuntimeError: invalid device function", True)
    assert {"kernel matmul on cpu", "kernel extremes on cpu"} < shown.keys()


@pytest.mark.usefixtures("few_kernels")
def test_a_gpu_without_kernels_leaves_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    why_not = backends.why_not
    monkeypatch.setattr(backends, "why_not", lambda name: "CuPy is not installed" if name == "cuda" else why_not(name))
    shown = facts()
    assert shown["kernel matmul on cuda"].text.startswith("MISSING: no kernel for matmul on cuda (cuda: CuPy is not ")
    assert not shown["kernel matmul on cpu"].is_fault
    assert "training on cuda" not in shown


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (backends.VARIABLE, "fastest", "QBENCH_KERNELS=fastest: choose one of reference, numba, cpp"),
        (cpu.ISA_VARIABLE, "sse9", "QBENCH_ISA=sse9: unknown; choose one of"),
    ],
)
def test_choice_that_does_not_exist_is_a_fault(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable == cpu.ISA_VARIABLE and not cpu.available():
        pytest.skip(f"the C++ kernels are not here: {cpu.why_not()}")
    monkeypatch.setenv(variable, value)
    fact = facts()["kernels"]
    assert fact.is_fault
    assert fact.text.startswith(f"NOT USABLE: {message}")
