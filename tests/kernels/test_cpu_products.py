"""The C++ integer products on what only they do: Winograd's forms, digits, partial sums that must leave int32 in
time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kernel_cases_line_gradient as line_gradient
import kernel_cases_products as cases
import pytest
import torch
from kernel_cases_products import Fill, Shape
from kernel_matrix import Implementation, cpp_levels, difference, results
from torch_settings import threads

from qbench.kernels import backends, cpu
from qbench.kernels.cpu import line_gradient as cpu_line_gradient
from qbench.kernels.cpu import products

needs_library = pytest.mark.skipif(bool(backends.why_not("cpp")), reason=str(backends.why_not("cpp")))


# --- what only some inputs reach

U8, S8, S16 = torch.uint8, torch.int8, torch.int16
CPP, REFERENCE = Implementation("cpp"), Implementation("reference")
WINOGRAD = (
    # F(4x4, 3x3), by what it costs
    Shape("whole-tiles", (4, 32, 8, 8), 32, (3, 3), padding=(1, 1)),
    Shape("cut-tiles", (5, 34, 7, 9), 33, (3, 3), padding=(1, 1)),
    Shape("one-more", (3, 50, 13, 13), 47, (3, 3), padding=(1, 1)),
    Shape("few-channels", (2, 16, 24, 20), 16, (3, 3), padding=(1, 1)),
    Shape("uneven-channels", (6, 18, 9, 14), 65, (3, 3), padding=(2, 2)),
    Shape("flat", (9, 64, 1, 30), 64, (3, 3), padding=(1, 1)),
    # F(2x2, 3x3)
    Shape("small-images", (64, 48, 2, 2), 49, (3, 3), padding=(1, 1)),
    Shape("small-odd-images", (70, 64, 5, 2), 34, (3, 3), padding=(1, 1)),
    # whichever
    Shape("even", (2, 32, 8, 8), 32, (3, 3), padding=(1, 1)),
    Shape("odd", (3, 34, 7, 9), 33, (3, 3), padding=(1, 1)),
    Shape("no-padding", (1, 48, 5, 4), 47, (3, 3)),
    Shape("one-output", (1, 32, 3, 3), 40, (3, 3)),
    Shape("wide-padding", (1, 32, 1, 2), 64, (3, 3), padding=(2, 2)),
    Shape("many-images", (40, 32, 4, 4), 32, (3, 3), padding=(1, 1)),
    # Outputs reach 9 * 255 * 128 * C, on either side of 2^29, the bound of F(2x2), and of 2^25, that of F(4x4).
    Shape("below-bound-2", (24, 1826, 4, 4), 34, (3, 3)),
    Shape("beyond-bound-2", (24, 1830, 4, 4), 34, (3, 3)),
    Shape("below-bound-4", (8, 114, 10, 10), 40, (3, 3)),
    Shape("beyond-bound-4", (8, 116, 10, 10), 40, (3, 3)),
    Shape("below-bound-4-back", (8, 40, 10, 10), 114, (3, 3), padding=(2, 2)),
    Shape("beyond-bound-4-back", (8, 40, 10, 10), 116, (3, 3), padding=(2, 2)),
    Shape("several-parts", (8, 510, 10, 10), 36, (3, 3), padding=(1, 1)),
)
FILLS = (
    Fill(U8, 255, 0.0, S8, -128, None),
    Fill(U8, 0, 255.0, S8, 127, None),
    Fill(U8, 255, 0.0, U8, 255, 0.0),
    Fill(U8, 0, 255.0, U8, 255, 0.0),
    Fill(U8, None, 131.0, S8, None, None),
    Fill(U8, None, 7.0, U8, None, 200.0),
)


def assert_equal(op: str, arguments: tuple[Any, ...]) -> None:
    expected = results(REFERENCE, op, arguments)
    for level in cpp_levels():
        assert difference(expected, results(Implementation("cpp", level), op, arguments)) == "", level


def assert_products_equal(shape: Shape, fill: Fill, kinds: Sequence[str] = cases.KINDS) -> None:
    for kind in kinds:
        assert_equal(kind, cases.convolution(kind, shape, fill))
        assert_equal(f"{kind}_scaled", cases.scaled(kind, shape, fill))


@needs_library
@pytest.mark.parametrize("fill", FILLS, ids=str)
@pytest.mark.parametrize("shape", WINOGRAD, ids=lambda shape: shape.label)
def test_winograd(shape: Shape, fill: Fill) -> None:
    for kind in ("conv2d", "conv2d_input_grad"):
        assert_equal(kind, cases.convolution(kind, shape, fill))
    assert_equal("conv2d_scaled", cases.scaled("conv2d", shape, fill, per_channel=True))
    assert_equal("add_conv2d_input_grad_", cases.added(shape, fill))


def signs(largest: int) -> tuple[int, int]:
    """Values that reach the largest sums of a transform, whose coefficients have both signs."""
    return -largest, largest


SIGNS = (
    # Inputs that a transform by 10 * 10, or by 2 * 2, takes to the end of int16, and beyond it.
    *(Fill(S16, signs(largest), None, S8, None, None) for largest in (327, 328, 400, 8191, 8192)),
    Fill(S8, None, None, S16, signs(669), None),  # filters that a transform by 7 * 7 takes beyond it
)


@needs_library
@pytest.mark.parametrize("fill", SIGNS, ids=str)
@pytest.mark.parametrize("shape", [*WINOGRAD[:1], *WINOGRAD[6:7]], ids=lambda shape: shape.label)
def test_winograd_at_the_bounds_of_its_transforms(shape: Shape, fill: Fill) -> None:
    for kind in cases.KINDS:
        assert_equal(kind, cases.convolution(kind, shape, fill))


WINOGRAD_WGRAD = (
    Shape("whole-tiles", (4, 32, 16, 16), 32, (3, 3), padding=(1, 1)),
    Shape("cut-tiles", (4, 64, 17, 17), 63, (3, 3)),
    Shape("few-channels", (5, 16, 22, 33), 31, (3, 3), padding=(1, 1)),
    Shape("wide-padding", (6, 40, 10, 9), 70, (3, 3), padding=(2, 2)),
    Shape("many-small", (67, 64, 4, 4), 64, (3, 3), padding=(1, 1)),
    Shape("odd-channels", (4, 34, 16, 16), 32, (3, 3), padding=(1, 1)),
    Shape("full-chunks", (8, 32, 18, 18), 32, (3, 3)),  # every product of 128 whole tiles the largest
)
WINOGRAD_ERRORS = (
    Fill(U8, 255, 0.0, S8, -128, None),  # -128: 64 tiles
    Fill(U8, 255, 0.0, S8, -128, 17.0),  # -145: 56 tiles
    Fill(U8, 0, 255.0, S8, -128, 18.0),  # -146: two digits
    Fill(U8, None, None, S8, -128, 18.0),  # inputs that are all alike would meet the largest transform with 0
    Fill(S16, signs(327), None, S16, signs(145), None),
    Fill(S16, signs(327), None, S16, signs(146), None),
    Fill(S16, signs(328), None, S16, signs(145), None),
    Fill(U8, 255, 0.0, U8, 255, 0.0),
    Fill(U8, 0, 255.0, U8, 0, 255.0),
    Fill(U8, 255, 0.0, S16, -32768, None),
    Fill(U8, 255, 0.0, S16, 32767, None),
    Fill(U8, 0, 255.0, S16, 32640, None),  # digits -128 and 128
    Fill(S8, -128, 127.0, S16, 32639, None),  # 127 and 127
    Fill(U8, None, 131.0, S16, None, None),
    Fill(U8, None, 7.0, S8, None, None),
    Fill(S8, None, None, U8, None, 100.0),
    Fill(U8, None, None, S16, None, 3.0),  # beyond two digits
    Fill(S16, None, None, S8, None, None),
)


@needs_library
@pytest.mark.parametrize("fill", WINOGRAD_ERRORS, ids=str)
@pytest.mark.parametrize("shape", WINOGRAD_WGRAD, ids=lambda shape: shape.label)
def test_winograd_weight_grad(shape: Shape, fill: Fill) -> None:
    assert_products_equal(shape, fill, ["conv2d_weight_grad"])


@needs_library
@pytest.mark.parametrize("fill", line_gradient.FILLS[1:], ids=str)
@pytest.mark.parametrize("shape", WINOGRAD_WGRAD, ids=lambda shape: shape.label)
def test_winograd_weight_grad_of_a_line(shape: Shape, fill: Fill) -> None:
    assert_equal(line_gradient.OP, line_gradient.line(shape, fill))


LONG = (
    # int32 takes 257 products of int16 and uint8, one of two int16.
    Shape("channels", (1, 700, 2, 3), 5, (1, 1)),
    Shape("taps", (1, 90, 6, 5), 3, (3, 3), padding=(1, 1)),
    Shape("filters", (1, 3, 4, 5), 600, (1, 1)),
    Shape("pixels", (3, 3, 20, 21), 2, (3, 3), padding=(1, 1)),
    Shape("one-row", (1, 2, 1, 700), 3, (1, 1)),
    Shape("no-reuse", (1, 8, 9, 700), 3, (3, 3), (2, 2), (1, 1), groups=1),
)
INT16 = (
    Fill(S16, -32768, None, U8, 255, 0.0),
    Fill(U8, 255, 0.0, S16, -32768, None),
    Fill(S16, -32768, None, S16, -32768, None),
    Fill(S16, -32768, 32767.0, S16, -32768, 32767.0),
    Fill(S16, None, None, S8, None, None),
    Fill(S16, None, -5.0, S16, None, None),
)


@needs_library
@pytest.mark.parametrize("fill", INT16, ids=str)
@pytest.mark.parametrize("shape", LONG, ids=lambda shape: shape.label)
def test_long_sums_of_int16(shape: Shape, fill: Fill) -> None:
    assert_products_equal(shape, fill)


@needs_library
def test_many_small_squares_beside_a_large_one() -> None:
    """They take the sum beyond int32, but float32 would not see them in the square of a pixel's norm."""
    x = torch.zeros(162_500, 8, dtype=S16)
    x[:, :4], x[0, :4] = 3, 23_139
    codes = x.view(1, -1, 1, 1)
    assert 2**31 < int(x.long().square().sum()) < 1.00001 * 2**31
    assert_equal("conv2d", (codes, None, codes, None, [1, 1], [0, 0], [1, 1], 1, True))


@needs_library
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_threads_change_nothing(count: int) -> None:
    shape = Shape("threads", (3, 32, 14, 13), 40, (3, 3), padding=(1, 1))
    strided = Shape("strided", (2, 24, 15, 17), 40, (3, 3), (2, 2), (1, 1))
    with threads(count):
        for case in (shape, strided):
            for kind in cases.KINDS:
                assert_equal(f"{kind}_scaled", cases.scaled(kind, case, FILLS[-1]))
            assert_equal(line_gradient.OP, line_gradient.line(case, line_gradient.FILLS[1]))


@needs_library
def test_extremes_are_nan_only_where_a_result_is() -> None:
    shape = Shape("3x3", (1, 32, 5, 5), 35, (3, 3), padding=(1, 1))
    arguments = list(cases.scaled("conv2d", shape, FILLS[-1], per_channel=True))
    bias = arguments[6].clone()
    bias[34] = torch.nan
    arguments[6] = bias
    assert_equal("conv2d_scaled", tuple(arguments))


@needs_library
@pytest.mark.parametrize(("dtype", "zero"), [(U8, -1.0), (U8, 256.0), (S8, 128.0), (U8, 0.5), (U8, torch.nan)])
def test_zero_point_outside_its_type(dtype: torch.dtype, zero: float) -> None:
    a, b = torch.ones((2, 3), dtype=dtype), torch.ones((3, 2), dtype=S8)
    with pytest.raises(ValueError, match="conv2d: a zero point must be an integer"):
        products.matmul(a, torch.tensor(zero), b, None, True)


@needs_library
@pytest.mark.parametrize("zero", [-1.0, 256.0, 0.5, torch.nan])
def test_zero_point_of_a_line_outside_its_type(zero: float) -> None:
    x, _, *rest = line_gradient.line(cases.BASIC, line_gradient.FILLS[1])
    with pytest.raises(ValueError, match="conv2d_weight_grad_line: a zero point must be an integer"):
        cpu_line_gradient.conv2d_weight_grad_line(x, torch.tensor(zero), *rest)


# --- choice of the level


@needs_library
def test_levels() -> None:
    assert cpu.levels()[0] == "scalar"
    for level in cpu.levels():
        with cpu.limited_to(level):
            assert cpu.isa() == level
            assert cpu.LEVELS[cpu.level()] == level
    assert cpu.isa() == os.environ.get("QBENCH_ISA", cpu.levels()[-1])


@needs_library
@pytest.mark.parametrize("name", ["sse9", "neon" if "avx2" in cpu.levels() else "amx"] if cpu.available() else [])
def test_level_that_is_not_here(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "unknown" if name == "sse9" else "cannot run it"
    with pytest.raises(cpu.NativeLibraryError, match=expected), cpu.limited_to(name):
        pass
    monkeypatch.setenv("QBENCH_ISA", name)
    cpu.default_isa.cache_clear()  # which keeps no error
    with pytest.raises(cpu.NativeLibraryError, match=f"QBENCH_ISA={name}: .*{expected}"):
        cpu.isa()


def test_library_that_is_not_there(tmp_path: Path) -> None:
    code = "from qbench.kernels import cpu; print(cpu.available(), cpu.why_not())"
    environment = os.environ | {"QBENCH_NATIVE_LIBRARY": str(tmp_path / "none.so")}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.startswith("False") and "none.so does not exist" in done.stdout


RAW = (
    # Rows whose sums of bytes pass 16 bits, with every step of the windows that has code of its own.
    Shape("wide-row", (1, 20, 2, 700), 18, (1, 3), padding=(0, 1)),
    Shape("wide-row-strided", (2, 3, 3, 701), 5, (3, 3), (1, 2)),
    Shape("wide-row-dilated", (1, 18, 5, 300), 6, (3, 3), dilation=(2, 2)),
    Shape("wide-row-strided-dilated", (1, 4, 5, 600), 6, (2, 2), (1, 2), dilation=(1, 3)),
    Shape("many-taps", (2, 3, 20, 21), 17, (7, 7), (2, 2), (3, 3)),
    Shape("many-taps-grouped", (2, 6, 9, 13), 8, (3, 5), padding=(1, 2), groups=2),
    Shape("channels", (1, 4200, 2, 2), 5, (1, 1)),  # more than are summed at once
    Shape("whole-channels", (1, 4160, 2, 2), 33, (1, 1)),
)
ZEROS = (
    Fill(U8, 255, 3.0, U8, 255, 200.0),
    Fill(U8, 255, 0.0, U8, 0, 131.0),
    Fill(U8, None, 117.0, U8, None, 140.0),
    Fill(S16, None, None, U8, None, 7.0),
)


@needs_library
@pytest.mark.parametrize("fill", ZEROS, ids=str)
@pytest.mark.parametrize("shape", RAW, ids=lambda shape: shape.label)
def test_zero_points_of_raw_bytes(shape: Shape, fill: Fill) -> None:
    assert_products_equal(shape, fill)
