"""Every CUDA source compiles for the architectures in use, without a GPU."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from qbench.kernels.cuda.convolutions import MMA_THREADS
from qbench.kernels.cuda.launch import THREADS
from qbench.kernels.cuda.sources import FILES, KERNELS, OPTIONS, source

OLDEST, *NEWER = ("sm_80", "sm_90", "sm_100")
REGISTERS = 65536
"""Of one multiprocessor."""


@pytest.fixture(scope="session")
def nvrtc() -> Any:
    pytest.importorskip("cupy", reason="CuPy is not installed")
    from cupy.cuda import nvrtc

    try:
        nvrtc.getVersion()
    except RuntimeError as error:
        pytest.skip(f"NVRTC is not installed: {error}")
    return nvrtc


def compiled(
    nvrtc: Any, file: str, kernels: tuple[str, ...], architecture: str, *, intermediate: bool = False
) -> tuple[bytes, str]:
    """The machine code of some of a file's kernels, or their PTX; and what the assembler says of them."""
    if int(architecture.rpartition("_")[2]) not in nvrtc.getSupportedArchs():
        pytest.skip(f"NVRTC {nvrtc.getVersion()} is older than {architecture}")
    program = nvrtc.createProgram(source(file), f"{file}.cu", (), ())
    for kernel in kernels:
        nvrtc.addNameExpression(program, kernel)
    try:
        nvrtc.compileProgram(program, (*OPTIONS, f"--gpu-architecture={architecture}", "--ptxas-options=-v"))
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    for kernel in kernels:
        assert nvrtc.getLoweredName(program, kernel)
    code: bytes = (nvrtc.getPTX if intermediate else nvrtc.getCUBIN)(program)
    return code, nvrtc.getProgramLog(program)


def one_of_each(kernels: tuple[str, ...]) -> tuple[str, ...]:
    """The last instance of every template, and all others."""
    return tuple({kernel.partition("<")[0]: kernel for kernel in kernels}.values())


@pytest.mark.parametrize("architecture", NEWER)
@pytest.mark.parametrize("file", KERNELS)
def test_compiles_without_spilling(nvrtc: Any, file: str, architecture: str) -> None:
    """Nothing in local memory, and as many blocks fit on a multiprocessor as the launchers count on."""
    kernels = one_of_each(KERNELS[file])
    code, log = compiled(nvrtc, file, kernels, architecture)
    assert code
    spilled = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores", log)
    assert len(spilled) == len(kernels) and set(spilled) == {("0", "0")}, log
    threads, blocks = (MMA_THREADS, 2) if file in ("convolution", "weight_gradient") else (THREADS, 2)
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", log)]
    assert max(registers) * threads * blocks <= REGISTERS


@pytest.mark.parametrize("file", KERNELS)
def test_rounds_as_the_other_backends_do(nvrtc: Any, file: str) -> None:
    """Nothing flushes subnormal numbers or approximates, and nothing is fused but inside of exact operations and where
    the source says so, in instructions of its own."""
    code = compiled(nvrtc, file, one_of_each(KERNELS[file]), "compute_90", intermediate=True)[0].decode()
    instructions = re.sub(r"// begin inline asm.*?// end inline asm", "", code, flags=re.DOTALL)
    assert not re.findall(r"\w+(?:\.\w+)*\.(?:ftz|approx)\S*|\bfma\S*|\bmad\S*\.f\d+", instructions)


def test_machine_code_is_kept_and_replaced(nvrtc: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = importlib.import_module("qbench.kernels.cuda.compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls, compile_now = [], compiler.compiled

    def noted(*arguments: Any) -> Any:
        calls.append(arguments)
        return compile_now(*arguments)

    monkeypatch.setattr(compiler, "compiled", noted)
    first, second = (compiler.machine_code("decode<u8>", 90) for _ in range(2))
    assert first == second and calls == [("decode<u8>", 90)]
    assert first.name.startswith("_Z") and first.binary.startswith(b"\x7fELF")
    monkeypatch.setattr(compiler, "OPTIONS", (*OPTIONS, "--define-macro=X"))
    compiler.machine_code("decode<u8>", 90)
    assert len(calls) == 2


def test_machine_code_needs_no_place_to_be_kept(nvrtc: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = importlib.import_module("qbench.kernels.cuda.compiler")
    (tmp_path / "qbench").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiler.machine_code("pack_bits", 80).name == "pack_bits"


def test_machine_code_needs_no_home(nvrtc: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = importlib.import_module("qbench.kernels.cuda.compiler")

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(compiler.Path, "home", nowhere)
    assert compiler.machine_code("pack_bits", 80).name == "pack_bits"


def test_devices_newer_than_the_compiler_get_intermediate_code(nvrtc: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = importlib.import_module("qbench.kernels.cuda.compiler")
    monkeypatch.setattr(compiler.nvrtc, "getSupportedArchs", lambda: (80, 86, 90))
    assert [compiler.architecture(one) for one in (80, 88, 90, 121)] == ["sm_80", "compute_86", "sm_90", "compute_90"]
    code = compiler.compiled("pack_bits", 121)
    assert code.name == "pack_bits" and b".target sm_90" in code.binary


@pytest.mark.slow
@pytest.mark.parametrize("file", KERNELS)
def test_every_instance_compiles(nvrtc: Any, file: str) -> None:
    assert compiled(nvrtc, file, KERNELS[file], OLDEST)[0]


def test_files_and_kernels_match_the_folder() -> None:
    """Every kernel in the sources is listed, and every listed one is there."""
    for file, kernels in KERNELS.items():
        names = set(re.findall(r"__global__ void (?:__launch_bounds__\(.*\)\s+)?(\w+)\(", source(file)))
        assert names == {kernel.partition("<")[0] for kernel in kernels}, file
    assert len(FILES) == sum(len(kernels) for kernels in KERNELS.values())
