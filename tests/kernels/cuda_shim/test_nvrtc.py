"""Every CUDA source compiles for the architectures in use, without a GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

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


def compiled(nvrtc: Any, file: str, kernels: tuple[str, ...], architecture: str) -> bytes:
    """The machine code of some of a file's kernels."""
    program = nvrtc.createProgram(source(file), f"{file}.cu", (), ())
    for kernel in kernels:
        nvrtc.addNameExpression(program, kernel)
    try:
        nvrtc.compileProgram(program, (*OPTIONS, f"--gpu-architecture={architecture}"))
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    for kernel in kernels:
        assert nvrtc.getLoweredName(program, kernel)
    code: bytes = nvrtc.getCUBIN(program)
    return code


def one_of_each(kernels: tuple[str, ...]) -> tuple[str, ...]:
    """The last instance of every template, and all others."""
    return tuple({kernel.partition("<")[0]: kernel for kernel in kernels}.values())


@pytest.mark.parametrize("architecture", NEWER)
@pytest.mark.parametrize("file", KERNELS)
def test_compiles(nvrtc: Any, file: str, architecture: str) -> None:
    assert compiled(nvrtc, file, one_of_each(KERNELS[file]), architecture)


@pytest.mark.slow
@pytest.mark.parametrize("file", KERNELS)
def test_every_instance_compiles(nvrtc: Any, file: str) -> None:
    assert compiled(nvrtc, file, KERNELS[file], OLDEST)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc, which reports registers, is not installed")
@pytest.mark.parametrize("file", ["convolution", "weight_gradient"])
def test_tensor_core_kernels_keep_their_sums_in_registers(file: str, tmp_path: Path) -> None:
    """Nothing spills, and two blocks of 128 threads fit on a multiprocessor."""
    kernel = KERNELS[file][-1]  # the largest tile
    name, arguments = kernel.removesuffix(">").split("<")
    (tmp_path / "kernel.cu").write_text(
        f"{source(file)}\ntemplate __global__ decltype({name}<{arguments}>) {kernel};\n"
    )
    command = ["nvcc", "-arch=sm_90", *OPTIONS, "-cubin", "-Xptxas", "-v", "-o", "kernel.cubin", "kernel.cu"]
    log = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stderr
    spilled = re.findall(r"(\d+) bytes spill stores", log)
    assert spilled and set(spilled) == {"0"}, log
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", log)]
    assert registers and max(registers) * 128 * 2 <= REGISTERS


def test_files_and_kernels_match_the_folder() -> None:
    """Every kernel in the sources is listed, and every listed one is there."""
    for file, kernels in KERNELS.items():
        names = set(re.findall(r"__global__ void (?:__launch_bounds__\(.*\)\s+)?(\w+)\(", source(file)))
        assert names == {kernel.partition("<")[0] for kernel in kernels}, file
    assert len(FILES) == sum(len(kernels) for kernels in KERNELS.values())
