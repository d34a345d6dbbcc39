"""The convolutions of ResNet-50 against cuDNN in bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from gpu_timing import Bench
from torch import Tensor

from qbench.kernels.cuda import convolutions

BATCH = 256
CHUNKS = 16
"""Of a filter's errors, two extremes in each."""


@dataclass(frozen=True)
class Layer:
    """A convolution. count: how often ResNet-50 has it."""

    name: str
    batch: int
    channels: int
    size: int
    filters: int
    taps: int
    stride: int
    count: int

    @property
    def padding(self) -> int:
        return self.taps // 2

    @property
    def out_size(self) -> int:
        return (self.size + 2 * self.padding - self.taps) // self.stride + 1

    @property
    def geometry(self) -> tuple[list[int], list[int], list[int], int]:
        """Stride, padding, dilation, groups."""
        return [self.stride] * 2, [self.padding] * 2, [1, 1], 1

    @property
    def operations(self) -> float:
        """Multiplications and additions of one pass."""
        pixels = self.batch * self.out_size**2
        return 2.0 * pixels * self.filters * self.channels * self.taps**2


def resnet50(batch: int) -> Iterator[Layer]:
    """Every distinct convolution behind the stem (torchvision's variant, stride in the 3x3)."""
    size, channels = 56, 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        stride, wide = 1 if stage == 1 else 2, 4 * width
        small = size // stride
        yield Layer(f"stage{stage} first reduce", batch, channels, size, width, 1, 1, 1)
        yield Layer(f"stage{stage} first 3x3", batch, width, size, width, 3, stride, 1)
        yield Layer(f"stage{stage} shortcut", batch, channels, size, wide, 1, stride, 1)
        yield Layer(f"stage{stage} reduce", batch, wide, small, width, 1, 1, blocks - 1)
        yield Layer(f"stage{stage} 3x3", batch, width, small, width, 3, 1, blocks - 1)
        yield Layer(f"stage{stage} expand", batch, width, small, wide, 1, 1, blocks)
        size, channels = small, wide


def layers(bench: Bench) -> list[Layer]:
    """All of them on a GPU; a few with tiny sizes."""
    if not bench.tiny:
        return list(resnet50(BATCH))
    return [replace(layer, batch=1, size=8, channels=16, filters=24) for layer in list(resnet50(1))[6:9]]


def operands(layer: Layer, bench: Bench) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of input (uint8), weight (int8) and error (uint8), channels-last."""
    shapes = (
        (layer.batch, layer.channels, layer.size, layer.size),
        (layer.filters, layer.channels, layer.taps, layer.taps),
        (layer.batch, layer.filters, layer.out_size, layer.out_size),
    )
    generator = torch.Generator(bench.device).manual_seed(1)
    codes = [
        torch.randint(0, 256, (n, h, w, c), generator=generator, device=bench.device, dtype=torch.uint8)
        for n, c, h, w in shapes
    ]
    x, w, e = (value.permute(0, 3, 1, 2) for value in codes)
    return x, w.view(torch.int8), e


def wide_errors(e: Tensor) -> Tensor:
    """16-bit codes [N, K, H, W], channels-last, from 8-bit ones."""
    return e.to(torch.int16) * 257 - 32768


def line_of(e: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A line of the codes e as Range batch norm has it: slopes, means, pulls, and the extremes' places."""
    filters, device = e.shape[1], e.device
    size = e.numel() // filters // CHUNKS
    drawn = torch.randint(size, (2, CHUNKS, filters), generator=torch.Generator(device).manual_seed(2), device=device)
    rows = drawn + size * torch.arange(CHUNKS, device=device)[:, None]
    at = (rows * filters + torch.arange(filters, device=device)).flatten()
    slope, pull = (torch.linspace(*pair, filters, device=device) for pair in ((-1, 2), (-400, 300)))
    return slope, torch.linspace(90, 170, filters, dtype=torch.float64, device=device), pull, at


def measure(bench: Bench) -> None:
    """Times in ms and rates of the three passes of each layer, and their sums over the network."""
    torch.backends.cudnn.benchmark = True
    bench.kept("total_ms", {})
    rows: list[dict[str, Any]] = bench.kept("layers", [])
    for layer in layers(bench):
        if not bench.start(layer.name):
            continue
        row: dict[str, Any] = {"name": layer.name, "count": layer.count, "operations": layer.operations}
        rows.append(row)
        with bench.noted("int8", row) as part:
            for name, call in integer_passes(layer, bench).items():
                part[name] = timed(bench, call, layer.operations)
        with bench.noted("bf16", row) as part:
            for name, call in float_passes(layer, bench).items():
                part[name] = timed(bench, call, layer.operations)
        if bench.on_gpu:
            with bench.noted("tiles", row) as part:
                forward = integer_passes(layer, bench)["forward"]
                for width in convolutions.TILE_WIDTHS:
                    with tiles_of(width):
                        part[str(width)] = timed(bench, forward, layer.operations)
        bench.results["total_ms"] = totals(rows)
    bench.done()


def timed(bench: Bench, call: Callable[[], object], operations: float) -> dict[str, float]:
    """Milliseconds, and 10^12 operations per second."""
    seconds = bench.seconds(call, queued=True)
    return {"ms": 1000 * seconds, "tops": operations / seconds / 1e12}


def integer_passes(layer: Layer, bench: Bench) -> dict[str, Callable[[], object]]:
    """The product as a training step calls it: affine activations and errors, weights without a zero point."""
    x, w, e = operands(layer, bench)
    scale, zero = (torch.tensor(value, device=bench.device) for value in (0.01, 128.0))
    geometry, call, wide, line, total = (
        layer.geometry,
        bench.function,
        wide_errors(e),
        line_of(e),
        torch.zeros_like(x, dtype=torch.float32),
    )
    return {
        "forward": lambda: call("conv2d_scaled")(x, zero, scale, w, None, scale, None, *geometry),
        "forward_no_zero_points": lambda: call("conv2d_scaled")(x, None, scale, w, None, scale, None, *geometry),
        "input_grad": lambda: call("conv2d_input_grad_scaled")(
            e, zero, scale, w, None, scale, list(x.shape), *geometry
        ),
        "input_grad_added": lambda: call("add_conv2d_input_grad_")(total, e, zero, scale, w, None, scale, *geometry),
        "weight_grad": lambda: call("conv2d_weight_grad_scaled")(
            x, zero, scale, e, zero, scale, list(w.shape), *geometry
        ),
        "weight_grad_wide": lambda: call("conv2d_weight_grad_scaled")(
            x, zero, scale, wide, None, scale, list(w.shape), *geometry
        ),
        "weight_grad_line": lambda: call("conv2d_weight_grad_line")(x, zero, scale, e, *line, list(w.shape), *geometry),
    }


def float_passes(layer: Layer, bench: Bench) -> dict[str, Callable[[], object]]:
    """The same in bfloat16."""
    x, w, e = (value.to(torch.bfloat16) for value in operands(layer, bench))
    stride, padding, dilation, groups = layer.geometry
    backward, total = torch.ops.aten.convolution_backward, torch.zeros_like(x)

    def gradient(of_input: bool) -> Sequence[Any]:
        mask = [of_input, not of_input, False]
        return backward(e, x, w, None, stride, padding, dilation, False, [0, 0], groups, mask)

    return {
        "forward": lambda: torch.nn.functional.conv2d(x, w, None, stride, padding, dilation, groups),
        "input_grad": lambda: gradient(True),
        "input_grad_added": lambda: total.add_(gradient(True)[0]),
        "weight_grad": lambda: gradient(False),
    }


@contextmanager
def tiles_of(width: int) -> Iterator[None]:
    """Within the context every convolution uses tiles of this many filters."""
    chosen = convolutions.tile_width
    convolutions.tile_width = lambda *_: width
    try:
        yield
    finally:
        convolutions.tile_width = chosen


def totals(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Milliseconds of all layers of the network, by number format and pass."""
    sums: dict[str, dict[str, float]] = {}
    for row in rows:
        for kind in ("int8", "bf16"):
            for name, result in row.get(kind, {}).items():
                if isinstance(result, dict):
                    of_kind = sums.setdefault(kind, {})
                    of_kind[name] = of_kind.get(name, 0.0) + row["count"] * result["ms"]
    return sums
