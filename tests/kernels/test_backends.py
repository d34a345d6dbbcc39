"""Which implementation serves what: the choice, forcing one, the self-test, the report."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from kernel_matrix import integers
from torch import Tensor

from qbench.kernels import backends, cpu, cuda, onednn, products, selftest
from qbench.kernels.cuda.nvrtc import _load_packaged, packaged
from qbench.kernels.library import ENTRIES, SCHEMAS, ops
from qbench.kernels.reference import products as reference

A, B = integers((3, 70), torch.uint8, 255), integers((70, 4), torch.int8, 127)


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test chooses anew, and leaves nothing chosen."""
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    clear()
    yield
    clear()


def clear() -> None:
    backends.CHOSEN.clear()
    backends.self_test.cache_clear()
    backends.why_not.cache_clear()


def reference_of(op: str) -> Callable[..., Any]:
    function = backends.find(op, "reference")
    assert function is not None
    return function


def saturating(a: Tensor, b: Tensor) -> Tensor:
    """int8 products as CPUs without VNNI add them: pairs of unsigned times signed saturate at 16 bits."""
    total = torch.zeros((a.shape[0], b.shape[1]), dtype=torch.int32)
    shifted = a.int() + 128
    for k in range(0, a.shape[1], 2):
        total += (shifted[:, k : k + 2] @ b[k : k + 2].int()).clamp(-32768, 32767)
    return total - 128 * b.int().sum(0, dtype=torch.int32)


def test_reference_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, "reference")
    products.matmul_s8(A, B)
    assert backends.CHOSEN["matmul", "cpu"] is reference.matmul
    assert {row.implementation for row in backends.report()} == {"reference"}


def test_a_gpu_is_not_touched_before_a_run() -> None:
    """The run's own process would hold memory of it beside its workers."""
    assert backends.why_slow("cuda") == ""


def test_a_self_test_is_for_the_gpu_that_is_to_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[int] = []
    monkeypatch.setattr(torch.cuda, "_exchange_device", current.append)
    monkeypatch.setattr(torch.cuda, "_maybe_exchange_device", lambda index: current.pop())

    def choose(op: str, device: str) -> Callable[..., Any]:
        seen = current.copy()
        return lambda *_: seen

    class OnSecond:
        is_cuda = True

        @staticmethod
        def get_device() -> int:
            return 1

    monkeypatch.setattr(backends, "choose", choose)
    assert ENTRIES["extremes", "cuda"](OnSecond()) == [1]
    assert current == []


def test_choice_comes_back_after_a_forced_one() -> None:
    usual = backends.choose("matmul", "cpu")
    with backends.forced("reference"):
        products.matmul_s8(A, B)
        assert backends.CHOSEN["matmul", "cpu"] is reference.matmul
        backends.choose("extremes", "cpu")
    assert {("matmul", "cpu"): usual} == backends.CHOSEN


def test_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, "cuda12")
    with pytest.raises(ValueError, match="QBENCH_KERNELS=cuda12: choose one of reference, numba, cpp"):
        products.matmul_s8(A, B)


def test_missing_kernels_cannot_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "why_not", lambda: "not built")
    monkeypatch.setenv(backends.VARIABLE, "cpp")
    with pytest.raises(backends.KernelUnavailableError, match=r"QBENCH_KERNELS=cpp, but .* not available: not built"):
        products.matmul_s8(A, B)


@pytest.mark.parametrize("op", selftest.PRODUCTS)
def test_wrong_kernel_is_reported_and_left_out(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = reference_of(op)

    def wrong(*arguments: Any) -> Any:
        result = exact(*arguments)
        first = result if isinstance(result, Tensor) else result[0]
        first[..., -1] += 1
        return result

    usual = backends.find
    monkeypatch.setattr(
        backends, "find", lambda name, where: wrong if (name, where) == (op, "onednn") else usual(name, where)
    )
    monkeypatch.setitem(backends.ORDER, "cpu", ("onednn", "reference"))
    with pytest.warns(backends.KernelWarning, match=f"onednn kernel of {op} fails its self-test"):
        assert backends.choose(op, "cpu") is exact
    assert backends.choose(op, "cpu") is exact  # said once


@pytest.mark.parametrize("op", selftest.PRODUCTS)
def test_saturating_sums_are_found(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert selftest.first_difference(op, getattr(onednn, op), "cpu")


CORNERS: dict[str, Callable[[torch.Size], bool]] = {
    "one channel": lambda shape: shape[len(shape) // 2 - 1] == 1,
    "whole tiles": lambda shape: 16 in shape or 32 in shape,
    "sums beyond int32": lambda shape: max(shape) > 2**14,
}


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("op", selftest.PRODUCTS)
def test_a_kernel_that_is_wrong_in_one_corner_is_found(op: str, corner: str) -> None:
    exact = reference_of(op)

    def wrong(*arguments: Any) -> Any:
        operands = [a for a in arguments if isinstance(a, Tensor) and a.dim() > 1]
        if any(CORNERS[corner](operand.shape) for operand in operands):
            raise ArithmeticError
        return exact(*arguments)

    has_corner = corner != "sums beyond int32" or op.endswith(("_scaled", "_encoded", "_line", "_"))
    assert ("ArithmeticError" in selftest.first_difference(op, wrong, "cpu")) == has_corner


@pytest.mark.parametrize("op", selftest.PRODUCTS)
def test_exact_int8_products_make_every_operator(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code on an int8 product that is exact, which this CPU's may not be."""
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.double() @ b.double()).to(torch.int32))
    assert selftest.first_difference(op, getattr(onednn, op), "cpu") == ""


def test_kernel_that_raises_is_left_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(a: Tensor, b: Tensor) -> Tensor:
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(torch, "_int_mm", broken)
    monkeypatch.setattr(backends, "_why_not_onednn", lambda: "")
    monkeypatch.setitem(backends.ORDER, "cpu", ("onednn", "reference"))
    with pytest.warns(backends.KernelWarning, match=r"onednn kernel of matmul .*could not create a primitive"):
        assert backends.choose("matmul", "cpu") is reference.matmul


NOT_BUILT = r"the C\+\+ kernels are not in use \(not built\): integer products run on "


@pytest.mark.parametrize(
    ("vnni", "loss"), [("no VNNI", "reference, many times slower than float ones"), ("", "onednn, which is slower")]
)
def test_slow_products_say_why(vnni: str, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.double() @ b.double()).to(torch.int32))
    monkeypatch.setattr(cpu, "why_not", lambda: "not built")
    monkeypatch.setattr(backends, "_why_not_onednn", lambda: vnni)
    assert re.fullmatch(NOT_BUILT + loss, backends.why_slow("cpu"))
    with pytest.warns(backends.KernelWarning, match=NOT_BUILT + loss):
        products.matmul_s8(A, B)
    backends.choose("extremes", "cpu")  # no product: nothing is said
    with backends.forced("reference"):
        products.matmul_s8(A, B)
        assert backends.why_slow("cpu") == ""


def test_fastest_products_say_nothing() -> None:
    if backends.why_not("cpp"):
        pytest.skip(backends.why_not("cpp"))
    assert backends.why_slow("cpu") == ""


@pytest.mark.skipif(bool(backends.why_not("cpp")), reason=str(backends.why_not("cpp")))
def test_one_kernel_that_fails_its_self_test_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = backends.self_test

    @cache
    def planted(op: str, implementation: str, device: str) -> str:
        return "failed: planted" if (op, implementation) == ("matmul", "cpp") else usual(op, implementation, device)

    monkeypatch.setattr(backends, "self_test", planted)
    monkeypatch.setattr(backends, "_why_not_onednn", lambda: "no VNNI")
    sentence = "the C++ kernel of matmul failed: planted: reference serves instead, many times slower than float ones"
    assert backends.why_slow("cpu") == sentence
    with pytest.warns(backends.KernelWarning, match="the C\\+\\+ kernel of matmul failed"):
        backends.choose("matmul", "cpu")


def test_what_has_computed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends.in_use() == ()
    monkeypatch.setattr(cpu, "why_not", lambda: "not built")
    monkeypatch.setattr(backends, "_why_not_onednn", lambda: "no VNNI")
    with pytest.warns(backends.KernelWarning):
        products.matmul_s8(A, B)
    backends.choose("look_up", "cpu")
    assert backends.in_use() == ("numba", "reference")


@pytest.mark.skipif(bool(backends.why_not("cpp")), reason=str(backends.why_not("cpp")))
def test_what_has_computed_comes_with_its_instruction_set() -> None:
    products.matmul_s8(A, B)
    with cpu.limited_to("scalar"):
        assert backends.in_use() == ("cpp (scalar)",)


def test_device_without_kernels_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_why_not_cuda", lambda: "no device")
    assert (backends.why_none("cpu"), backends.why_none("cuda")) == ("", "no device")
    with backends.forced("reference"):
        assert backends.why_none("cuda") == ""


def test_gpu_without_the_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cupy", reason="CuPy is not installed")
    from cupy.cuda import nvrtc

    def missing() -> tuple[int, int]:
        raise RuntimeError("CuPy failed to load libnvrtc.so.13\nand more")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    cuda.why_not.cache_clear()
    try:
        monkeypatch.setattr(nvrtc, "getVersion", missing)
        assert re.fullmatch(r"CuPy cannot load NVRTC.*\(CuPy failed to load libnvrtc.so.13\): pip .*", cuda.why_not())
        cuda.why_not.cache_clear()
        monkeypatch.setattr(nvrtc, "getVersion", lambda: (13, 0))
        assert cuda.why_not() == ""
    finally:
        cuda.why_not.cache_clear()


def test_gpu_takes_the_compiler_among_pytorchs_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """CuPy 13 looks in the system's folders alone, but takes a library that is loaded."""
    pytest.importorskip("cupy", reason="CuPy is not installed")
    from cupy.cuda import nvrtc

    loaded: list[str] = []
    library = tmp_path / "cuda_nvrtc" / "lib" / "libnvrtc.so.12"
    library.parent.mkdir(parents=True)
    second_half = library.with_name("libnvrtc-builtins.so.12.8")
    for name in (library.name, second_half.name, "libnvrtc.alt.so.12"):
        library.with_name(name).write_bytes(b"")

    def found() -> tuple[int, int]:
        if str(library) not in loaded:
            raise RuntimeError("CuPy failed to load libnvrtc.so.12")
        return (12, 8)

    packages = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("qbench.kernels.cuda.nvrtc.find_spec", lambda name: packages if name == "nvidia" else None)
    monkeypatch.setattr("qbench.kernels.cuda.nvrtc.ctypes.CDLL", loaded.append)
    monkeypatch.setattr(nvrtc, "getVersion", found)
    _load_packaged.cache_clear()
    try:
        assert cuda._why_no_compiler() == ""
    finally:
        _load_packaged.cache_clear()
    assert loaded == [str(second_half), str(library)]


COMPILES = """
import ctypes, sys
ctypes.CDLL(sys.argv[1])
from qbench.kernels.cuda.compiler import compiled
assert compiled("pack_bits", 90).binary[1:4] == b"ELF"
"""


def test_the_compiler_that_pytorch_has_loaded_is_whole() -> None:
    """By itself it does not find its second half, whose folder it does not know."""
    pytest.importorskip("cupy", reason="CuPy is not installed")
    libraries = packaged("libnvrtc.so.*")
    if not libraries:
        pytest.skip("NVRTC is not among the packages")
    command = [sys.executable, "-c", COMPILES, str(libraries[0])]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.parametrize(("driver", "fits"), [(12080, False), (13000, True), (13020, True), (14000, True)])
def test_gpu_with_an_old_driver_says_which_cupy_it_takes(
    driver: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machine code of a newer major version does not load, whatever the kernel."""
    pytest.importorskip("cupy", reason="CuPy is not installed")
    from cupy.cuda import nvrtc, runtime

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(nvrtc, "getVersion", lambda: (13, 0))
    monkeypatch.setattr(runtime, "driverGetVersion", lambda: driver)
    text = "the driver knows CUDA 12, and CuPy is made for CUDA 13: pip install 'qbench[cuda12]'"
    cuda.why_not.cache_clear()
    try:
        assert cuda.why_not() == ("" if fits else text)
    finally:
        cuda.why_not.cache_clear()


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    assert backends.why_not("numba") == "numba is not installed"
    monkeypatch.delattr(torch.cpu, "_is_vnni_supported", raising=False)
    assert backends.why_not("onednn").endswith("need a CPU with AVX512-VNNI")


def test_operator_whose_only_kernel_is_wrong_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends.ORDER, "cpu", ("cpp",))
    monkeypatch.setattr(backends, "find", lambda op, implementation: reference.matmul)
    monkeypatch.setattr(backends, "self_test", cache(lambda *_: "failed: planted"))
    with pytest.raises(backends.KernelUnavailableError, match=r"on cpu \(cpp: self-test failed: planted\)"):
        backends.choose("matmul", "cpu")


def test_operator_without_a_kernel_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_why_not_cuda", lambda: "no device")
    with pytest.raises(backends.KernelUnavailableError, match=r"no kernel for matmul on cuda .*no device"):
        backends.choose("matmul", "cuda")


def test_report_has_a_row_for_every_operator() -> None:
    rows = backends.report()
    assert [row.op for row in rows if row.device == "cpu"] == list(SCHEMAS)
    for row in rows:
        assert row.implementation in (*backends.ORDER["cpu"], "cuda")
        assert row.self_test == (
            "passed" if row.op in selftest.PRODUCTS and row.implementation != "reference" else "not needed"
        )
        assert bool(row.isa) == (row.implementation in ("cpp", "onednn", "cuda"))


def test_import_computes_nothing_and_needs_no_numba() -> None:
    """Workers are forked from a process that has imported this: a pool of threads made before would hang them."""
    program = (
        "import sys\n"
        "from qbench.kernels import backends, encoding, line_gradient, packing, passes, pooling, products, updates\n"
        "assert backends.CHOSEN == {}\n"
        "loaded = [name for name in ('numba', 'pydantic', 'pandas', 'cupy') if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_operators_are_pytorchs() -> None:
    assert torch.equal(ops.matmul(A, None, B, None, False), products.matmul_s8(A, B))
