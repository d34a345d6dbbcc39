"""A whole training step of ResNet-50: banner8 on integer kernels against bfloat16, eager and compiled.

Compiling has a section of its own, whose process may spend all its time on it, or may lack the C compiler that it
needs: the figures of eager steps and of CUDA graphs, and the ratios to eager bfloat16, are there all the same.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median
from types import ModuleType
from typing import Any

import torch
from gpu_timing import Bench
from torch import Tensor, nn
from torch.nn import functional

import qbench
from qbench.nn import CapturedStep, convert
from qbench.optim import build_optimizer
from qbench.quant.formats import Affine, Symmetric
from qbench.recipe import RangeNorm, Recipe
from qbench.train.memory import peak_step_bytes, peak_step_bytes_cuda, saved_bytes

BATCH_SIZES = (256, 128, 64)
"""The first that fits."""

CLASSES = 1000
TINY_BATCH = 8
"""The least at which a chunk of Range BN has two values in the last stage."""

ROUNDS = 8
STEPS = 4
"""Timed together; one round of every side before the next."""

GRAPHS_S = 30.0
"""Left for CUDA graphs, if need be by fewer rounds."""

TOTAL_STEPS = 10_000


@dataclass(frozen=True)
class Sgd:
    """Settings of the optimiser, as qbench.optim takes them."""

    name: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 1e-4
    nesterov: bool = False


def banner8() -> Recipe:
    """The recipe of methods/banner8.py with default options, which needs packages that this script does without."""
    activation, error = Affine(8, tracked=True), Affine(8, "stochastic")
    return Recipe(
        weight=Affine(8), activation=activation, error=error, wgrad_error=Symmetric(16), wgrad_line=True,
        norm_error=error, norm=RangeNorm("code", 16, "one", 0.1, input=activation),
    )  # fmt: skip


def float32() -> Recipe:
    """Changes nothing."""
    return Recipe()


@dataclass(frozen=True)
class Side:
    """One way to train."""

    name: str
    recipe: Callable[[], Recipe]
    autocast: bool = False
    compiled: bool = False
    generator: str = "philox"


EAGER = (
    Side("bf16", float32, autocast=True),
    Side("banner8", banner8),
    Side("banner8 hash", banner8, generator="hash"),
)
COMPILED = (
    Side("banner8", banner8),  # again, to be timed in turns with the other
    Side("bf16 compiled", float32, autocast=True, compiled=True),  # last: it may take all the time that is left
)


def eager(bench: Bench) -> None:
    """The sides that need no compiler."""
    measure(bench, EAGER)


def compiled(bench: Bench) -> None:
    """The compiled baseline beside a side of :func:`eager`."""
    measure(bench, COMPILED)


def measure(bench: Bench, sides: Sequence[Side]) -> None:
    """Seconds of a step by side, interleaved; then the ratios to bfloat16, and bytes."""
    torch.backends.cudnn.benchmark = True
    batch_size = fitting_batch(bench)
    bench.results |= {"batch_size": batch_size, "model": "resnet18" if bench.tiny else "resnet50"}
    bench.kept("sides", {})
    runs: dict[str, Step] = {}
    seconds: dict[str, list[float]] = {}
    try:
        for name, step in able(bench, sides, batch_size):
            runs[name], seconds[name] = step, []
            time_once(bench, runs, seconds, name)
            summarise(bench, seconds, batch_size)  # the next side may take all the time
        for _ in range(0 if bench.tiny else ROUNDS - 1):
            if bench.left_s() < GRAPHS_S:
                break
            for name in list(runs):
                time_once(bench, runs, seconds, name)
    finally:
        summarise(bench, seconds, batch_size)
    for name in sorted(runs, key=is_baseline, reverse=True) if bench.on_gpu else ():
        bench.start(f"{name} graph")
        with bench.noted("graph", bench.results["sides"][name]) as part:
            as_graph(bench, runs[name], batch_size, part)
    bench.done()


def is_baseline(name: str) -> bool:
    """Whether others are compared with this side."""
    return name.startswith("bf16")


def time_once(bench: Bench, runs: dict[str, Step], seconds: dict[str, list[float]], name: str) -> None:
    """One time more of a side, which is left out from then on if it fails."""
    with bench.going_on(bench.results["sides"][name]) as went_well:
        seconds[name].append(bench.seconds(runs[name].run_several) / STEPS)
    if not went_well:
        del runs[name]


def able(bench: Bench, sides: Sequence[Side], batch_size: int) -> Iterator[tuple[str, Step]]:
    """The sides that can train, each after a step; what keeps another from it is noted."""
    for side in sides:
        if side.compiled and not bench.on_gpu:
            continue  # minutes of code generation that say nothing here
        if not bench.start(side.name):
            continue
        step = None
        with bench.noted(side.name, bench.results["sides"]) as part:
            made = Step(side, batch_size, bench)
            part["memory"] = made.memory()
            step = made
        if step is not None:
            yield side.name, step


def as_graph(bench: Bench, step: Step, batch_size: int, facts: dict[str, Any]) -> None:
    """A whole step captured in a CUDA graph and replayed, which shows whether launching is what takes the time.

    facts: where to write what is found, what would keep the capture from succeeding first.
    """
    bench.check_time()
    facts["waits_for_the_host"] = waits_for_the_host(step)
    if facts["waits_for_the_host"]:
        return  # a capture that fails leaves PyTorch's allocator in a state that the sides that follow would meet
    seconds = bench.seconds(step.captured())
    facts |= {"step_s": seconds, "images_per_s": batch_size / seconds, "loss": step.loss()}
    facts["times_speed_of"] = {
        name: fastest(side) / seconds for name, side in bench.results["sides"].items() if is_fast(name, side)
    }
    step.release()


def is_fast(name: str, side: dict[str, Any]) -> bool:
    """Whether it is a baseline that was timed."""
    return is_baseline(name) and "step_s" in side


def fastest(side: dict[str, Any]) -> float:
    """Seconds of a side's step, captured or not, whichever took less."""
    seconds: float = median(side["step_s"])
    return min(seconds, side.get("graph", {}).get("step_s", seconds))


def waits_for_the_host(step: Step) -> str:
    """What in a step waits for the device, empty where nothing does; such a step could not be captured."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        step.run()
    except RuntimeError as error:
        return str(error)[:500]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""


def summarise(bench: Bench, seconds: dict[str, list[float]], batch_size: int) -> None:
    """Medians, images per second, and the median of the ratios round by round."""
    for name, mine in seconds.items():
        part = bench.results["sides"][name]
        if not mine:
            continue
        part |= {"step_s": mine, "images_per_s": batch_size / median(mine)}
        part["times_speed_of"] = {
            base: median(other / own for other, own in zip(others, mine, strict=False))
            for base, others in seconds.items()
            if is_baseline(base) and others
        }


def fitting_batch(bench: Bench) -> int:
    """The largest batch that can be trained in bfloat16, which needs the most memory."""
    if bench.tiny or not bench.on_gpu:
        return TINY_BATCH
    for batch_size in BATCH_SIZES:
        try:
            Step(EAGER[0], batch_size, bench).run()
        except torch.cuda.OutOfMemoryError:
            gc.collect()
            torch.cuda.empty_cache()
            continue
        return batch_size
    raise RuntimeError("not even the smallest batch fits")


class Step:
    """A model that trains on random images."""

    def __init__(self, side: Side, batch_size: int, bench: Bench) -> None:
        size = 64 if bench.tiny else 224
        torch.manual_seed(0)
        model = network(18 if bench.tiny else 50).to(bench.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        recipe = side.recipe()
        self.converted = convert(model, recipe, arithmetic="integer")
        self.converted.clock.total_steps = TOTAL_STEPS
        self.converted.clock.generator = side.generator  # type: ignore[assignment]
        self.optimizer = build_optimizer(self.converted, recipe, Sgd())
        self.model: Callable[..., Any] = self.converted.model
        if side.compiled:
            self.model = torch.compile(self.converted.model)
        images = torch.randn((batch_size, 3, size, size), device=bench.device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(0, CLASSES, (batch_size,), device=bench.device)
        self._side, self._bench = side, bench

    def forward(self) -> Tensor:
        """The loss."""
        with self._precision():
            return functional.cross_entropy(self.model(self.images).float(), self.labels)

    def _precision(self) -> AbstractContextManager[object]:
        if not self._side.autocast:
            return nullcontext()
        return torch.autocast(self._bench.device.type, torch.bfloat16)

    def run(self) -> None:
        """Forward, backward, update, and on to the next step."""
        self.compute()
        self.converted.clock.step += 1

    def compute(self) -> None:
        """What the device does."""
        loss = self.forward()
        self._loss = loss.detach()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def captured(self) -> Callable[[], None]:
        """As :meth:`run`, from a graph; its update too."""
        captured = CapturedStep(self.converted, self.compute)

        def run() -> None:
            captured.replay()
            self.converted.clock.step += 1

        return run

    def loss(self) -> float:
        """Of the newest step, to see that it still trains."""
        return self._loss.item()

    def release(self) -> None:
        """Gives gradients back, which lie in a graph's memory after a capture."""
        self.optimizer.zero_grad(set_to_none=True)

    def run_several(self) -> None:
        """What is timed."""
        for _ in range(STEPS):
            self.run()

    def memory(self) -> dict[str, int]:
        """Bytes kept for backward, and at the peak of a step, this side's own model and state included."""
        state = [*self.converted.parameters(), *self.converted.model.buffers()]
        saved = {} if self._side.compiled else {"saved": saved_bytes(self.forward, state)}
        if not self._bench.on_gpu:
            return {**saved, "peak": peak_step_bytes(self.run, [state, self.images])}
        gc.collect()  # or what others have left would be freed within the step
        before = torch.cuda.memory_allocated(self._bench.device)
        held = sum(value.nbytes for value in [*state, self.images])
        peak = peak_step_bytes_cuda(self.run, self._bench.device) - before + held
        return {**saved, "peak": peak}


def network(depth: int) -> nn.Module:
    """The ResNet of qbench.models.

    The package's own __init__ needs pydantic, for options that this script has none of; its files do not.
    """
    try:
        importlib.import_module("qbench.models")
    except ImportError:
        package = ModuleType("qbench.models")
        package.__path__ = [f"{path}/models" for path in qbench.__path__]
        sys.modules["qbench.models"] = package
    resnet = importlib.import_module("qbench.models.resnet").resnet
    model: nn.Module = resnet(depth=depth, num_classes=CLASSES, in_channels=3, image_size=224)
    return model
