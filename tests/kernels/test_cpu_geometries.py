"""The C++ integer products on random geometries, in a program of their own, and mistakes that it must see."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import cpu_emulation
import pytest
from cpu_emulation import SOURCES

from qbench.kernels import cpu

RUNNER = "cpu_products_runner"
ARM_CXX, ARM_CPU = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")

needs_emulation = pytest.mark.skipif(bool(cpu_emulation.why_not()), reason=cpu_emulation.why_not())


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
REDUCE, LINE, LINE_PARTS = "gemm_wgrad_reduce.h", "products_line.cpp", "gemm_line.h"
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
    "results by norms": Mutation(
        "products.cpp", "LARGEST = 0.999 * INT32_MAX", "LARGEST = 1.1 * INT32_MAX", ("products",)
    ),
    "norm of a window": Mutation("products.cpp", "pixel * static_cast<double>(taps.size())", "pixel", ("products",)),
    "filter with the largest norm": Mutation(
        "products.cpp", "tap.offset + group * p.group_stride + column * p.column_stride;", "tap.offset;", ("products",)
    ),
    "zero point in a pixel's norm": Mutation(
        "products_operand.cpp", "codes[i + lane] - zero", "codes[i + lane]", ("products_operand",)
    ),
    "last channels in a pixel's norm": Mutation(
        "products_operand.cpp", "for (; i < count; ++i)", "for (; false;)", ("products_operand",)
    ),
    "pixel with the largest norm": Mutation(
        "products_operand.cpp", "squares(codes + column * x.stride[2]", "squares(codes", ("products_operand",)
    ),
    "row with the largest norm": Mutation(
        "products_operand.cpp", "row / size.height * x.stride[0] +\n", "0 +\n", ("products_operand",)
    ),
    "rows of a tile": Mutation("gemm_conv.h", "r * pitch * columns", "r * outputs * columns", ("products_amx",)),
    "rows of a tile with a stride": Mutation("gemm_conv.h", "* p.step_y / p.step_x;", "* p.step_y;", ("products_amx",)),
    "carries of a unit's bytes": Mutation(
        "gemm_pack.h", "((word ^ add) & HIGH)", "(word & HIGH)", ("products_avxvnni",)
    ),
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
    "middle of the line's codes": Mutation(REDUCE, " + LINE_MIDDLE * met[m])", ")", ("products_scalar",)),
    "line's sums as floats": Mutation(REDUCE, "const double sum", "const float sum", ("products_scalar",)),
    "slope of each of the line's terms": Mutation(
        REDUCE,
        "slope[n] * (sum - mean[n] * pixels)",
        "slope[n] * sum - slope[n] * (mean[n] * pixels)",
        ("products_scalar",),
    ),
    "line in one rounding": Mutation(
        REDUCE, "(line) * target.first_scale", "(line * target.first_scale)", ("products_scalar",)
    ),
    "scale of the line's input": Mutation(REDUCE, "(line) * target.first_scale", "(line)", ("products_scalar",)),
    "slope of a tile's filters": Mutation(REDUCE, "target.slope + first_filter", "target.slope", ("products_scalar",)),
    "mean of a tile's filters": Mutation(REDUCE, "target.mean + first_filter", "target.mean", ("products_scalar",)),
    "pull of a tile's filters": Mutation(REDUCE, "target.pull + first_filter", "target.pull", ("products_scalar",)),
    "filter of what is pulled": Mutation(REDUCE, "++n, from += filter", "++n", ("products_scalar",)),
    "place of what is pulled": Mutation(
        REDUCE, "pulled + m * columns + n", "pulled + n * rows + m", ("products_scalar",)
    ),
    "line of a group's filters": Mutation(
        REDUCE, "group * p.out_group + column, met", "column, met", ("products_scalar",)
    ),
    "tap row of what is met": Mutation(
        REDUCE, "met + (group * p.taps_y + r)", "met + (group * p.taps_y)", ("products_scalar",)
    ),
    "line's sums in 32 bits": Mutation(
        "products_wgrad.cpp", "single && kind == RESULT_INT32", "single && kind != RESULT_FLOAT32", ("products_wgrad",)
    ),
    "zero point of what is met": Mutation(LINE, "-std::int64_t{p.zero} * pixels", "0", ("products_line",)),
    "images of what is met": Mutation(LINE, "= p.images * (down", "= (down", ("products_line",)),
    "first output inside": Mutation(LINE, "pieces(-first, stride)", "-first / stride", ("products_line",)),
    "last output inside": Mutation(LINE, "pieces(size - first, stride)", "(size - first) / stride", ("products_line",)),
    "part of a row of sums": Mutation(LINE, "rows + r * length + begin", "rows + r * length", ("products_line",)),
    "rows met with a stride": Mutation(LINE, "(first + y * p.stride_y)", "(first + y)", ("products_line",)),
    "pixels met with a stride": Mutation(LINE, "first + x * p.stride_x)", "first + x)", ("products_line",)),
    "group of what is met": Mutation(LINE, "* p.channels + channel;", "* p.channels;", ("products_line",)),
    "part of an image": Mutation(LINE, "(job - p.filters) * IMAGE_PART", "0", ("products_line",)),
    "images that 16 bits take": Mutation(LINE_PARTS, "UINT16_MAX / UINT8_MAX", "300", ("products_scalar",)),
    "block of an image": Mutation(LINE_PARTS, "image * size + at", "image * size + begin", ("products_scalar",)),
    "sign of the extremes": Mutation(LINE_PARTS, "j < p.extremes / 2", "j >= p.extremes / 2", ("products_scalar",)),
    "half of the extremes": Mutation(LINE_PARTS, "p.extremes / 2", "p.extremes / 4", ("products_scalar",)),
    "extremes that 16 bits take": Mutation(LINE_PARTS, "= INT16_MAX / UINT8_MAX", "= 129", ("products_scalar",)),
    "sums of the extremes before": Mutation(
        LINE_PARTS,
        "fill(sums, size, std::uint16_t{0});",
        "if (!first) fill(sums, size, std::uint16_t{0});",
        ("products_scalar",),
    ),
    "extremes after the first": Mutation(
        LINE_PARTS, "to[i] += static_cast", "to[i] = static_cast", ("products_scalar",)
    ),
    "signs of the extremes' sums": Mutation(
        LINE_PARTS, "static_cast<std::int16_t>(sums[i])", "sums[i]", ("products_scalar",)
    ),
    "extremes of a filter": Mutation(
        LINE_PARTS, "p.at[j * p.filters + filter]", "p.at[j * p.filters]", ("products_scalar",)
    ),
    "results of a filter": Mutation(LINE_PARTS, "p.pulled + filter * size", "p.pulled", ("products_scalar",)),
    "zero point of the maxima": Mutation(LINE_PARTS, "sums[i] + zero -", "sums[i] -", ("products_scalar",)),
    "zero point of the minima": Mutation(LINE_PARTS, "sums[i] - zero +", "sums[i] +", ("products_scalar",)),
    "group of the extremes": Mutation(LINE_PARTS, "filter / p.out_group * p.in_group", "0", ("products_scalar",)),
    "dilated row of a window": Mutation(LINE_PARTS, "p.dilation_x == 1 && ", "", ("products_scalar",)),
    "rows above the image": Mutation(LINE_PARTS, "y < 0 || y >= p.height", "y >= p.height", ("products_scalar",)),
    "rows below the image": Mutation(LINE_PARTS, "y < 0 || y >= p.height", "y < 0", ("products_scalar",)),
    "pixels before a row": Mutation(LINE_PARTS, "left < 0 ? -left : 0", "0", ("products_scalar",)),
    "pixels behind a row": Mutation(LINE_PARTS, "rest < p.taps_x ? rest : p.taps_x", "p.taps_x", ("products_scalar",)),
    "dilated pixels behind a row": Mutation(LINE_PARTS, "x < 0 || x >= p.width", "x < 0", ("products_scalar",)),
    "extremes with a stride": Mutation(
        LINE_PARTS, "(row - image * p.out_h) * p.stride_y", "(row - image * p.out_h)", ("products_scalar",)
    ),
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
