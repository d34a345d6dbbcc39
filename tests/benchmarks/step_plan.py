"""Which training steps are compared with which, and what the ratios are held to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bench_table import Target
from step_race import Side
from training_step import StepSpec

from qbench.kernels import cpu

METHODS = ("banner8", "wageubn")


@dataclass(frozen=True)
class Shape:
    """A model and the size of its batches. targets: (method, baseline) -> bounds, on a CPU with AMX.

    steps: timed in one turn. compilers: backends of torch.compile for the baselines; empty: eager execution, replayed
    as in a training. layouts: memory formats of the baselines, whether channels-last.
    """

    name: str
    spec: StepSpec
    steps: int
    targets: Mapping[tuple[str, str], Target] = field(default_factory=dict)
    compilers: tuple[str, ...] = ("", "inductor")
    layouts: tuple[bool, ...] = (True, False)

    @property
    def title(self) -> str:
        """For the table."""
        spec = self.spec
        return f"{self.name} {spec.image_size}x{spec.image_size} batch {spec.batch_size}"


def _targets(fp32_bound: float) -> dict[tuple[str, str], Target]:
    return {
        ("banner8", "bf16"): Target(1.4, 2.0),
        ("banner8", "fp32"): Target(fp32_bound, 5.0),
        ("wageubn", "bf16"): Target(1.0, 1.5),
    }


def _spec(model: str, image_size: int, batch_size: int, num_classes: int = 10, **options: Any) -> StepSpec:
    return StepSpec("fp32", model, image_size, batch_size, num_classes, model_options=options)


RESNET20 = Shape("ResNet-20", _spec("resnet20", 32, 128), 5, _targets(3.0))
RESNET18 = Shape("ResNet-18", _spec("resnet18", 224, 32, 1000), 2, _targets(4.0))
# aot_eager: dynamo and autograd as for any backend, without the minute that generating C++ takes. Not fewer than
# 8 channels: oneDNN's float convolutions for AVX2 write out of bounds with 4 of them in channels-last.
TINY = Shape("ResNet-8", _spec("resnet8", 16, 4, width=8), 1, _targets(3.0), ("aot_eager",), (True,))

PLAIN = Shape("plain network", _spec("convnet", 32, 128, width=64), 1)
TINY_PLAIN = Shape("plain network", _spec("convnet", 16, 8, width=8), 1)

WITHOUT_AMX = Target(1.0, 2.0)
PEAK_BYTES = {"bf16": Target(0.55, 0.4, is_ceiling=True), "fp32": Target(0.30, 0.30, is_ceiling=True)}
GRAHAM_BITS = 4
SAVED_BYTES = Target(0.14, GRAHAM_BITS / 32, is_ceiling=True)

Bits = Literal["philox", "hash"]


def method_side(shape: Shape, method: str, random_bits: Bits, **options: Any) -> Side:
    """The step of a method that quantises."""
    return Side(method, replace(shape.spec, method=method, options=options, random_bits=random_bits))


def baseline_sides(shape: Shape, method: str) -> list[Side]:
    """A float baseline in every way that may be its fastest."""
    sides = []
    for compiler in shape.compilers:
        for channels_last in shape.layouts:
            spec = replace(shape.spec, method=method, compiler=compiler, channels_last=channels_last)
            how, layout = "compiled" if compiler else "replayed", "channels-last" if channels_last else "channels-first"
            sides.append(Side(f"{method} {how} {layout}", spec))
    return sides


@dataclass(frozen=True)
class Limit:
    """An older CPU, imitated: what oneDNN, PyTorch, MKL and the kernels of qbench may use. level: of qbench."""

    level: str
    onednn: str
    torch: str

    def environment(self) -> dict[str, str]:
        """The variables that impose it on a new process."""
        return {
            "ONEDNN_MAX_CPU_ISA": self.onednn,
            "ATEN_CPU_CAPABILITY": self.torch,
            "MKL_ENABLE_INSTRUCTIONS": self.torch.upper(),
            cpu.ISA_VARIABLE: self.level,
        }


LIMITS = (
    Limit("avx512vnni", "AVX512_CORE_VNNI", "avx512"),
    Limit("avx512", "AVX512_CORE", "avx512"),
    Limit("avx2", "AVX2", "avx2"),
)


def why_not(level: str) -> str:
    """What is missing here for what is held to its target with ``level``; empty where nothing is."""
    if not cpu.available():
        return cpu.why_not()
    if level not in cpu.levels():
        return f"no {level.upper()}"
    chosen = os.environ.get(cpu.ISA_VARIABLE)
    return f"{cpu.ISA_VARIABLE}={chosen}" if chosen and chosen != level else ""
