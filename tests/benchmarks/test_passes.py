"""Fused elementwise passes over activations against the memory they move: the time that a copy takes for as many bytes,
over the time of the pass. 1 is the speed of memory; what computes more than it moves stays below.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bench_table import is_tiny
from kernel_race import Call, race
from torch import Tensor

from qbench.kernels import bounded, direct, encoding, packing, passes, pooling, updates
from qbench.kernels.random import Key

pytestmark = [pytest.mark.benchmark_suite, pytest.mark.usefixtures("steady")]

ROUNDS = 21
SHAPES = [(128, 16, 32, 32), (32, 64, 56, 56)]
COPY_BYTES = 8
KEYS = {"hash": Key(1, 2, 3, "hash"), "Philox": Key(1, 2, 3)}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_passes(
    shape: tuple[int, ...], benchmark: Any, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    tiny = is_tiny(pytestconfig)
    shape = (2, 16, 4, 4) if tiny else shape
    inputs = Inputs(shape)
    timed = {name: call for name, (_, call) in inputs.calls().items()}
    times = race(timed, inputs.x.numel(), 1 if tiny else ROUNDS)
    with capsys.disabled():
        print(f"\n{list(shape)}: ms, bytes per element, share of the copy's bytes per second")
        for name, (size, _) in inputs.calls().items():
            share = times[name].per_copy()
            middle = sorted(share)[len(share) // 2] * size / COPY_BYTES
            print(f"  {name:36} {1e3 * times[name].seconds:8.3f} {size:6.2f} {middle:8.2f}")
    benchmark.extra_info.update({f"{name}, ms": 1e3 * found.seconds for name, found in times.items()})
    benchmark.pedantic(timed["affine view, ReLU and trunk"], rounds=3)


class Inputs:
    """Tensors of one shape and the passes over them."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.x, self.g = (torch.randn(shape).to(memory_format=torch.channels_last) for _ in range(2))
        self.low, self.high = encoding.extremes(self.x)
        self.codes, self.scale, self.zero = encoding.encode_affine(self.x, self.low, self.high, 8, True)
        channels = shape[1]
        slope = 0.02 + 0.01 * torch.rand(channels)
        self.line = (slope, -127 * slope)
        self.mean, self.inverse = torch.zeros(channels), torch.ones(channels)
        self.table, self.thresholds = torch.linspace(-2, 2, 16), torch.linspace(-2, 2, 15)
        self.levels = encoding.encode_levels(self.x, self.thresholds)
        count = self.x.numel()
        self.at = torch.randperm(count)[: min(32 * channels, count)]
        self.values = torch.randn(self.at.numel())

    def calls(self) -> dict[str, tuple[float, Call]]:
        """Bytes read and written per element, and the pass."""
        of_blocks = self.of_levels() | self.of_direct() | self.of_bounded()
        return self.of_codes() | self.of_gradients() | of_blocks | self.of_weights()

    def of_codes(self) -> dict[str, tuple[float, Call]]:
        codes, line, low, high = self.codes, self.line, self.low, self.high
        replaced = (self.at, self.values)
        calls: dict[str, tuple[float, Call]] = {
            "decode": (5, lambda: encoding.decode(codes, self.scale, self.zero)),
            "chunk statistics, 16 chunks": (1, lambda: passes.chunk_statistics(codes, 16)),
            "view extremes": (1, lambda: passes.view_extremes(codes, *line, True)),
            "view extremes, values replaced": (1, lambda: passes.view_extremes(codes, *line, False, *replaced)),
            "encode view, nearest": (2, lambda: passes.encode_affine_view(codes, *line, True, low, high, 8, True)),
            "affine view": (5, lambda: passes.affine_view(codes, *line, False)),
            "affine view, ReLU and trunk": (9.125, lambda: passes.affine_view(codes, *line, True, self.x)),
        }
        for name, key in KEYS.items():
            calls[f"encode view, {name}"] = (
                2, lambda key=key: passes.encode_affine_view(codes, *line, True, low, high, 8, True, key),
            )  # fmt: skip
        return calls

    def of_gradients(self) -> dict[str, tuple[float, Call]]:
        g, codes, line = self.g, self.codes, self.line
        mask, signed = passes.affine_view(codes, *line, True)[2], codes.to(torch.int8)
        pool = (3, 2, 1)
        y, window = pooling.max_pool2d(self.x, *pool)
        shape = list(self.x.shape)

        def unpool() -> Tensor:
            return pooling.max_pool2d_backward(y, window, shape, *pool)

        calls: dict[str, tuple[float, Call]] = {
            "apply mask": (8.125, lambda: passes.apply_mask(g, mask)),
            "rectify with trunk": (12.125, lambda: passes.rectify(self.x, g)),
            "join gradients": (9.125, lambda: passes.join_gradients(signed, self.scale, g, mask)),
            "view gradient extremes": (5, lambda: passes.view_gradient_extremes(g, codes, *line, True)),
            "max pooling 3x3/2": (5.25, lambda: pooling.max_pool2d(self.x, *pool)),
            "max pooling 3x3/2 of a view": (2.25, lambda: pooling.max_pool2d_view(codes, None, *line, True, *pool)),
            "max pooling 3x3/2, backward": (5.25, unpool),
        }
        low, high, spent = self.low, self.high, codes.clone()
        for name, key in KEYS.items():
            calls[f"encode view gradient, {name}"] = (
                6, lambda key=key: passes.encode_view_gradient_(g, spent, *line, True, low, high, 8, True, key),
            )  # fmt: skip
        return calls

    def of_levels(self) -> dict[str, tuple[float, Call]]:
        view = (self.levels, self.table, *self.line, True)
        a, b = self.line
        thresholds = torch.linspace(-2, 2, 255)
        packed = packing.pack_bits(self.levels, 4)
        shape = list(self.levels.shape)
        return {
            "moments": (4, lambda: passes.moments(self.x)),
            "normalised levels, 4 bits": (5, lambda: self.normalise(self.thresholds)),
            "normalised levels, 8 bits": (5, lambda: self.normalise(thresholds)),
            "level view, ReLU and trunk": (9.125, lambda: passes.level_view(*view, self.x)),
            "level gradient sums": (5, lambda: passes.level_gradient_sums(self.g, *view)),
            "level gradient": (9, lambda: passes.level_gradient(self.g, *view, a, b, a)),
            "pack, 4 bits": (1.5, lambda: packing.pack_bits(self.levels, 4)),
            "unpack, 4 bits": (1.5, lambda: packing.unpack_bits(packed, 4, shape)),
        }

    def normalise(self, thresholds: Tensor) -> Tensor:
        return passes.encode_normalised_levels(self.x, self.mean, self.inverse, thresholds)

    def of_direct(self) -> dict[str, tuple[float, Call]]:
        slope, offset = self.line
        view = (self.x, self.mean, self.inverse, 2.0**7, 2.0**15 - 1, slope, offset, True)
        three, scale = (slope, offset, slope), torch.tensor(2.0**-9)
        e = (self.g * 40).clamp(-127, 127).to(torch.int8)
        grid = (2.0**-7, -(2.0**15), 2.0**15, torch.int16)
        return {
            "direct view, ReLU and trunk": (12.125, lambda: direct.direct_view(*view, self.g)),
            "encode direct view": (6, lambda: direct.encode_direct_view(*view, *grid)),
            "direct gradient sums": (8, lambda: direct.direct_gradient_sums(self.g, None, *view)),
            "direct gradient sums of codes": (5, lambda: direct.direct_gradient_sums(e, scale, *view)),
            "direct gradient": (12, lambda: direct.direct_gradient(self.g, None, *view, *three)),
            "direct gradient of codes": (9, lambda: direct.direct_gradient(e, scale, *view, *three)),
        }

    def of_bounded(self) -> dict[str, tuple[float, Call]]:
        scale = torch.tensor(2.0**-7)
        codes = self.codes.to(torch.int8)
        grid = (2.0**-7, -127.0, 127.0, torch.int8)
        _, _, passed, unclipped = bounded.encode_bounded(self.x, 0.25, codes, scale, True, 0.99, *grid)
        error = (passed, unclipped, 128.0, 127.0, torch.int8)
        return {
            "bounded codes, trunk of codes": (
                6.25, lambda: bounded.encode_bounded(self.x, 0.25, codes, scale, True, 0.99, *grid),
            ),
            "bounded error, read twice": (9.25, lambda: bounded.encode_bounded_error(self.g, None, None, *error)),
            "bounded error and a trunk's": (11.25, lambda: bounded.encode_bounded_error(self.g, codes, scale, *error)),
        }  # fmt: skip

    def of_weights(self) -> dict[str, tuple[float, Call]]:
        codes, m, v = torch.zeros_like(self.x, dtype=torch.int8), torch.zeros_like(self.x), torch.zeros_like(self.x)
        weight = torch.zeros_like(self.x, dtype=torch.int32)
        accumulator, unit = torch.zeros_like(weight), torch.tensor(2.0**-23)
        grid = {"scale": 0.01, "low": -127.0, "high": 127.0, "rounding": "stochastic", "key": KEYS["Philox"]}
        sgd = {"lr": 0.1, "weight_decay": 1e-4, "mu": 0.9, "nesterov": False, "first": False}
        adam = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "step": 3, "weight_decay": 0.0}
        return {
            "SGD on int8, Philox": (14, lambda: updates.sgd_on_grid_(codes, self.g, m, **sgd, **grid)),
            "Adam on int8, Philox": (22, lambda: updates.adam_on_grid_(codes, self.g, m, v, **adam, **grid)),
            "quantised momentum, Philox": (
                28,
                lambda: updates.quantized_momentum_(
                    weight, accumulator, unit, self.g, 1e-4, 128, 1, 26, 2**23 - 1, KEYS["Philox"]
                ),
            ),
        }
