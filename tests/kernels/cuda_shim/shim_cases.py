"""Which cases the emulated kernels meet: a cross-section of the exactness test's, and what tiles and pipelines ask for,
and every type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from itertools import product
from typing import Any

import kernel_cases
import kernel_cases_bounded as bounded
import kernel_cases_line_gradient as line_gradient
import kernel_cases_passes
import kernel_cases_products
import torch
from emulated_driver import EmulatedDriver
from kernel_cases_products import Fill, Shape, added, convolution, encoded, scaled
from kernel_matrix import Case, Implementation, difference, normal, results
from torch import Tensor

from qbench.kernels.backends import MODULES
from qbench.kernels.cuda.launch import driven_by

U8, S8, S16 = torch.uint8, torch.int8, torch.int16
MOST = 70
MOST_PRODUCTS = 30
"""Cases of one operator taken from the shared ones, evenly; on a GPU all of them run."""

KEPT = (
    "conv2d_weight_grad-groups-many-pixels-uint8,z131_x_int8",
    "conv2d_weight_grad-groups-wide-int8_x_uint8,z7",
    "conv2d_weight_grad-groups-wide-uint8,z131_x_int8",
    "encode_flag-ties-1",
    "encode_scaled-at-the-draw-hash",
    "encode_scaled-at-the-draw-philox",
    "encode_scaled-fractional-bounds-philox",
    "encode_scaled-power-of-3.4e+38",
    "encode_scaled-ties-of-0.3",
    "encode_scaled-ties-of-7.0",
    "matmul-basic-int16,z1000_x_int8",
    "matmul-both_t-int8_x_uint8,z7",
    "sgd_on_grid_-at-rest",
)
"""Shared cases that alone show some mistake, and are therefore part of every cross-section."""

FULL = Fill(U8, None, 131.0, S8, None, -7.0)
FILLS = (
    Fill(U8, None, None, S8, None, None),
    Fill(S8, None, None, U8, None, 9.0),
    Fill(U8, None, 255.0, U8, None, None),
    Fill(S8, None, -128.0, S8, None, 127.0),
    FULL,
    Fill(S16, None, None, U8, None, 5.0),
)
WIDE_ERRORS = (
    Fill(U8, None, 131.0, S16, None, None),
    Fill(S8, None, None, S16, None, 1000.0),
    Fill(U8, 255, None, S16, -32768, None),
    Fill(U8, 255, 0.0, S16, 32767, None),
    Fill(S16, None, 300.0, S16, None, -5.0),
)
"""Of a weight gradient: 16-bit codes that its kernel takes apart."""

SHAPES = (
    Shape("two-tiles-deep-pipeline", (2, 64, 9, 9), 130, (3, 3), padding=(1, 1)),
    Shape("stride2", (1, 32, 10, 9), 48, (3, 3), (2, 2), (1, 1)),
    Shape("one-step-of-depth", (3, 16, 7, 8), 64, (1, 1)),
    Shape("ragged-depth", (1, 48, 6, 6), 72, (3, 3), (1, 1), (2, 2), (2, 2)),
    Shape("groups-of-vectors", (1, 96, 5, 6), 32, (3, 3), (2, 1), (1, 1), groups=2),
    Shape("stem", (1, 3, 20, 18), 65, (7, 7), (2, 2), (3, 3)),
    Shape("1x1-stride2", (2, 80, 8, 7), 144, (1, 1), (2, 2)),
    Shape("stride2-dilation2", (1, 32, 13, 12), 32, (3, 3), (2, 2), (2, 2), (2, 2)),
    Shape("many-pixels", (5, 16, 13, 11), 16, (3, 3), padding=(1, 1)),
)
SMALL_GROUPS = Shape("small-groups", (1, 6, 4, 4), 4, (2, 3), (1, 2), (1, 1), groups=2)
KINDS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")


def _tiles() -> Iterator[Case]:
    for i, shape in enumerate(SHAPES):
        for j, kind in enumerate(KINDS):
            fill = FILLS[(i + j) % len(FILLS)]
            yield Case(kind, f"{shape.label}-{fill}", partial(convolution, kind, shape, fill))
            yield Case(f"{kind}_scaled", f"{shape.label}-{FULL}", partial(scaled, kind, shape, FULL))
        yield Case("conv2d_encoded", f"{shape.label}-{FULL}", partial(encoded, shape, FULL))
        yield Case("add_conv2d_input_grad_", f"{shape.label}-{FULL}", partial(added, shape, FULL))
    for fill in FILLS:
        yield Case("matmul", f"vectors-{fill}", partial(vectors, fill))
    for (a, b), zero_point in product(product((U8, S8), repeat=2), (None, 1.0)):
        fill = Fill(a, None, zero_point, b, None, zero_point)
        for filters, channels in ((16, 80), (80, 16), (16, 16)):
            shape = Shape(f"{channels}-to-{filters}", (2, channels, 9, 9), filters, (1, 1))
            for kind in KINDS:
                yield Case(kind, f"{shape.label}-{fill}", partial(convolution, kind, shape, fill))
    for a, b in product((U8, S8, S16), repeat=2):
        fill = Fill(a, None, 2.0, b, None, None)
        for kind in KINDS:
            yield Case(kind, f"{SMALL_GROUPS.label}-{fill}", partial(convolution, kind, SMALL_GROUPS, fill))
    yield Case("conv2d_scaled", "digits", partial(scaled, "conv2d", SHAPES[1], FILLS[-1], per_channel=True))


def _wide_errors() -> Iterator[Case]:
    op, few = "conv2d_weight_grad", Shape("16-to-16", (2, 16, 9, 9), 16, (1, 1))
    for shape, fill in product((*SHAPES, few), WIDE_ERRORS):
        yield Case(op, f"{shape.label}-{fill}", partial(convolution, op, shape, fill))
    for fill in WIDE_ERRORS[:2]:
        yield Case(f"{op}_scaled", f"{SHAPES[4].label}-{fill}", partial(scaled, op, SHAPES[4], fill))


def _lines() -> Iterator[Case]:
    op, (plain, centred, full, *_) = line_gradient.OP, line_gradient.FILLS
    for shape, fill in product(SHAPES, (plain, centred)):
        yield Case(op, f"{shape.label}-{fill}", partial(line_gradient.line, shape, fill))
    for chunks in (32, 33, 64, 66):  # twice as many elements, in parts of 64
        shape = Shape(f"{chunks}-chunks", (2, 5, 32, 33), 3, (3, 3), padding=(1, 1))
        yield Case(op, shape.label, partial(line_gradient.line, shape, centred, chunks))
    for channels in (1024, 1025):  # four of a thread: one block of threads, and one thread more
        shape = Shape(f"{channels}-channels", (2, channels, 2, 3), 3, (1, 1))
        yield Case(op, shape.label, partial(line_gradient.line, shape, centred, 2))
    beyond = Shape("beyond-int32", (2, 2, 130, 130), 2, (1, 1), groups=2)
    yield Case(op, beyond.label, partial(line_gradient.line, beyond, full, 2))


def _others() -> Iterator[Case]:
    yield Case("encode_scaled_view", "int32", long_codes)
    yield Case("view_extremes", "replaced-extremes", replaced_extremes)
    yield Case("encode_normalised_levels", "at-the-thresholds", at_the_thresholds)
    for op in ("encode_view_gradient_", "chunk_statistics"):
        yield Case(op, "uneven-parts", partial(uneven_parts, op))
    for trunk, dtype in product(bounded.TRUNKS, bounded.CODES):
        build = partial(bounded.encoded, (2, 6, 5, 3), True, "edges", trunk, dtype)
        yield Case("encode_bounded", f"every-type-{trunk}-{dtype}", build)


def long_codes() -> tuple[Any, ...]:
    """Codes of 20 bits."""
    shape, top = (2, 6, 5, 3), 2.0**19 - 1
    *view, at, values = kernel_cases_passes.extremes_of_view(shape, False, True)
    return (*view, torch.tensor(3.0), "linear", top, -top, top, "nearest", None, torch.int32, at, values)


def replaced_extremes() -> tuple[Any, ...]:
    """What is replaced would be the extremes, and stands side by side."""
    shape = (2, 16, 5, 3)
    codes, slope, offset, relu = kernel_cases_passes.view(shape, False)
    codes = kernel_cases_products.integers(shape, U8, 100)
    flat = codes.permute(0, 2, 3, 1).view(-1, 16)
    slope = slope.abs() + 0.1
    flat[7, 2:6], flat[11, 9:12] = 255, 0
    at = torch.tensor([7 * 16 + 3, 7 * 16 + 2, 11 * 16 + 9, 11 * 16 + 11, 7 * 16 + 5, 7 * 16 + 4, 11 * 16 + 10])
    return codes, slope, offset, relu, at, torch.linspace(-0.1, 0.1, len(at))


def at_the_thresholds() -> tuple[Any, ...]:
    """Every threshold is the value of an element."""
    x, mean, inverse = (normal(shape, seed=seed) for seed, shape in enumerate([(40, 12), (12,), (12,)]))
    values = ((x - mean) * inverse).flatten().sort().values
    return x, mean, inverse, values[3::8][:60].clone()


def uneven_parts(op: str) -> tuple[Any, ...]:
    """A number of rows that no number of parts divides."""
    shape = (1, 24, 37, 41)
    if op == "chunk_statistics":
        return kernel_cases_passes.statistics(shape, None, 1)
    codes, slope, offset, relu = kernel_cases_passes.view(shape, True)
    key = kernel_cases_passes.KEYS["philox"]
    return normal(shape), codes, slope, offset, relu, torch.tensor(-2.0), torch.tensor(2.0), 8, True, key


def vectors(fill: Fill) -> tuple[Any, ...]:
    """A weight gradient of a linear layer: both factors lie with the reduction outermost, in whole vectors."""
    a, a_zero, b, b_zero, wide = kernel_cases_products.matmul((80, 150, 208), fill)
    return a.t().contiguous().t(), a_zero, b, b_zero, wide


TILES = tuple(_tiles())
SHARED = kernel_cases.CASES
OWN = (*TILES, *_wide_errors(), *_lines(), *_others())
PRODUCTS = {case.op for case in kernel_cases_products.CASES}
OPS = tuple(dict.fromkeys(case.op for case in SHARED))
assert set(KEPT) <= {str(case) for case in SHARED}


def cases_of(op: str) -> list[Case]:
    """The cross-section for one operator. Sums of tens of thousands of terms take the emulation long; few are kept."""
    mine = [case for case in SHARED if case.op == op and str(case) not in KEPT]
    kept = [case for case in SHARED if case.op == op and str(case) in KEPT]
    short = [case for case in mine if not case.is_long]
    step = max(1, len(short) // (MOST_PRODUCTS if op in PRODUCTS else MOST))
    own = [case for case in OWN if case.op == op]
    return [*kept, *short[::step], *[case for case in mine if case.is_long][:1], *own]


def launcher(op: str) -> Callable[..., Any]:
    """The CUDA launcher of an operator."""
    modules = map(import_module, MODULES["cuda"])
    function: Callable[..., Any] = next(getattr(module, op) for module in modules if hasattr(module, op))
    return function


@dataclass(frozen=True)
class Emulated(Implementation):
    """The CUDA launchers, driven by an emulation."""

    name: str = "cuda"
    driver: EmulatedDriver | None = None

    @property
    def device(self) -> str:
        return "cpu"

    def function(self, op: str) -> Callable[..., Any]:
        return launcher(op)

    def limited(self) -> AbstractContextManager[Any]:
        assert self.driver is not None
        return driven_by(self.driver)


@cache
def expected(case: Case) -> list[Tensor]:
    """The reference's results."""
    return results(Implementation("reference"), case.op, case.arguments())


def wrong(case: Case, driver: EmulatedDriver, arguments: Sequence[Any] | None = None) -> str:
    """Where the emulated kernels differ from the reference; empty where nowhere."""
    found = results(Emulated(driver=driver), case.op, case.arguments() if arguments is None else arguments)
    return difference(expected(case), found, case.relative)
