"""What the device can do at best: copies, and matrix products on its tensor cores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gpu_timing import Bench

if TYPE_CHECKING:
    from qbench.kernels.cuda.compiler import Code

SOURCE = Path(__file__).with_name("gpu_peak.cu")
COPIED_BYTES = 2**31
PEAK_BLOCKS_PER_MULTIPROCESSOR = 4
PEAK_THREADS = 256
PEAK_STEPS = 4096
PEAK_PRODUCTS = 8
"""Independent products per step of a warp in gpu_peak.cu, so that none waits for another."""

OPERATIONS = 2.0 * 16 * 8 * 32
"""Of one m16n8k32."""


def measure(bench: Bench) -> None:
    """Rates in GB/s (read and written together) and 10^12 operations per second."""
    size = 2**16 if bench.tiny else COPIED_BYTES
    with bench.noted("copy") as part:
        source = torch.zeros(size, dtype=torch.uint8, device=bench.device)
        target = torch.empty_like(source)
        part["gb_per_s"] = 2 * size / bench.seconds(lambda: target.copy_(source)) / 1e9
    with bench.noted("bf16_matmul") as part:
        part.update(matmul(bench, torch.bfloat16))
    with bench.noted("int8_matmul") as part:
        part.update(matmul(bench, torch.int8))
    if bench.on_gpu:
        with bench.noted("int8_mma") as part:
            part.update(mma_peak(bench))


def matmul(bench: Bench, dtype: torch.dtype) -> dict[str, float]:
    """PyTorch's own product of square matrices (cuBLAS on a GPU). Of random numbers: a GPU needs less power for equal
    ones, and runs faster."""
    n = 64 if bench.tiny else 8192
    a, b = (torch.randint(-128, 128, (n, n), device=bench.device).to(dtype) for _ in range(2))
    b = b.t()
    seconds = bench.seconds(lambda: torch._int_mm(a, b) if dtype == torch.int8 else a @ b)
    return {"tops": 2.0 * n**3 / seconds / 1e12}


def peak_code(capability: int) -> Code:
    """Machine code of gpu_peak.cu. CuPy's own modules give the compiler options of theirs beside ours."""
    from qbench.kernels.cuda.compiler import translated

    return translated(SOURCE.read_text(encoding="utf-8"), SOURCE.name, "mma_peak", capability)


def mma_peak(bench: Bench) -> dict[str, Any]:
    """Nothing but mma.sync from registers: what kernels built on it can reach."""
    import cupy

    from qbench.kernels.cuda.driver import Parameters

    major, minor = torch.cuda.get_device_capability(bench.device)
    code = peak_code(10 * major + minor)
    module = cupy.cuda.Module()
    module.load(code.binary)
    kernel = module.get_function(code.name)
    blocks = PEAK_BLOCKS_PER_MULTIPROCESSOR * torch.cuda.get_device_properties(bench.device).multi_processor_count
    out = torch.zeros(blocks * PEAK_THREADS, dtype=torch.int32, device=bench.device)
    parameters = Parameters()

    def run() -> None:  # as every kernel is launched
        stream, arguments = torch.cuda.current_stream(bench.device).cuda_stream, (PEAK_STEPS, out)
        address = parameters.filled(code.name, arguments)
        cupy.cuda.driver.launchKernel(kernel.ptr, blocks, 1, 1, PEAK_THREADS, 1, 1, 0, stream, address, 0)

    warps = blocks * PEAK_THREADS // 32
    return {"tops": warps * PEAK_STEPS * PEAK_PRODUCTS * OPERATIONS / bench.seconds(run) / 1e12}
