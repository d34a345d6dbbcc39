"""``qbench doctor``."""

from __future__ import annotations

from verbs import qbench


def test_doctor() -> None:
    result = qbench("doctor")
    assert result.exit_code == 0, result.stdout
    lines = result.stdout.splitlines()
    for fact in ("qbench", "cpu", "libraries", "torch on the CPU", "CuPy", "cache", "data: digits"):
        assert any(line.startswith(f"{fact} ") for line in lines)
    for fact in ("C++ kernels", "numba kernels", "oneDNN kernels", "CUDA kernels"):
        assert sum(line.startswith(f"{fact} ") for line in lines) == 1
