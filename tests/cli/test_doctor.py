"""``qbench doctor``."""

from __future__ import annotations

import pytest
from verbs import qbench


def test_doctor() -> None:
    result = qbench("doctor")
    assert result.exit_code == 0, result.stdout
    lines = result.stdout.splitlines()
    for fact in ("qbench", "cpu", "libraries", "torch on the CPU", "CuPy", "random bits", "cache", "data: digits"):
        assert any(line.startswith(f"{fact} ") for line in lines)
    for fact in ("C++ kernels", "numba kernels", "oneDNN kernels", "CUDA kernels"):
        assert sum(line.startswith(f"{fact} ") for line in lines) == 1


def test_doctor_reports_a_failed_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    from qbench.kernels import random

    def broken() -> str:
        raise AssertionError("bits differ")

    monkeypatch.setattr(random, "self_test", broken)
    result = qbench("doctor")
    assert result.exit_code == 1
    assert "SELF-TEST FAILED: AssertionError: bits differ" in result.stdout
