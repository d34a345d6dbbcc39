"""The passes over a large activation tensor against the rate of a plain copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gpu_timing import Bench

SHAPE = (512, 64, 56, 56)
"""Its codes of a byte are more than the second cache of a GPU holds."""

TINY_SHAPE = (2, 8, 8, 8)
CHUNKS = 16
KEYS = {"nearest": None, "philox": [1, 2, 3, 0], "hash": [1, 2, 3, 1]}


def measure(bench: Bench) -> None:
    """Milliseconds, bytes that a pass must move, GB/s, and that as a fraction of the rate of a copy of its size."""
    rows: dict[str, Any] = bench.kept("passes", {})
    bench.results["shape"] = TINY_SHAPE if bench.tiny else SHAPE
    for name, (call, bytes_per_element) in passes(bench).items():
        if not bench.start(name):
            continue
        with bench.noted(name, rows) as part:
            part.update(rate(bench, call, bytes_per_element))
    bench.done()


def rate(bench: Bench, call: Callable[[], object], bytes_per_element: float) -> dict[str, float]:
    """One pass beside a copy that moves as many bytes."""
    count = torch.Size(bench.results["shape"]).numel()
    moved = bytes_per_element * count
    source = torch.zeros(int(moved / 2), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    copied, seconds = (bench.seconds(one, queued=True) for one in (lambda: target.copy_(source), call))
    return {
        "ms": 1000 * seconds, "bytes_per_element": bytes_per_element, "gb_per_s": moved / seconds / 1e9,
        "of_copy_rate": copied / seconds,
    }  # fmt: skip


def passes(bench: Bench) -> dict[str, tuple[Callable[[], object], float]]:
    """Each pass, and the bytes per element that it reads and writes."""
    shape, call = bench.results["shape"], bench.function
    n, c, h, w = shape
    x = torch.randn((n, h, w, c), device=bench.device).permute(0, 3, 1, 2)
    codes = torch.randint(0, 256, (n, h, w, c), device=bench.device, dtype=torch.uint8).permute(0, 3, 1, 2)
    slope, offset = torch.randn((2, c), device=bench.device).unbind()
    low, high = (torch.tensor(value, device=bench.device) for value in (-3.0, 3.0))
    view = (codes, slope, offset)
    mask = torch.zeros(-(-x.numel() // 8), dtype=torch.uint8, device=bench.device)
    table = torch.linspace(-3, 3, 16, device=bench.device)
    few, signed = codes & 15, codes.to(torch.int8)
    direct = (x, slope, slope.abs(), 128.0, 32767.0, slope, offset, True)
    grid = (1 / 128, -32767.0, 32767.0, torch.int16)
    pool = ([3, 3], [2, 2], [1, 1])
    pooled = x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
    window = torch.full_like(pooled, 4, dtype=torch.uint8)  # the middle of nine, which never lies in the padding
    found: dict[str, tuple[Callable[[], object], float]] = {
        "extremes": (lambda: call("extremes")(x), 4),
        "affine_view": (lambda: call("affine_view")(*view, True, None), 5.125),
        "affine_view + trunk": (lambda: call("affine_view")(*view, True, x), 9.125),
        "apply_mask": (lambda: call("apply_mask")(x, mask), 8.125),
        "rectify + trunk": (lambda: call("rectify")(x, x), 12.125),
        "join_gradients": (lambda: call("join_gradients")(signed, high, x, mask), 9.125),
        "view_extremes": (lambda: call("view_extremes")(*view, True, None, None), 1),
        "view_gradient_extremes": (lambda: call("view_gradient_extremes")(x, *view, True), 5),
        "chunk_statistics": (lambda: call("chunk_statistics")(codes, CHUNKS), 1),
        "moments": (lambda: call("moments")(x), 4),
        "level_gradient_sums": (lambda: call("level_gradient_sums")(x, few, table, slope, offset, True), 5),
        "level_view": (lambda: call("level_view")(few, table, slope, offset, True, None), 5.125),
        "direct_view + trunk": (lambda: call("direct_view")(*direct, x), 12.125),
        "encode_direct_view": (lambda: call("encode_direct_view")(*direct, *grid), 6),
        "direct_gradient_sums": (lambda: call("direct_gradient_sums")(x, None, *direct), 8),
        "direct_gradient": (lambda: call("direct_gradient")(x, None, *direct, slope, offset, slope), 12),
        "encode_bounded + trunk": (lambda: call("encode_bounded")(x, 0.5, signed, high, True, 1.0, *grid), 7.25),
        "encode_bounded_error": (
            lambda: call("encode_bounded_error")(x, signed, high, mask, mask, 128.0, 127.0, torch.int8),
            11.25,
        ),
        "pack_bits 4": (lambda: call("pack_bits")(few, 4), 1.5),
        "max_pool2d": (lambda: call("max_pool2d")(x, *pool), 5.25),
        "max_pool2d_view": (lambda: call("max_pool2d_view")(codes, None, slope, offset, True, *pool), 2.25),
        "max_pool2d_direct_view": (lambda: call("max_pool2d_direct_view")(*direct, *pool), 5.25),
        "max_pool2d_backward": (lambda: call("max_pool2d_backward")(pooled, window, list(x.shape), *pool), 5.25),
    }
    for name, key in KEYS.items():
        found |= rounded(bench, name, key, (x, low, high), view)
    return found


def rounded(
    bench: Bench, name: str, key: list[int] | None, range_of: tuple[Any, ...], view: tuple[Any, ...]
) -> dict[str, tuple[Callable[[], object], float]]:
    """The encoders, with one kind of rounding."""
    call = bench.function
    x, low, high = range_of
    weights, buffer = torch.zeros(x.shape, dtype=torch.int8, device=x.device), torch.zeros_like(x)
    grid = (0.01, 1e-4, 0.9, False, False, 2.0**-7, -128.0, 127.0)
    rounding = "nearest" if key is None else "stochastic"
    spent = view[0].clone()
    return {
        f"encode_affine {name}": (lambda: call("encode_affine")(x, low, high, 8, True, key), 5),
        f"encode_affine_view {name}": (
            lambda: call("encode_affine_view")(*view, True, low, high, 8, True, key, None, None), 2,
        ),
        f"encode_view_gradient {name}": (
            lambda: call("encode_view_gradient_")(x, spent, *view[1:], True, low, high, 8, True, key), 6,
        ),
        f"sgd_on_grid {name}": (
            lambda: call("sgd_on_grid_")(weights, x, buffer, *grid, rounding, key), 14,
        ),
    }  # fmt: skip
