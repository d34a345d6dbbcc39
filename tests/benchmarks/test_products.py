"""Integer convolutions and their gradients at every level of the CPU, against float32 and bfloat16 convolutions.

Layers of ResNet-20 (32x32 images) and ResNet-18 (224x224). Every side of a layer is timed in turn and its fastest call
counts, since other programs only ever make a call slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from bench_table import is_tiny
from gpu_layers import line_of
from torch import Tensor
from torch_settings import threads

from qbench.kernels import backends, cpu
from qbench.kernels.cpu import products
from qbench.kernels.cpu.line_gradient import conv2d_weight_grad_line

pytestmark = [
    pytest.mark.benchmark_suite,
    pytest.mark.skipif(bool(backends.why_not("cpp")), reason=str(backends.why_not("cpp"))),
]

OPS = ("forward", "input gradient", "input gradient added", "weight gradient", "line's w. gradient")
"""Added: to a tensor that is there, as the gradients of a residual stream are. Line's: with the error as a line of
codes, as behind Range batch norm; the float sides have the weight gradient there once more."""

ROUNDS = 15
Sides = dict[str, dict[str, Callable[[], object]]]
"""By side (fp32, bf16 or a level) and operation."""


@dataclass(frozen=True)
class Layer:
    """A convolution padded by half its kernel."""

    images: int
    channels: int
    size: int
    filters: int
    taps: int
    stride: int

    def __str__(self) -> str:
        image = f"{self.images}x{self.channels}x{self.size}x{self.size}"
        return f"{image} to {self.filters}, {self.taps}x{self.taps}/{self.stride}"

    @property
    def geometry(self) -> tuple[list[int], list[int], list[int], int]:
        return [self.stride] * 2, [self.taps // 2] * 2, [1, 1], 1


TINY = (Layer(1, 16, 8, 16, 3, 1),)
LAYERS = (
    Layer(128, 3, 32, 16, 3, 1),
    Layer(128, 16, 32, 16, 3, 1),
    Layer(128, 16, 32, 32, 3, 2),
    Layer(128, 32, 16, 32, 3, 1),
    Layer(128, 32, 16, 64, 3, 2),
    Layer(128, 64, 8, 64, 3, 1),
    Layer(32, 3, 224, 64, 7, 2),
    Layer(32, 64, 56, 64, 3, 1),
    Layer(32, 64, 56, 128, 3, 2),
    Layer(32, 64, 56, 128, 1, 2),
    Layer(32, 128, 28, 128, 3, 1),
    Layer(32, 256, 14, 256, 3, 1),
    Layer(32, 512, 7, 512, 3, 1),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("layer", TINY if is_tiny(metafunc.config) else LAYERS, ids=str)


def test_layer(
    layer: Layer, benchmark: Any, capsys: pytest.CaptureFixture[str], num_threads: int, request: pytest.FixtureRequest
) -> None:
    with threads(num_threads):
        sides = float_sides(layer) | integer_sides(layer)
        best = fastest_calls(sides, 1 if is_tiny(request.config) else ROUNDS)
        with capsys.disabled():
            print(f"\n{layer}")
            for line in lines(best):
                print(line)
        benchmark.extra_info.update(
            {f"{side}, {op}, ms": 1e3 * s for side, ops in best.items() for op, s in ops.items()}
        )
        benchmark.pedantic(sides[cpu.isa()]["forward"], rounds=3)


def float_sides(layer: Layer) -> Sides:
    """Float convolutions with channels last, in float32 and bfloat16."""
    return {name: float_side(layer, dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}


def float_side(layer: Layer, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    x, w, e = (image(torch.randn(shape)).to(dtype) for shape in shapes(layer))
    total = torch.zeros_like(x)
    stride, padding, dilation, groups = layer.geometry

    def backward(*wanted: bool) -> Sequence[Any]:
        return torch.ops.aten.convolution_backward(
            e, x, w, None, stride, padding, dilation, False, [0, 0], groups, [*wanted, False]
        )

    calls = (
        lambda: torch.nn.functional.conv2d(x, w, None, stride, padding),
        lambda: backward(True, False),
        lambda: total.add_(backward(True, False)[0]),
        lambda: backward(False, True),
        lambda: backward(False, True),
    )
    return dict(zip(OPS, calls, strict=True))


def integer_sides(layer: Layer) -> Sides:
    """uint8 activations and errors with a zero point, int8 weights, at every level of this CPU."""
    x_shape, w_shape, e_shape = shapes(layer)
    x, e = (image(torch.randint(0, 256, shape, dtype=torch.uint8)) for shape in (x_shape, e_shape))
    w = image(torch.randint(-127, 128, w_shape, dtype=torch.int8))
    line = line_of(e)
    zero, scale, where, total = torch.tensor(128.0), torch.tensor(0.01), layer.geometry, image(torch.zeros(x_shape))
    calls: tuple[Callable[[], object], ...] = (
        lambda: products.conv2d_scaled(x, zero, scale, w, None, scale, None, *where),
        lambda: products.conv2d_input_grad_scaled(e, zero, scale, w, None, scale, list(x_shape), *where),
        lambda: products.add_conv2d_input_grad_(total, e, zero, scale, w, None, scale, *where),
        lambda: products.conv2d_weight_grad_scaled(x, zero, scale, e, zero, scale, list(w_shape), *where),
        lambda: conv2d_weight_grad_line(x, zero, scale, e, *line, list(w_shape), *where),
    )
    ops = dict(zip(OPS, calls, strict=True))
    return {level: {op: at_level(level, call) for op, call in ops.items()} for level in cpu.levels()[1:] or ("scalar",)}


def at_level(level: str, call: Callable[[], object]) -> Callable[[], object]:
    def limited() -> object:
        with cpu.limited_to(level):
            return call()

    return limited


def shapes(layer: Layer) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Of the input, the filters and the output."""
    out = (layer.size + 2 * (layer.taps // 2) - layer.taps) // layer.stride + 1
    x = (layer.images, layer.channels, layer.size, layer.size)
    return x, (layer.filters, layer.channels, layer.taps, layer.taps), (layer.images, layer.filters, out, out)


def image(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def fastest_calls(sides: Sides, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of the fastest call of each."""
    best = {side: dict.fromkeys(ops, float("inf")) for side, ops in sides.items()}
    for _ in range(rounds + 1):
        for side, ops in sides.items():
            for op, call in ops.items():
                start = time.perf_counter()
                call()
                best[side][op] = min(best[side][op], time.perf_counter() - start)
    return best


def lines(best: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Milliseconds, and how many times as fast as float32."""
    header = f"  {'':12}" + "".join(f"{op + ' ms':>24}{'fp32 /':>8}" for op in OPS)
    return [header] + [
        f"  {side:12}" + "".join(f"{1e3 * ops[op]:24.2f}{best['fp32'][op] / ops[op]:8.2f}" for op in OPS)
        for side, ops in best.items()
    ]
