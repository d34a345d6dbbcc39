"""Sections on whether the kernels are exact."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from gpu_layers import Layer, layers, line_of, operands, wide_errors
from gpu_timing import Bench
from kernel_cases import CASES
from kernel_draws import drawn
from kernel_matrix import Case, Implementation, difference, results, unaligned
from torch import Tensor

from qbench.kernels import backends
from qbench.kernels.cuda.sources import FILES
from qbench.kernels.random import steps_elapsed
from qbench.kernels.selftest import outcome

FAILURES_KEPT = 30
DRAWS = 50
"""Seeds of drawn shapes."""

UNALIGNED_STEP = 20
"""Of the cases, every so many-th is tried in unaligned memory too."""

TINY_STEP = 40
"""Of the cases, every so many-th is tried where sizes are tiny."""

PROCESSES = 16


def compile_all(bench: Bench) -> None:
    """Every kernel, compiled in several processes: machine code stays on disk for the sections that follow."""
    if not bench.on_gpu:
        bench.results["skipped"] = "the CPU's kernels are compiled already"
        return
    failures: list[str] = []
    kernels: dict[str, dict[str, Any]] = {}
    bench.results |= {"failures": failures, "spills": [], "kernels": kernels}
    index = torch.cuda.current_device()
    major, minor = torch.cuda.get_device_capability(index)
    with compilers() as pool:
        futures = {pool.submit(compile_one, kernel, 10 * major + minor): kernel for kernel in FILES}
        for future in as_completed(futures):
            kernel = futures[future]
            try:
                kernels[kernel] = {"seconds": future.result(), **resources(kernel, index)}
            except Exception as error:  # CuPy's own hierarchy; one kernel must not hide the others
                kernels[kernel] = {"error": f"{type(error).__name__}: {error}"[:2000]}
                failures.append(kernel)
            if kernels[kernel].get("local_bytes"):
                bench.results["spills"].append(kernel)
            bench.check_time()
    bench.results["compile_seconds"] = sum(facts.get("seconds", 0.0) for facts in kernels.values())


@contextmanager
def compilers() -> Iterator[ProcessPoolExecutor]:
    """Processes; what none has begun when the context ends is left."""
    pool = ProcessPoolExecutor(min(PROCESSES, os.cpu_count() or 1), mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def compile_one(kernel: str, capability: int) -> float:
    """Seconds that a kernel takes to compile; needs no device."""
    from qbench.kernels.cuda.compiler import machine_code

    start = time.monotonic()
    machine_code(kernel, capability)
    return time.monotonic() - start


def resources(kernel: str, index: int) -> dict[str, int]:
    """Registers per thread and bytes of local and static shared memory, as the device's driver counts them."""
    from cupy.cuda import driver

    from qbench.kernels.cuda.driver import loaded

    function = loaded(kernel, index)  # its module is unloaded with it, and the pointer is then nobody's
    return {
        "registers": driver.funcGetAttribute(driver.CU_FUNC_ATTRIBUTE_NUM_REGS, function.ptr),
        "local_bytes": driver.funcGetAttribute(driver.CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, function.ptr),
        "shared_bytes": driver.funcGetAttribute(driver.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function.ptr),
    }


def all_cases(bench: Bench) -> None:
    """Every case of the exactness test against the reference on the CPU, as many shapes as a few seeds draw, and some
    of each operator in memory that starts between two vectors."""
    tested, wrong = Implementation(bench.implementation), Implementation("reference")
    failures = bench.kept("failures", [])
    bench.results |= {"cases": bench.kept("cases", 0), "failed": bench.kept("failed", 0)}
    bench.results["by_op"] = counts = Counter(bench.kept("by_op", {}))
    for label, case, arguments in cases_of(bench):
        if not bench.start(label, case.op):
            continue
        counts[case.op] += 1
        bench.results["cases"] += 1
        text = compared(bench, case, arguments(), tested, wrong)
        bench.results["failed"] += bool(text)
        if text and len(failures) < FAILURES_KEPT:
            failures.append(f"{label}: {text}")
    bench.done()


def cases_of(bench: Bench) -> Iterator[tuple[str, Case, Callable[[], list[Any]]]]:
    """What to call it, and its arguments: the listed ones, then the drawn ones, then those of unaligned memory."""
    step = TINY_STEP if bench.tiny else 1
    for case in CASES[::step]:
        yield str(case), case, case.arguments
    for seed in range(1 if bench.tiny else DRAWS):
        for case in drawn(seed):
            yield f"{case}, seed {seed}", case, case.arguments
    for case in CASES[:: step * UNALIGNED_STEP]:
        yield f"{case}, unaligned", case, partial(unaligned, case)


def compared(bench: Bench, case: Case, arguments: list[Any], tested: Implementation, reference: Implementation) -> str:
    """Where an implementation differs from the reference; empty where nowhere."""
    expected = results(reference, case.op, arguments)
    try:
        return difference(expected, results(tested, case.op, arguments), case.relative)
    except Exception as error:  # whatever it is, one case must not hide the others
        bench.look_after(error)
        return f"{type(error).__name__}: {error}"[:300]


def real_sizes(bench: Bench) -> None:
    """Layers of ResNet-50 against the reference on the same device, and twice the same bits."""
    failures = bench.kept("failures", [])
    bench.kept("products", 0)
    for layer in layers(bench):
        for op, arguments in products(layer, bench):
            if not bench.start(f"{op} of {layer.name}", op):
                continue
            failures += [f"{op} of {layer.name} {text}" for text in mistakes(bench, op, arguments)]
            bench.results["products"] += 1
    bench.done()


def mistakes(bench: Bench, op: str, arguments: tuple[Any, ...]) -> Iterator[str]:
    """What is wrong with a product."""
    reference = backends.find(op, "reference")
    assert reference is not None
    try:
        first, second = (outcome(bench.function(op), arguments) for _ in range(2))
        if not same(outcome(reference, arguments), first):
            yield "differs from the reference"
        if not same(first, second):
            yield "is not reproducible"
    except Exception as error:  # one product must not hide the others
        bench.look_after(error)
        yield f"fails: {type(error).__name__}: {error}"[:300]


def products(layer: Layer, bench: Bench) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The products of a layer that are not left as integers, on codes with zero points."""
    x, w, e = operands(layer, bench)
    scale, zero = (torch.tensor(value, device=bench.device) for value in (0.013, 117.0))
    geometry = layer.geometry
    yield "conv2d_scaled", (x, zero, scale, w, None, scale, None, *geometry)
    ends = (torch.tensor(value, device=bench.device) for value in (-30.0, 50.0))
    yield "conv2d_encoded", (x, zero, scale, w, None, scale, None, *geometry, *ends, 8, True)
    yield "conv2d_input_grad_scaled", (e, zero, scale, w, None, scale, list(x.shape), *geometry)
    total = torch.linspace(-9, 9, x.numel(), device=bench.device).view(x.shape)
    total = total.contiguous(memory_format=torch.channels_last)
    yield "add_conv2d_input_grad_", (total, e, zero, scale, w, None, scale, *geometry)
    yield "conv2d_weight_grad_scaled", (x, zero, scale, e, zero, scale, list(w.shape), *geometry)
    wide = wide_errors(e)
    yield "conv2d_weight_grad_scaled", (x, zero, scale, wide, None, scale, list(w.shape), *geometry)
    yield "conv2d_weight_grad_line", (x, zero, scale, e, *line_of(e), list(w.shape), *geometry)


def same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    """Equality of results."""
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def graphs(bench: Bench) -> None:
    """A chain of kernels captured in a CUDA graph and replayed on new data, with the random bits of later steps; no
    launch waits for the host."""
    failures: list[str] = []
    bench.results["failures"] = failures
    generator = torch.Generator().manual_seed(5)
    inputs = [torch.randn((4, 32, 14, 14), generator=generator) for _ in range(3)]
    x = inputs[0].to(bench.device, memory_format=torch.channels_last)
    w = torch.randn((48, 32, 3, 3), generator=generator).to(bench.device, memory_format=torch.channels_last)
    if not bench.on_gpu:
        bench.results["skipped"] = "graphs are CUDA's"
        assert all(torch.equal(a, b) for a, b in zip(chain(bench, x, w), chain(bench, x, w), strict=True))
        return
    expected = []
    for number, values in enumerate(inputs):
        x.copy_(values)
        expected.append([value.clone() for value in chain(bench, x, w, step=number)])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    elapsed = torch.zeros((), dtype=torch.int32, device=bench.device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with steps_elapsed(elapsed), torch.cuda.graph(graph):
            captured = chain(bench, x, w)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for number, (values, wanted) in enumerate(zip(inputs, expected, strict=True)):
        x.copy_(values)
        elapsed.fill_(number)
        graph.replay()
        if not all(torch.equal(a, b) for a, b in zip(wanted, captured, strict=True)):
            failures.append(f"replay {number} differs from eager execution")


def chain(bench: Bench, x: Tensor, w: Tensor, step: int = 0) -> list[Tensor]:
    """Quantise both operands, multiply, quantise the result, and take the gradients: every kind of launch."""
    call, key = bench.function, [1, 2, step, 0]
    low, high = call("extremes")(x).unbind()
    codes, scale, zero = call("encode_affine")(x, low, high, 8, True, key)
    weights, w_scale = call("encode_scaled")(
        w, call("extremes")(w).abs().amax(), "linear", 127.0, -127.0, 127.0, "stochastic", key, torch.int8
    )
    geometry = ([1, 1], [1, 1], [1, 1], 1)
    y, extremes = call("conv2d_scaled")(codes, zero, scale, weights, None, w_scale, None, *geometry)
    e, e_scale, e_zero = call("encode_affine")(y, extremes[0], extremes[1], 8, True, key)
    sums, _, _, low_at, high_at = call("chunk_statistics")(e, 4)
    back = call("conv2d_input_grad_scaled")(e, e_zero, e_scale, weights, None, w_scale, list(x.shape), *geometry)
    call("add_conv2d_input_grad_")(back, e, e_zero, e_scale, weights, None, w_scale, *geometry)
    grad = call("conv2d_weight_grad_scaled")(codes, zero, scale, e, e_zero, e_scale, list(w.shape), *geometry)
    at = (torch.cat([high_at, low_at]) * len(sums) + torch.arange(len(sums), device=y.device)).flatten()
    line = y[0, :, 0, 0], y[1, :, 0, 0].double(), y[0, :, -1, -1], at
    of_line = call("conv2d_weight_grad_line")(codes, zero, scale, e, *line, list(w.shape), *geometry)
    return [y, extremes, sums, back, grad, of_line]
