"""Where the time of one training step goes, and what bounds it.

    python tests/benchmarks/profile_step.py resnet20 banner8

The integer kernels are timed one by one where PyTorch calls them; the bytes of their operands and results and the
operations of products are set against the rates this machine reaches at copying and at a product in cache. What is not
a kernel of qbench is the rest, whose largest parts PyTorch's profiler names.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from statistics import median
from typing import Any

import torch
from step_plan import RESNET18, RESNET20, TINY
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from training_step import ALLOCATOR, StepSpec, TrainingStep, steady_environment

from qbench.kernels import backends, products
from qbench.train.device import float_kernels

SPECS = {"resnet20": RESNET20.spec, "resnet18": RESNET18.spec, "tiny": TINY.spec}
WARM_UP = 4  # the first step is run, two are recorded
BOUND = 0.4
"""Share of the time that copying or multiplying alone would take, from where on it is said to bound a group."""

GROUPS = {
    "products, forward": ("conv2d", "conv2d_scaled", "conv2d_encoded"),
    "products, input gradient": ("conv2d_input_grad", "conv2d_input_grad_scaled", "add_conv2d_input_grad_"),
    "products, weight gradient": ("conv2d_weight_grad", "conv2d_weight_grad_scaled", "conv2d_weight_grad_line"),
    "products, linear layers": ("matmul", "matmul_scaled"),
    "encode": (
        "encode_affine", "encode_scaled", "encode_flag", "encode_binary", "encode_levels", "encode_affine_view",
        "encode_scaled_view", "encode_view_gradient_", "encode_normalised_levels", "encode_direct_view",
        "encode_ranged", "encode_error", "encode_error_pair", "encode_channels", "round_scaled", "pack_bits",
    ),
    "ranges and statistics": (
        "extremes", "view_extremes", "view_gradient_extremes", "chunk_statistics", "moments", "level_gradient_sums",
        "direct_gradient_sums",
    ),
    "vector maths": (
        "range_line", "range_gradient_line", "direct_line", "direct_gradient_line", "level_line", "level_gradient_line",
        "move_average_",
    ),
}  # fmt: skip
OTHER, UPDATE, REST = "other passes", "update", "rest: PyTorch, Python"


def group_of(op: str) -> str:
    """The group in which an operator is shown."""
    return next((group for group, ops in GROUPS.items() if op in ops), OTHER)


@dataclass
class Tally:
    """Sums over the timed steps."""

    calls: int = 0
    seconds: float = 0.0
    num_bytes: int = 0
    operations: int = 0

    def add(self, seconds: float, num_bytes: int, operations: int) -> None:
        """One more call."""
        self.calls += 1
        self.seconds += seconds
        self.num_bytes += num_bytes
        self.operations += operations


class KernelClock:
    """Times every call of an integer kernel; what runs within the update counts as that."""

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = {}
        self.by_op: dict[str, Tally] = {}
        self.in_update = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within the context, time every kernel that has been chosen before."""
        before = dict(backends.CHOSEN)
        backends.CHOSEN.update({place: self._timed(place[0], function) for place, function in before.items()})
        try:
            yield
        finally:
            backends.CHOSEN.clear()
            backends.CHOSEN.update(before)

    @contextmanager
    def timing_updates(self, optimizer: torch.optim.Optimizer) -> Iterator[Tally]:
        """Within the context, time every whole step of ``optimizer``."""
        update = Tally()

        def begin(*_: Any) -> None:
            self.in_update = True
            update.add(-time.perf_counter(), 0, 0)

        def end(*_: Any) -> None:
            update.seconds += time.perf_counter()
            self.in_update = False

        hooks = [optimizer.register_step_pre_hook(begin), optimizer.register_step_post_hook(end)]
        yield update
        for hook in hooks:
            hook.remove()

    def _timed(self, op: str, function: Callable[..., Any]) -> Callable[..., Any]:
        schema = getattr(torch.ops.qbench, op).default._schema

        def run(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments)
            seconds = time.perf_counter() - started
            num_bytes = bytes_moved(schema, arguments, result)
            named = {argument.name: value for argument, value in zip(schema.arguments, arguments, strict=True)}
            operations = num_operations(op, named, result)
            for tallies, name in ((self.tallies, UPDATE if self.in_update else group_of(op)), (self.by_op, op)):
                tallies.setdefault(name, Tally()).add(seconds, num_bytes, operations)
            return result

        return run


def bytes_moved(schema: Any, arguments: Sequence[Any], result: Any) -> int:
    """Bytes of the operands, read, and of the results, written; what is changed in place is both."""
    read = sum(
        value.nbytes * (2 if argument.alias_info is not None and argument.alias_info.is_write else 1)
        for argument, value in zip(schema.arguments, arguments, strict=True)
        if isinstance(value, Tensor)
    )
    results = result if isinstance(result, tuple) else (result,)
    return read + sum(value.nbytes for value in results if isinstance(value, Tensor))


def num_operations(op: str, arguments: dict[str, Any], result: Any) -> int:
    """Multiplications and additions of a product; 0 for other kernels."""
    kind = op.removesuffix("_scaled").removesuffix("_line").removeprefix("add_").removesuffix("_")
    output = result[0] if isinstance(result, tuple) else result
    if kind == "conv2d":
        return 2 * int(output.numel()) * int(arguments["w"][0].numel())
    if kind == "conv2d_input_grad":
        return 2 * int(arguments["e"].numel()) * int(arguments["w"][0].numel())
    if kind == "conv2d_weight_grad":
        return 2 * int(arguments["e"].numel()) * prod(arguments["weight_shape"][1:])
    if kind == "matmul":
        return 2 * int(output.numel()) * int(arguments["a"].shape[1])
    return 0


@dataclass(frozen=True)
class Machine:
    """Rates reached here: bytes per second of copying (read and written), operations per second of a product of uint8
    and int8 matrices and of a float32 one."""

    copy: float
    integer: float
    float32: float


def measure_machine(size: int) -> Machine:
    """Copy 2^26 bytes, multiply matrices of size x size; the best of a few."""
    source = torch.zeros(2**26, dtype=torch.uint8)
    target = torch.empty_like(source)
    a, b = (torch.randint(0, 128, (size, size), dtype=torch.uint8) for _ in range(2))
    weight = b.to(torch.int8)
    x, y = a.float(), b.float()
    return Machine(
        copy=2 * source.nbytes / _best(lambda: target.copy_(source)),
        integer=2 * size**3 / _best(lambda: products.matmul_s8(a, weight)),
        float32=2 * size**3 / _best(lambda: torch.mm(x, y)),
    )


def _best(run: Callable[[], object]) -> float:
    return min(_seconds(run) for _ in range(7))


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


@dataclass(frozen=True)
class Profile:
    """Seconds per step with and without timers in the kernels, and the sums over ``steps`` steps."""

    plain_s: float
    timed_s: float
    steps: int
    tallies: dict[str, Tally]
    by_op: dict[str, Tally]


def profile_step(step: TrainingStep, steps: int) -> Profile:
    """Time ``steps`` steps as they are, and as many with a timer around every kernel and the update."""
    for _ in range(WARM_UP):
        step.run()
    plain = median(_seconds(step.run) for _ in range(steps))
    clock = KernelClock()
    with clock.running(), clock.timing_updates(step.built.optimizer) as update:
        total = sum(_seconds(step.run) for _ in range(steps))
    inside = clock.tallies.get(UPDATE, Tally())
    update.num_bytes = inside.num_bytes or sgd_bytes(step) * steps
    clock.tallies[UPDATE] = update
    clock.tallies[REST] = Tally(0, total - sum(tally.seconds for tally in clock.tallies.values()))
    return Profile(plain, total / steps, steps, clock.tallies, clock.by_op)


def sgd_bytes(step: TrainingStep) -> int:
    """What SGD with momentum moves: weight and momentum read and written, the gradient read."""
    return 5 * sum(parameter.nbytes for parameter in step.built.converted.parameters() if parameter.grad is not None)


def report(profiled: Profile, machine: Machine) -> Iterator[str]:
    """The lines of the table."""
    yield f"machine: {torch.get_num_threads()} threads, copying {machine.copy / 1e9:.3g} GB/s"
    yield f"products of matrices that fit the cache: {machine.integer / 1e9:.3g} G op/s in integers,"
    yield f"  {machine.float32 / 1e9:.3g} G op/s in float32"
    yield f"step: {1000 * profiled.plain_s:.2f} ms"
    yield f"  {1000 * profiled.timed_s:.2f} ms with the timers below, which need the operators called through Python\n"
    yield f"{'':38}{'calls':>6}{'ms':>9}{'share':>7}{'MB':>9}{'GB/s':>7}{'G op':>8}{'G op/s':>8}  bound by"
    for name in (*GROUPS, OTHER, UPDATE, REST):
        if name in profiled.tallies:
            yield _line(name, profiled.tallies[name], profiled, machine)
    yield "\nby kernel:"
    for name, tally in sorted(profiled.by_op.items(), key=lambda item: -item[1].seconds):
        yield _line(f"  {name}", tally, profiled, machine)


def _line(name: str, tally: Tally, profiled: Profile, machine: Machine) -> str:
    seconds, num_bytes, operations = (
        total / profiled.steps for total in (tally.seconds, tally.num_bytes, tally.operations)
    )
    rates = f"{num_bytes / 1e6:9.1f}{num_bytes / seconds / 1e9:7.1f}" if num_bytes and seconds else " " * 16
    work = f"{operations / 1e9:8.2f}{operations / seconds / 1e9:8.0f}" if operations and seconds else " " * 16
    share = seconds / profiled.timed_s
    calls = tally.calls // profiled.steps or ""
    return f"{name:38}{calls:>6}{1000 * seconds:9.2f}{share:7.1%}{rates}{work}  {bound(tally, machine)}"


def bound(tally: Tally, machine: Machine) -> str:
    """What would take the largest share of the time if nothing else took any."""
    if not tally.num_bytes or not tally.seconds:
        return ""
    shares = {
        "memory": tally.num_bytes / machine.copy / tally.seconds,
        "arithmetic": tally.operations / machine.integer / tally.seconds,
    }
    name = max(shares, key=lambda key: shares[key])
    return (
        f"{name if shares[name] >= BOUND else 'neither'} ({', '.join(f'{k} {v:.0%}' for k, v in shares.items() if v)})"
    )


def torch_operators(step: TrainingStep, steps: int, count: int) -> Iterator[str]:
    """PyTorch's own operators by the time in them, as its profiler (which slows everything down) sees it."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            step.run()
    events = [e for e in profiler.key_averages() if e.key.startswith("aten::")]
    total = sum(event.self_cpu_time_total for event in events) / steps / 1000
    yield f"\nPyTorch operators, under its profiler: {total:.2f} ms in {sum(e.count for e in events) // steps} calls"
    for event in sorted(events, key=lambda e: -e.self_cpu_time_total)[:count]:
        yield f"  {event.key:36}{event.count // steps:>6}{event.self_cpu_time_total / steps / 1000:9.2f}"


def main(arguments: Sequence[str]) -> None:
    """Print the profile of one step."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("model", choices=sorted(SPECS))
    parser.add_argument("method", help="banner8, wageubn, fp32, ...")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--random-bits", choices=("philox", "hash"), default="philox")
    chosen = parser.parse_args(arguments)
    steady = steady_environment(chosen.threads)
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        # The allocator reads its settings when the process starts.
        os.execve(sys.executable, [sys.executable, __file__, *arguments], steady)
    spec: StepSpec = replace(SPECS[chosen.model], method=chosen.method, random_bits=chosen.random_bits)
    with float_kernels(reproducible=False):
        step = TrainingStep(spec)
        profiled = profile_step(step, chosen.steps)
        machine = measure_machine(64 if chosen.model == "tiny" else 1024)
        print(f"{chosen.method} step of {spec.model}, {spec.image_size}x{spec.image_size}, batch {spec.batch_size}")
        for line in [*report(profiled, machine), *torch_operators(step, min(chosen.steps, 3), 12)]:
            print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
