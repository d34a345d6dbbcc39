"""The C++ elementwise kernels: the number of threads changes no bit, no size is special, the instruction sets agree."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, cast

import cpu_emulation
import kernel_cases_blocks as blocks
import pytest
import torch
from kernel_matrix import Implementation, cpp_levels, difference, integers, normal, number, results
from torch import Tensor
from torch_settings import threads

from qbench.kernels import backends, cpu
from qbench.kernels.cpu.calls import ISA_NUMBERS
from qbench.kernels.library import SCHEMAS
from qbench.kernels.random import Key, hash_words, philox
from qbench.kernels.selftest import PRODUCTS

pytestmark = pytest.mark.skipif(bool(backends.why_not("cpp")), reason=str(backends.why_not("cpp")))

SOURCES = Path(cpu.__file__).parent
CPP, REFERENCE = Implementation("cpp"), Implementation("reference")
KEYS = ([1, 2, 3, 0], [0xFFFFFFFF, 0x80000000, 7, 1])
THREADS = (1, 2, 3, 4, 5)
ON_ONE_THREAD = {f"{kind}_{line}" for kind in ("direct", "level", "range") for line in ("line", "gradient_line")}
"""Operators on a few numbers per channel."""


def levels() -> list[str]:
    """Those with elementwise loops of their own."""
    return [level for level in cpp_levels() if level in ("scalar", "avx2", "avx512", "neon")]


# --- threads


def calls_on(shape: tuple[int, ...]) -> dict[str, tuple[Any, ...]]:
    """Every operator that works on several threads, but those that :func:`test_no_operator_is_left_out` names, with
    inputs too large for one."""
    x, g, codes = normal(shape, seed=1), normal(shape, seed=2), integers(shape, torch.uint8, seed=3)
    slope, offset = normal((shape[1],), seed=4) * 0.01, normal((shape[1],), seed=5)
    few, table, thresholds = (codes & 15), torch.linspace(-2, 2, 16), torch.linspace(-2, 2, 15)
    low, high, scale = number(-1.5), number(2.5), number(1.7)
    at, values = torch.arange(7, x.numel(), 1001), normal((x.numel() // 1001 + 1,), seed=6)
    at, values = at[: values.numel()], values[: at.numel()]
    mask = integers(((x.numel() + 7) // 8,), torch.uint8, seed=7)
    key, other = KEYS
    weights = integers(shape, torch.int8, seed=8)
    master, state = integers(shape, torch.int32, seed=9) >> 8, integers(shape, torch.int32, seed=10) >> 18
    grid = (0.02, -128.0, 127.0, "stochastic")
    signed = ("stochastic", key, torch.int8)
    direct = (x, offset, slope, 2.0**13, 2.0**15 - 1, slope, offset, True)
    return {
        "extremes": (x,),
        "encode_affine": (x, low, high, 8, True, key),
        "encode_scaled": (x, scale, "linear", 127.0, -127.0, 127.0, "stochastic", other, torch.int8),
        "round_scaled": (x, scale, "linear", 127.0, -127.0, 127.0, "stochastic", key, torch.int8),
        "encode_channels": (x, 127, key, torch.int8),
        "decode_channels": (weights, normal((len(x), *[1] * (x.dim() - 1)), seed=12)),
        "encode_flag": (x, scale, 8),
        "encode_binary": (x, scale, key),
        "encode_levels": (x, thresholds),
        "look_up": (few, table),
        "decode": (codes, scale, low),
        "chunk_statistics": (codes, 1 if codes.numel() // shape[1] % 16 else 16),
        "encode_affine_view": (codes, slope, offset, True, low, high, 8, True, other, at, values),
        "encode_scaled_view": (
            codes, slope, offset, False, scale, "power", 128.0, -127.0, 127.0, *signed, at, values,
        ),
        "view_extremes": (codes, slope, offset, True, at, values),
        "affine_view": (codes, slope, offset, True, x),
        "apply_mask": (g, mask),
        "rectify": (x, g),
        "join_gradients": (weights, scale, g, mask),
        "view_gradient_extremes": (g, codes, slope, offset, True),
        "encode_view_gradient_": (g, codes, slope, offset, True, low, high, 8, True, key),
        "moments": (x,),
        "move_average_": (offset.clone(), slope, 0.1),
        "encode_normalised_levels": (x, offset, slope, thresholds),
        "level_view": (few, table, slope, offset, True, x),
        "level_gradient_sums": (g, few, table, slope, offset, True),
        "level_gradient": (g, few, table, slope, offset, True, slope, offset, slope),
        "direct_view": (*direct, g),
        "encode_direct_view": (*direct, 2.0**-7, -127.0, 127.0, torch.int8),
        "direct_gradient_sums": (weights, scale, *direct),
        "direct_gradient": (g, None, *direct, slope, offset, slope),
        "bounded_values": (x, 0.5, weights, scale, True, 0.9),
        "encode_bounded": (x, 0.5, g, None, False, 0.9, 2.0**-7, -127.0, 127.0, torch.int8),
        "encode_bounded_error": (g, weights, scale, mask, mask, 128.0, 127.0, torch.int8),
        "sgd_on_grid_": (weights, g, x, 0.1, 1e-3, 0.9, True, False, *grid, key),
        "adam_on_grid_": (weights, g, x, x.abs(), 0.1, 0.9, 0.99, 1e-8, 3, 1e-3, *grid, other),
        "quantized_momentum_": (master, state, scale.clone(), g, 1e-3, 128, 1, 26, 2**23 - 1, key),
        "shift_step_": (weights, scale.clone(), g, 8.0, 127, key),
        "poison_": (scale.clone(), x),
        "pack_bits": (codes & 7, 3),
        "unpack_bits": (integers(((x.numel() * 3 + 7) // 8,), torch.uint8, seed=11), 3, list(shape)),
        "encode_ranged": blocks.ranged(shape, 8, True, key),
        "range_norm": blocks.norm(shape, 1, True, key),
        "range_norm_gradient_": blocks.gradient(shape, "random", 1, True, key, masked=True),
        "encode_error": blocks.error(shape, 8, key),
        "encode_error_pair": blocks.pair(shape, 8, key, "stochastic", other, 127.0, torch.int8),
        "max_pool2d": (x, [3, 3], [2, 2], [1, 1]),
        "max_pool2d_direct_view": (*direct, [3, 3], [2, 2], [1, 1]),
        "max_pool2d_view": (codes, None, slope, offset, True, [3, 3], [2, 2], [1, 1]),
    }  # fmt: skip


SHAPES = [(5, 33, 31, 33), (8, 64, 16, 16), (4111, 41)]
PLACES = [(shape, op) for shape in SHAPES for op in calls_on((2, 3, 2, 2)) if len(shape) == 4 or "pool" not in op]


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize(("shape", "op"), PLACES, ids=lambda value: str(value).replace(" ", ""))
def test_threads_change_no_bit(shape: tuple[int, ...], op: str, level: str) -> None:
    """Float64 sums too: they are taken over blocks of rows that depend on the shape alone."""
    arguments = calls_on(shape)[op]
    found = on_threads(op, arguments, level)
    for other in found[1:]:
        assert difference(found[0], other) == ""


def test_no_operator_is_left_out() -> None:
    """Other tests run on one thread each, where a mistake in the division of work does not show."""
    served = {op for op in SCHEMAS if CPP.function(op) is not None}
    with_tests_of_their_own = {*PRODUCTS, "max_pool2d_backward"}
    assert served - calls_on((2, 3, 2, 2)).keys() - with_tests_of_their_own == ON_ONE_THREAD


def on_threads(op: str, arguments: Sequence[Any], level: str) -> list[list[Tensor]]:
    """The results of a call for each number of threads."""
    found = []
    for count in THREADS:
        with threads(count):
            found.append(results(Implementation("cpp", level), op, arguments))
    return found


@pytest.mark.parametrize("level", levels())
def test_backward_of_pooling_does_not_depend_on_threads(level: str) -> None:
    x, geometry = normal((5, 33, 31, 33)), ([3, 3], [2, 2], [1, 1])
    y, window, _ = results(CPP, "max_pool2d", (x, *geometry))
    found = on_threads("max_pool2d_backward", (y, window, list(x.shape), *geometry), level)
    assert all(torch.equal(found[0][0], other[0]) for other in found[1:])


# --- sizes


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("key", [None, *KEYS], ids=["nearest", "philox", "hash"])
def test_every_size_around_the_vectors(level: str, key: list[int] | None) -> None:
    """The first elements get the codes that they get in the largest tensor."""
    x, rest = normal((200,), scale=2.0), (number(-2.0), number(2.0), 8, True, key)
    expected = results(REFERENCE, "encode_affine", (x, *rest))[0]
    for size in range(200):
        codes = results(Implementation("cpp", level), "encode_affine", (x[:size].clone(), *rest))[0]
        assert torch.equal(codes, expected[:size]), size


ROUNDINGS = [("nearest", None), ("half_up", None), ("stochastic", KEYS[0]), ("stochastic", KEYS[1])]


PIECES = (511, 512, 513, 1023, 1024, 1025, 1057)


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("key", KEYS, ids=["philox", "hash"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32], ids=str)
def test_sizes_around_the_pieces(level: str, key: list[int], dtype: torch.dtype) -> None:
    """Stochastic rounding works on 512 elements at a time. Values beyond the limits, infinities and NaN among them."""
    op, rest = "encode_affine", cast(tuple[Any, ...], (number(-50.0), number(150.0), 8, True, key))
    if dtype != torch.uint8:
        op, rest = "encode_scaled", (number(1.0), "fixed", 1.0, -60.0, 127.0, "stochastic", key, dtype)
    x = normal((PIECES[-1],), scale=100.0)
    x[::97], x[1::89], x[2::83] = torch.inf, -torch.inf, torch.nan
    for size in PIECES:
        arguments = (x[:size].clone(), *rest)
        expected = results(REFERENCE, op, arguments)
        assert difference(expected, results(Implementation("cpp", level), op, arguments)) == "", size


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("key", KEYS, ids=["philox", "hash"])
def test_tiny_fractions(level: str, key: list[int]) -> None:
    """Values next to integers, where the difference to the random number is no float, and the smallest ones."""
    x = torch.cat([torch.arange(-300, 301), torch.tensor([0.0])]).repeat_interleave(64).to(torch.float32)
    around = [torch.nextafter(x, number(side)) for side in (-torch.inf, torch.inf)]
    tiny = torch.tensor([2.0**-149, 2.0**-126, 2.0**-25, 2.0**-24]).repeat_interleave(4096)
    x = torch.cat([*around, tiny, -tiny])
    arguments = (x, number(1.0), "fixed", 1.0, -1000.0, 1000.0, "stochastic", key, torch.int16)
    expected = results(REFERENCE, "encode_scaled", arguments)
    assert difference(expected, results(Implementation("cpp", level), "encode_scaled", arguments)) == ""


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize(("rounding", "key"), ROUNDINGS, ids=["nearest", "half-up", "philox", "hash"])
def test_values_between_codes(level: str, rounding: str, key: list[int] | None) -> None:
    """x / scale lands exactly on halves, integers and their float32 neighbours, within limits that are no integers."""
    halves = torch.arange(-300, 301, dtype=torch.float32) / 2
    x = torch.cat([halves, *(torch.nextafter(halves, number(side)) for side in (-torch.inf, torch.inf))])
    arguments = (x, number(1.0), "fixed", 1.0, -100.5, 100.5, rounding, key, torch.int16)
    expected = results(REFERENCE, "encode_scaled", arguments)
    assert difference(expected, results(Implementation("cpp", level), "encode_scaled", arguments)) == ""


LEFT_OUT = {
    "a column of a block": torch.arange(32) * 64 + 5,
    "all but a row": torch.arange(64, 32 * 64),
    "a block": torch.arange(32 * 64),
    "the end": torch.arange(2 * 32 * 64, 2 * 32 * 64 + 3 * 64),
    "all": torch.arange(2 * 32 * 64 + 5 * 64),
    "every second": torch.arange(1, 2 * 32 * 64, 2),
}


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("name", LEFT_OUT)
def test_extremes_without_many_elements(level: str, name: str) -> None:
    """Two blocks of 32 rows of codes and a part of one; the codes 0 and 255 are among the elements replaced alone."""
    at = LEFT_OUT[name]
    codes = (integers((2 * 32 + 5, 64), torch.uint8, seed=1) & 127) + 60
    codes.view(-1)[at] = torch.tensor([0, 255], dtype=torch.uint8).repeat(at.numel())[: at.numel()]
    slope, offset = torch.linspace(-1, 1, 64), torch.linspace(3, -3, 64)
    arguments = (codes, slope, offset, False, at, torch.linspace(-1, 1, at.numel()))
    expected = results(REFERENCE, "view_extremes", arguments)
    assert difference(expected, results(Implementation("cpp", level), "view_extremes", arguments)) == ""


@pytest.mark.parametrize("level", levels())
def test_extremes_of_lines_that_are_not_finite(level: str) -> None:
    """One such channel among others: of codes with 0 and without, and left out."""
    ends = (0.0, 0.5, 1e38, -1e38, math.inf, -math.inf, math.nan)
    for slope, offset, lowest, relu, is_left_out in product(ends, ends, (0, 1), (False, True), (False, True)):
        codes = integers((37, 3), torch.uint8, seed=1).clamp(min=lowest)
        codes[5, 1], at = lowest, torch.arange(37 if is_left_out else 0) * 3 + 1
        line = torch.tensor([1.0, slope, -1.0]), torch.tensor([0.0, offset, 2.0])
        arguments = (codes, *line, relu, at, torch.ones(at.numel()))
        expected = results(REFERENCE, "view_extremes", arguments)
        assert difference(expected, results(Implementation("cpp", level), "view_extremes", arguments)) == "", arguments


# --- the loops in a program of their own

DIGEST = "cpu_passes_digest"
UNITS = (
    "encode", "passes", "statistics", "direct", "bounded", "extremes", "updates", "packing", "pooling", "blocks",
    "range_norm",
)  # fmt: skip
ISA_UNITS = ("elementwise_scalar", "elementwise_avx2", "elementwise_avx512", "elementwise_neon")
FLAGS = (*cpu_emulation.FLAGS, "-w", f"-I{SOURCES}")


def build(compiler: str, out: Path) -> Path:
    sources = [str(SOURCES / f"{name}.cpp") for name in (*UNITS, *ISA_UNITS)]
    program = str(Path(__file__).with_name(f"{DIGEST}.cpp"))
    subprocess.run([compiler, *FLAGS, program, *sources, "-static", "-o", str(out)], check=True, timeout=900)
    return out


def lines(*command: str | int | Path, **environment: str) -> list[str]:
    arguments, variables = list(map(str, command)), os.environ | environment
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=600, env=variables)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not cpu_emulation.why_not():
        return cpu_emulation.program(DIGEST)
    if not shutil.which("g++"):
        pytest.skip("no compiler")
    return build("g++", tmp_path_factory.mktemp("native") / "digest")


@pytest.fixture(scope="module")
def scalar_lines(program: Path) -> list[str]:
    """The digests of the scalar loops, which the reference vouches for."""
    printed = lines(program, ISA_NUMBERS["scalar"])
    assert len(printed) > 900
    return printed


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-g++"), reason="no compiler for AArch64")
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="no emulator of AArch64")
def test_neon_agrees_with_scalar(scalar_lines: list[str], tmp_path: Path) -> None:
    """NEON under emulation against the scalar loops of this machine."""
    there = build("aarch64-linux-gnu-g++", tmp_path / "digest")
    assert lines("qemu-aarch64", there, ISA_NUMBERS["neon"]) == scalar_lines


@pytest.mark.slow
@pytest.mark.parametrize("level", [level for level in levels() if level != "scalar"])
def test_agrees_with_scalar(program: Path, scalar_lines: list[str], level: str) -> None:
    assert lines(program, ISA_NUMBERS[level]) == scalar_lines


MUTATIONS = (
    ("_MM_FROUND_TO_NEG_INF", "_MM_FROUND_TO_ZERO"),
    ("_MM_FROUND_TO_NEAREST_INT", "_MM_FROUND_TO_POS_INF"),
    ("0x1p-24f", "0x1p-23f"),
    ("_knot_mask16(m)", "m"),
    ("_CMP_NGE_UQ", "_CMP_LT_OQ"),
    ("_mm512_set1_epi32(128)", "_mm512_set1_epi32(64)"),
    ("_mm512_loadu_ps(table + 16)", "_mm512_loadu_ps(table)"),
    ("first + 4", "first + 1"),
    ("_MM_SHUFFLE(2, 3, 2, 3)", "_MM_SHUFFLE(3, 2, 3, 2)"),
    ("_mm512_srli_epi16(a, 8)", "_mm512_srli_epi16(a, 7)"),
    ("_mm512_extractf32x8_ps(a, 1)", "_mm512_extractf32x8_ps(a, 0)"),
    ("_mm512_mask_blend_epi8(m, b, a)", "_mm512_mask_blend_epi8(m, a, b)"),
)
"""Expressions of vector_avx512.h, and mistakes in their place."""


@pytest.fixture(scope="module")
def mutated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with all mistakes in it; the environment variable PLANTED switches on the one of that number."""
    if cpu_emulation.why_not():
        pytest.skip(cpu_emulation.why_not())
    folder = tmp_path_factory.mktemp("mutated")
    sources = cpu_emulation.copy_sources(folder / "sources")
    header, unit = sources / "vector_avx512.h", sources / "elementwise_avx512.cpp"
    text = header.read_text()
    for place, (right, wrong) in enumerate(MUTATIONS, 1):
        assert text.count(right) == 1, right
        text = text.replace(right, f"(PLANTED == {place} ? {wrong} : {right})")
    header.write_text(text)
    planted = '#include <cstdlib>\nstatic const int PLANTED = std::atoi(std::getenv("PLANTED"));\n'
    unit.write_text(planted + unit.read_text())
    (changed,) = cpu_emulation.compile_all([unit], sources, folder)
    return cpu_emulation.program(DIGEST, {unit.stem: changed}, folder / DIGEST)


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(MUTATIONS) + 1))
def test_digests_see(mutated: Path, scalar_lines: list[str], place: int) -> None:
    found = lines(mutated, ISA_NUMBERS["avx512"], PLANTED=str(place))
    assert (found == scalar_lines) == (place == 0)


@pytest.mark.slow
@pytest.mark.parametrize("level", levels())
def test_random_words_of_far_elements(program: Path, level: str) -> None:
    """Elements beyond 2^34, where the number of a Philox block passes 32 bits."""
    printed = lines(program, ISA_NUMBERS[level], "far")
    assert len(printed) == 6
    for line in printed:
        generator, start, *codes = map(int, line.split())
        assert codes == expected_halves(generator, start, len(codes))


def expected_halves(generator: int, start: int, count: int) -> list[int]:
    """Of values of one half: 1 where the top bit of the element's word is clear."""
    index = torch.arange(start, start + count)
    if generator:
        words: Tensor = hash_words(index, Key(1, 2, 3, "hash"))
    else:
        blocks = torch.stack(philox(index // 4, Key(1, 2, 3)))
        words = blocks.gather(0, (index % 4)[None])[0]
    return (words < 2**31).to(torch.int64).tolist()
