"""Bugs to plant in the CUDA sources, each a mistake that is easily made; the emulation must notice every one.

A mutation exchanges one piece of a file (or of a header in it): an expression for an expression, a statement for a
statement. All mutations of a file are compiled together, and one of them is switched on at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

TILE = "__syncthreads();  // the tile is there for every thread, and all are done with the stage that is filled next"
SHARED_SUMS = "__syncthreads();  // all are done with the last stage"


@dataclass(frozen=True)
class Mutation:
    """ops: operators whose cases can tell."""

    file: str
    name: str
    before: str
    after: str
    ops: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def planted(self, text: str, number: int) -> str:
        """The source with both versions, chosen by the number at run time."""
        assert text.count(self.before) == 1, f"{self}: {text.count(self.before)} places"
        choice = f"emulated::mutant == {number}"
        if self.before.startswith(("if ", "for ")) or self.before.split("  //")[0].endswith(";"):
            # The line break ends a comment at the statement's end.
            return text.replace(self.before, f"if ({choice}) {{ {self.after}\n}} else {{ {self.before}\n}}")
        return text.replace(self.before, f"({choice} ? ({self.after}) : ({self.before}))")


def _of(file: str, ops: str, *changes: tuple[str, str, str]) -> list[Mutation]:
    return [Mutation(file, name, before, after, tuple(ops.split())) for name, before, after in changes]


MUTATIONS = [
    *_of(
        "convolution", "conv2d conv2d_scaled",
        ("no barrier before a tile is used", TILE, ";"),
        ("no barrier before the sums are shared", SHARED_SUMS, ";"),
        ("no barrier before the sums are read", "__syncthreads();  // the sums are there", ";"),
        ("copies not waited for", "wait_for_copies<STAGES - 2>();", "wait_for_copies<STAGES - 1>();"),
        ("last partial tile dropped", "(last - (int)begin + CHUNKS - 1) / CHUNKS", "(last - (int)begin) / CHUNKS"),
        ("depth beyond the end read", "depth.vector < end", "depth.vector <= end"),
        ("row below the image read", "(u32)row < (u32)problem.height", "(u32)row <= (u32)problem.height"),
        ("left of the image read", "(u32)column < (u32)problem.width", "column < problem.width"),
        ("padding not filled", "filled(is_inside ? fill : 0)", "filled(0)"),
        ("filters beyond the last read", "i * COPY_ROWS < live_filters", "i * COPY_ROWS <= live_filters"),
        ("next tap too late", "column >= columns", "column > columns"),
        ("taps of a row counted wrong", "++column_tap == taps_across", "column_tap++ == taps_across"),
        ("wrong half of the depth", "2 * half + lane / 8 % 2", "2 * half + lane / 16"),
        ("wrong rows of a fragment", "first_row + 16 * i + lane % 16", "first_row + 16 * i + lane % 8"),
        ("wrong filters of a fragment", "8 * j + lane / 16 * 8 + lane % 8", "8 * j + lane % 16"),
        ("a quarter of a row's sum dropped", "sum += __shfl_xor_sync(ALL_LANES, sum, 2);", ";"),
        ("row sums of half the rows", "row_sums[i][part % 2]", "row_sums[i][0]"),
        ("no term of the sources", "if (row_sums) result -= w_zero * row_sums[row];", ";"),
        ("no term of the filters", "if (filter_sums) result -= x_zero * filter_sums[filter];", ";"),
        ("no constant term", "x_shift * w_shift * problem.window.taps() * group_channels", "i64(0)"),
        ("digits not shifted", "sums[k] * ((i64)1 << shift)", "sums[k] * 1"),
        ("ragged filters written", "smaller(problem.filters - filter, 4)", "4"),
        ("rows beyond the last written", "if (row >= problem.rows()) break;", ";"),
        ("another group's filters", "(i64)corner.group * problem.filters + corner.filter + copy_row", "corner.filter + copy_row"),
        ("another group's channels", "corner.group * problem.group_channels", "0"),
        ("bias before the scale", "add(y, bias[channel])", "multiply(add(divide(y, second[channel * second_step]), "
         "bias[channel]), second[channel * second_step])"),
        ("scales as one factor", "multiply(multiply(sum, *first), second[channel * second_step])",
         "multiply(sum, multiply(*first, second[channel * second_step]))"),
        ("one scale for all channels", "second[channel * second_step]", "second[0]"),
    ),
    *_of(
        "convolution", "conv2d_input_grad",
        ("taps of another phase", "phase + (int)padding - r * (int)dilation", "(int)padding - r * (int)dilation"),
        ("tap step without the stride", "reach / step - axis.origin", "-(int)dilation"),
        ("tap stride forgotten", "first_tap + j * tap_stride", "first_tap + j"),
        ("sums of taps of other phases", "window.tap(r, s)", "r * window.taps_w + s"),
        ("result of another phase", "window.across.result(pixel.column)", "pixel.column"),
        ("a phase too few", "(int)blockIdx.z / phases", "0"),
    ),
    *_of(
        "weight_gradient", "conv2d_weight_grad matmul",
        ("no barrier before a tile is used", TILE, ";"),
        ("no barrier before the sums are shared", SHARED_SUMS, ";"),
        ("no barrier before the sums are read", "__syncthreads();  // the sums are there", ";"),
        ("copies not waited for", "wait_for_copies<STAGES - 2>();", "wait_for_copies<STAGES - 1>();"),
        ("wrong bytes of a pair", "pairs[2 * half + 1], 0x7531", "pairs[2 * half + 1], 0x7532"),
        ("pairs of one matrix", "pairs[2 * half + 1], 0x6420", "pairs[2 * half], 0x6420"),
        ("errors beyond the part read", "is_inside && i * this->ROWS < remaining)\n                copy_async(target, source + i",
         "is_inside && i * this->ROWS <= remaining)\n                copy_async(target, source + i"),
        ("next row of pixels too late", "column >= problem.width_out", "column > problem.width_out"),
        ("next image too late", "row >= problem.height_out", "row > problem.height_out"),
        ("padding not filled", "filled(is_live ? fill : 0)", "filled(0)"),
        ("stride of the other axis", "pixels[i].column * problem.stride_w", "pixels[i].column * problem.stride_h"),
        ("dilation forgotten", "tap % problem.taps_w * problem.dilation_w", "tap % problem.taps_w"),
        ("sums of the errors added by all", "error_sums && first_column == 0", "error_sums"),
        ("one quad's part of a sum", "sum += __shfl_xor_sync(ALL_LANES, sum, 1);", ";"),
        ("stored instead of added", "atomicAdd((u64*)target, (u64)value);", "*target = value;"),
        ("even and odd filters exchanged", "16 * i + lane / 4 * 2 + odd;\n                    const int column",
         ""),
        ("columns beyond the last added", "column < live_columns", "column <= live_columns"),
        ("filters beyond the last added", "filter < live_filters", "filter <= live_filters"),
        ("digits not shifted", "(i64)1 << shift", "i64(1)"),
    ),
]
