"""The C++ integer products on random geometries, and on what only they do: Winograd's forms, digits, partial sums that
must leave int32 in time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cpu_emulation
import kernel_cases_products as cases
import pytest
import torch
from cpu_emulation import SOURCES
from kernel_cases_products import Fill, Shape
from kernel_matrix import Implementation, cpp_levels, difference, results

from qbench.kernels import backends, cpu
from qbench.kernels.cpu import products

RUNNER = "cpu_products_runner"
ARM_CXX, ARM_CPU = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")

needs_library = pytest.mark.skipif(bool(backends.why_not("cpp")), reason=str(backends.why_not("cpp")))
needs_emulation = pytest.mark.skipif(bool(cpu_emulation.why_not()), reason=cpu_emulation.why_not())


# --- random geometries, in a program of their own


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Threads that wait sleep: there are more of them than CPUs."""
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    return subprocess.run(list(command), check=False, capture_output=True, text=True, env=environment)


@pytest.mark.slow
@needs_emulation
def test_random_geometries_at_every_level() -> None:
    done = run(cpu_emulation.program(RUNNER), "400")
    assert done.returncode == 0, done.stdout + done.stderr
    numbers = " ".join(str(cpu.LEVELS.index(level)) for level in cpu_emulation.LEVELS)
    assert f"levels {numbers}\n" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not (ARM_CXX and ARM_CPU), reason="needs aarch64-linux-gnu-g++ and qemu-aarch64")
def test_random_geometries_on_neon(tmp_path: Path) -> None:
    sources = [*SOURCES.glob("products*.cpp"), *SOURCES.glob("isa*.cpp"), Path(__file__).with_name(f"{RUNNER}.cpp")]
    objects = cpu_emulation.compile_all(sources, SOURCES, tmp_path, str(ARM_CXX), cpu_emulation.FLAGS)
    command = [str(ARM_CXX), "-fopenmp", "-static", *map(str, objects), "-o", str(tmp_path / "runner")]
    subprocess.run(command, check=True, capture_output=True)
    done = run(str(ARM_CPU), tmp_path / "runner", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"levels {cpu.LEVELS.index('scalar')} {cpu.LEVELS.index('neon')}" in done.stdout


# --- mistakes that these comparisons must see


@dataclass(frozen=True)
class Mutation:
    file: str
    right: str
    wrong: str
    recompiled: tuple[str, ...]


FORMS, WGRAD, AMX = "gemm_winograd_forms.h", "gemm_wgrad_winograd.h", "products_amx.cpp"
MUTATIONS = {
    "product of zero points": Mutation("gemm_conv.h", "phase.terms * za * zb - za", "-za", ("products_avxvnni",)),
    "row sums": Mutation("gemm_conv.h", "static_cast<Sum>(-factor),", "Sum{0},", ("products_avxvnni",)),
    "digits of a pixel's sum": Mutation("gemm_conv.h", "8 * digit, to);", "0, to);", ("products_avxvnni",)),
    "sums of another group": Mutation(
        "gemm_conv.h", "(summed_group == group)", "(summed_group >= 0)", ("products_avxvnni",)
    ),
    "joined taps": Mutation("gemm_conv.h", "sums_of[i + taps] - first", "0", ("products_avxvnni",)),
    "sums that were joined": Mutation("gemm_conv.h", "summed_group = -1;\n    }", "\n    }", ("products_avxvnni",)),
    "windows of outputs with a stride": Mutation("gemm_conv.h", "sum[j * p.step_x]", "sum[j]", ("products_avxvnni",)),
    "last channels of a pixel": Mutation("isa_pixel_sums.h", "KEEP + 16 -", "KEEP + 15 -", ("products_avxvnni",)),
    "sums of four pixels": Mutation(
        "isa_pixel_sums.h", "SHUFFLE(2, 0, 2, 0)", "SHUFFLE(0, 2, 2, 0)", ("products_avxvnni",)
    ),
    "sums of wide results": Mutation(
        "isa_pixel_sums.h", "_mm_slli_epi64(second, shift)", "_mm_slli_epi64(first, shift)", ("products_avxvnni",)
    ),
    "high digits in 32 bits": Mutation("gemm_conv.h", "outputs, 8 * (da + db));", "outputs, 0);", ("products_amx",)),
    "results in 32 bits": Mutation("products.cpp", "largest <= INT32_MAX / p.a.bound", "true", ("products",)),
    "part of a row": Mutation("gemm_finish.h", "of_columns + of_row", "of_columns", ("products_avxvnni",)),
    "part of a rest's columns": Mutation(
        "gemm_finish.h", "{lack.rows, lack.columns + done}", "{lack.rows, lack.columns}", ("products_avxvnni",)
    ),
    "rows of a weight gradient": Mutation("gemm_wgrad_reduce.h", "zb * of_row[m] * factor", "0", ("products_avxvnni",)),
    "moved windows": Mutation("gemm_wgrad.h", "next[c] - first[c]", "next[c]", ("products_avxvnni",)),
    "windows with a stride": Mutation(
        "gemm_wgrad.h", "part, p.stride_x * p.channels", "part, p.channels", ("products_avxvnni",)
    ),
    "column sums of the weight gradient": Mutation(
        "gemm_wgrad.h", "column_sums[c] += total[c]", "(void)total", ("products_avxvnni",)
    ),
    "weight of the high digit": Mutation(
        "gemm_finish.h", "(std::int64_t{1} << shift)", "(std::int64_t{1} + 0 * shift)", ("products_avx2",)
    ),
    "flush before overflow": Mutation("gemm_wgrad.h", "pending + terms > p.limit", "false", ("products_avx2",)),
    "F(2x2) input": Mutation(FORMS, "(d[2] - d[1])", "(d[2] + d[1])", ("products_avx2",)),
    "F(2x2) filter": Mutation(FORMS, "w[0] - w[1] + w[2]", "w[0] - w[1] - w[2]", ("products_avx2",)),
    "F(2x2) output": Mutation(FORMS, "m[1] - m[2] - m[3]", "m[1] - m[2] + m[3]", ("products_avx2",)),
    "F(4x4) input": Mutation(FORMS, "(d[5] - d[3] - twice * 2)", "(d[5] - d[3] - twice)", ("products_avx2",)),
    "F(4x4) filter": Mutation(FORMS, "out[4] = wide - twice", "out[4] = wide + twice", ("products_avx2",)),
    "F(4x4) output": Mutation(FORMS, "(near + far + far + m[5]) << 2", "(near + far + far) << 2", ("products_avx2",)),
    "F(4x4) quotient": Mutation(FORMS, "954437177u", "954437176u", ("products_avx2",)),
    "bound of F(4x4)": Mutation("gemm.h", "7 * 7, 1 << 25", "7 * 7, 1 << 26", ("products",)),
    "parts of Winograd's channels": Mutation(
        "gemm_winograd.h", "magnitude[c] + next[c] <= p.winograd_most", "true", ("products_avx2",)
    ),
    "magnitudes of Winograd's parts": Mutation(
        "gemm_winograd.h", "taps[i] < 0 ? -taps[i] : taps[i]", "taps[i] < 0 ? 0 : taps[i]", ("products_avx2",)
    ),
    "sums of Winograd's parts": Mutation("gemm_winograd.h", "shift) + before", "shift)", ("products_avx2",)),
    "high digit of an input": Mutation("gemm_winograd.h", "vectors, 8 * digit,", "vectors, 0,", ("products_avx2",)),
    "inputs of a digit": Mutation(
        "gemm_winograd.h",
        "inputs + digit * POINTS * point;\n        for (std::int64_t i",
        "inputs;\n        for (std::int64_t i",
        ("products_avx2",),
    ),
    "digits where one does not fit": Mutation(
        "products.cpp", "> INT16_MAX ? 2 : 1", "> INT16_MAX ? 1 : 1", ("products",)
    ),
    "inputs that one digit takes": Mutation(
        "products.cpp", "f.input_growth * p.a.bound > INT16_MAX", "f.input_growth * p.a.bound > 32800", ("products",)
    ),
    "filters that a transform takes": Mutation(
        "products.cpp", "f.filter_growth * p.b.bound > INT16_MAX", "false", ("products",)
    ),
    "inputs of the filters' gradient": Mutation(
        "products_wgrad.cpp", "p.a.bound <= INT16_MAX", "p.a.bound <= 32800", ("products_wgrad",)
    ),
    "errors that one digit takes": Mutation(
        "products_wgrad.cpp", "error.bound <= INT16_MAX", "error.bound <= 32850", ("products_wgrad",)
    ),
    "errors beyond two digits": Mutation(
        "products_wgrad.cpp", "INT16_MAX ? 0 : 2", "INT16_MAX ? 2 : 2", ("products_wgrad",)
    ),
    "smallest code": Mutation("products_operand.cpp", "({1, x.zero - low, high", "({1, high", ("products_operand",)),
    "largest code": Mutation("products_operand.cpp", "low, high - x.zero})", "low})", ("products_operand",)),
    "codes of all jobs": Mutation(
        "products_operand.cpp", "codes + begin, 1, std", "codes, 1, std", ("products_operand",)
    ),
    "parts of a chunk": Mutation("gemm_wgrad.h", "whole->a + start * step", "whole->a", ("products_avx2",)),
    "part before overflow": Mutation("gemm_wgrad.h", "p.limit && terms > p.limit", "false", ("products_avx2",)),
    "F(3x3) error": Mutation(WGRAD, "out[4] = wide - twice", "out[4] = wide + twice", ("products_avx2",)),
    "F(3x3) output": Mutation(WGRAD, "m[5] << 2)) << 2", "m[5] << 1)) << 2", ("products_avx2",)),
    "missing tile of a pair": Mutation(WGRAD, "p.channels, std::int16_t{0}", "0, std::int16_t{0}", ("products_avx2",)),
    "low digit of an error": Mutation(WGRAD, "whole - high[i] * 256", "whole & 255", ("products_avx2",)),
    "high digit of an error": Mutation(WGRAD, "(whole >> 7 & 1)", "0", ("products_avx2",)),
    "place of a tap": Mutation(WGRAD, "s * blocks + block", "s + block", ("products_avx2",)),
    "tiles of F(3x3)": Mutation("products_wgrad.cpp", "16 * p.a.bound", "8 * p.a.bound", ("products_wgrad",)),
    "pixels at equal distances": Mutation(
        "products.cpp", "inner.count * inner.stride == outer.stride", "true", ("products",)
    ),
    "merged taps": Mutation("products_plan.cpp", "list[t].x == list[t - 1].x + 1", "true", ("products_plan",)),
    "pairs of AVX-512": Mutation(
        "isa_registers512.h", "interleave_2x8(from", "interleave_2x4(from", ("products_avx512",)
    ),
    "second half of AVX-VNNI": Mutation(
        "products_avxvnni.cpp", "halves.high);  // six", "halves.low);  // six", ("products_avxvnni",)
    ),
    "second half of AVX512-VNNI": Mutation(
        "products_avx512vnni.cpp", "(to + 16), halves.high", "(to + 16), halves.low", ("products_avx512vnni",)
    ),
    "pairs of AVX512-VNNI": Mutation(
        "isa_registers512.h", "interleave_2x8(from", "interleave_2x4(from", ("products_avx512vnni",)
    ),
    "pairs of AVX-VNNI": Mutation(
        "products_avxvnni.cpp",
        "dpwssd_avx_epi32(sum, left, right)",
        "dpwssd_avx_epi32(sum, left, left)",
        ("products_avxvnni",),
    ),
    "signs of the bytes": Mutation(
        "products_avx512vnni.cpp", "(sum, left, right);", "(sum, right, left);", ("products_avx512vnni",)
    ),
    "stride of tiles": Mutation(
        AMX, "tile_load<6>(right, width)", "tile_load<6>(right, TILE_BYTES)", ("products_amx",)
    ),
    "second row of tiles": Mutation(
        AMX, "tile_load<5>(left + TILE_ROWS * row_step", "tile_load<5>(left", ("products_amx",)
    ),
    "second column of tiles": Mutation(AMX, "tile_load<7>(right + TILE_BYTES", "tile_load<7>(right", ("products_amx",)),
    "sums before": Mutation(AMX, "tile_load<3>(lower + 16", "tile_load<3>(lower", ("products_amx",)),
    "sums of zero": Mutation(AMX, "(two_columns) tile_zero<1>()", "(two_columns) {}", ("products_amx",)),
    "next tiles": Mutation(AMX, "right += Isa::depth * width", "right += Isa::depth * TILE_BYTES", ("products_amx",)),
    "bytes of pixels": Mutation(
        "isa_interleave.h", "_mm_unpackhi_epi8(rows[i]", "_mm_unpacklo_epi8(rows[i]", ("products_amx",)
    ),
    "pixels of a tap": Mutation(
        "gemm_wgrad.h", "part + tap * p.dilation_x * p.channels, to", "part, to", ("products_amx",)
    ),
    "pixels of a line with a stride": Mutation(
        "gemm_wgrad.h", "pixel = p.stride_x * p.channels, pixels", "pixel = p.channels, pixels", ("products_amx",)
    ),
    "high digit of packed errors": Mutation("gemm_pack.h", "c] >> SHIFT) + static", "c]) + static", ("products_amx",)),
    "rows of tiles": Mutation("isa_amx.h", "config.rows[i] = TILE_ROWS", "config.rows[i] = 15", ("products_amx",)),
    "signs of low digits": Mutation("isa_amx.h", "_tile_dpbuud(0, 4, 6)", "_tile_dpbusd(0, 4, 6)", ("products_amx",)),
    "signs of summed digits": Mutation("gemm_wgrad.h", "sum_units<Swapped>", "sum_units<Isa>", ("products_amx",)),
    "signs of filters' digits": Mutation("gemm_pack.h", "return is_signed ?", "return true ?", ("products_amx",)),
    "bound of low digits": Mutation(
        "products_operand.cpp", "if (low_digits_unsigned) x", "if (false) x", ("products_operand",)
    ),
    "no configuration": Mutation(AMX, "{ configure_tiles(); }", "{}", ("products_amx",)),
}


@pytest.mark.slow
@needs_emulation
@pytest.mark.parametrize("name", MUTATIONS)
def test_random_geometries_see(name: str, tmp_path: Path) -> None:
    mutation = MUTATIONS[name]
    sources = cpu_emulation.copy_sources(tmp_path / "sources")
    file = sources / mutation.file
    text = file.read_text()
    assert mutation.right in text
    file.write_text(text.replace(mutation.right, mutation.wrong))
    changed = [sources / f"{name}.cpp" for name in mutation.recompiled]
    objects = {path.stem: path for path in cpu_emulation.compile_all(changed, sources, tmp_path)}
    runner = cpu_emulation.program(RUNNER, objects, tmp_path / "runner")
    assert run(runner, "150").returncode != 0


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
    assert_equal("conv2d_weight_grad", cases.convolution("conv2d_weight_grad", shape, fill))
    assert_equal("conv2d_weight_grad_scaled", cases.scaled("conv2d_weight_grad", shape, fill))


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
    for kind in cases.KINDS:
        assert_equal(kind, cases.convolution(kind, shape, fill))
        assert_equal(f"{kind}_scaled", cases.scaled(kind, shape, fill))


@needs_library
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_change_nothing(threads: int) -> None:
    shape = Shape("threads", (3, 32, 14, 13), 40, (3, 3), padding=(1, 1))
    strided = Shape("strided", (2, 24, 15, 17), 40, (3, 3), (2, 2), (1, 1))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for case in (shape, strided):
            for kind in cases.KINDS:
                assert_equal(f"{kind}_scaled", cases.scaled(kind, case, FILLS[-1]))
    finally:
        torch.set_num_threads(before)


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
    for kind in cases.KINDS:
        assert_equal(kind, cases.convolution(kind, shape, fill))
        assert_equal(f"{kind}_scaled", cases.scaled(kind, shape, fill))
