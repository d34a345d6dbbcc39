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
    """ops: operators whose cases can tell. within: where ``before`` stands, if there are other places like it."""

    file: str
    name: str
    before: str
    after: str
    ops: tuple[str, ...]
    within: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def planted(self, text: str, number: int) -> str:
        """The source with both versions, chosen by the number at run time."""
        place = self.within or self.before
        assert text.count(place) == 1 and place.count(self.before) == 1, f"{self}: {text.count(place)} places"
        choice = f"emulated::mutant == {number}"
        both = f"({choice} ? ({self.after}) : ({self.before}))"
        if self.before.split("  //")[0].endswith(";"):
            # The line break ends a comment at the statement's end.
            both = f"if ({choice}) {{ {self.after}\n}} else {{ {self.before}\n}}"
        return text.replace(place, place.replace(self.before, both))


def _of(file: str, ops: str, *changes: tuple[str, ...]) -> list[Mutation]:
    return [
        Mutation(file, name, before, after, tuple(ops.split()), *within) for name, before, after, *within in changes
    ]


# fmt: off
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
        ("padding not filled", "is_inside ? fill : 0", "0u"),
        ("filters beyond the last read", "i * COPY_ROWS < live_filters", "i * COPY_ROWS <= live_filters"),
        ("next tap too late", "column >= columns", "column > columns"),
        ("taps of a row counted wrong", "++column_tap == taps_across", "column_tap++ == taps_across"),
        ("wrong half of the depth", "lane / 8 % 2", "lane / 16"),
        ("one half of the depth twice", "2 * half * VECTOR", "0"),
        ("wrong rows of a fragment", "first_row + lane % 16", "first_row + lane % 8"),
        ("wrong filters of a fragment", "first_filter + lane / 16 * 8 + lane % 8", "first_filter + lane % 16"),
        ("a quarter of a row's sum dropped", "sum += __shfl_xor_sync(ALL_LANES, sum, 2);", ";"),
        ("row sums of other rows", "add_bytes(a[i][part], row_sums[i][part % 2], X(0))",
         "add_bytes(a[i][part / 2], row_sums[i][part % 2], X(0))"),
        ("no term of the sources", "if (row_sums) result -= w_zero * row_sums[row];", ";"),
        ("no term of the filters", "if (filter_sums) result -= x_zero * filter_sums[filter];", ";"),
        ("no constant term", "x_shift * w_shift * problem.window.taps() * group_channels", "i64(0)"),
        ("digits not shifted", "sums[k] * ((i64)1 << shift)", "sums[k] * 1"),
        ("ragged filters written", "smaller(problem.filters - filter, 4)", "4"),
        ("rows beyond the last written", "if (row >= problem.rows()) break;", ";"),
        ("another group's filters", "(i64)corner.group * problem.filters + corner.filter + copy_row",
         "corner.filter + copy_row"),
        ("another group's channels", "corner.group * problem.group_channels", "0"),
        ("one scale for all channels", "channel * second_step", "0"),
        ("one rounding more", "add(y, bias[channel])", "add(bias[channel], divide(multiply(y, 3.0f), 3.0f))"),
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
        ("wrong bytes of a pair", "0x7531", "0x7532"),
        ("low byte of a wide error unsigned", "e.even[0] ^= LESS_128, e.even[1] ^= LESS_128;", ";"),
        ("sum of the low bytes signed",
         "if (SUMS) add_fragments(error_sums[i], e, typename Bytes<E>::Low(0), Factor(0));",
         "if (SUMS) add_fragments(error_sums[i], e, Factor(0), Factor(0));"),
        ("high byte of a wide error left out",
         "low + 256 * (i64)shared_sums[sum_place<TILE_COLUMNS>(2 * filter + 1, column)]", "low"),
        ("pixels of one operand in another order",
         "multiply_accumulate<Factor, X>(sums[i][2 * j], a[i], x.even[0], x.even[1]);",
         "multiply_accumulate<Factor, X>(sums[i][2 * j], a[i], x.even[1], x.even[0]);"),
        ("errors beyond the part read", "i * this->ROWS < remaining", "i * this->ROWS <= remaining",
         "copy_or_fill(this->place(tile, i), source, i * this->ROWS < remaining, 0)"),
        ("sources beyond the part read", "i * this->ROWS < remaining", "i * this->ROWS <= remaining",
         "is_wanted = i * this->ROWS < remaining"),
        ("next row of pixels too late", "column >= problem.width_out", "column > problem.width_out"),
        ("next image too late", "row >= problem.height_out", "row > problem.height_out"),
        ("padding not filled", "is_wanted ? fill : 0", "0u"),
        ("stride of the other axis", "pixel.column * problem.stride_w", "pixel.column * problem.stride_h"),
        ("dilation forgotten", "tap % problem.taps_w * problem.dilation_w", "tap % problem.taps_w"),
        ("sums of the errors added by all", "error_sums && first_column == 0", "error_sums != nullptr"),
        ("one quad's part of a sum", "sum += __shfl_xor_sync(ALL_LANES, sum, 1);", ";"),
        ("stored instead of added", "atomicAdd((u64*)target, (u64)value);", "*target = value;"),
        ("even and odd rows exchanged", "first_row + 16 * i + lane / 4 * 2 + odd",
         "first_row + 16 * i + lane / 4 * 2 + 1 - odd"),
        ("columns beyond the last added", "column < live_columns", "column <= live_columns"),
        ("filters beyond the last added", "filter < live_filters", "filter <= live_filters"),
        ("digits not shifted", "(i64)1 << shift", "i64(1)"),
    ),
    *_of(
        "encode", "encode_affine encode_scaled encode_binary",
        ("a round of Philox too few", "round < 7", "round < 6"),
        ("one increment for both keys", "k1 += 0xBB67AE85u;", "k1 += 0x9E3779B9u;"),
        ("step left out", "step", "0", "c2 = step,"),
        ("another shift in the hash", "h = (h ^ (h >> 15)) * 0x735A2D97u;", "h = (h ^ (h >> 16)) * 0x735A2D97u;"),
        ("hash without its last step", "return h ^ (h >> 15);", "return h;"),
        ("rounded up too often", "(float)(word >> 8) < multiply(fraction, 16777216.0f)",
         "(float)(word >> 8) <= multiply(fraction, 16777216.0f)"),
        ("32 random bits", "(float)(word >> 8) < multiply(fraction, 16777216.0f)",
         "(float)word < multiply(fraction, 4294967296.0f)"),
        ("half rounded down", "fraction >= 0.5f", "fraction > 0.5f"),
        ("half rounded up instead of to even", "if (rounding == NEAREST) return rintf(value);",
         "if (rounding == NEAREST) return floorf(value + 0.5f);"),
        ("elements beyond the end", "left < 4 ? (int)left : 4", "4"),
        ("a quad stored whole", "if (j < live) target[first + j] = element[j];", "target[first + j] = element[j];"),
        ("a step of the loop left out", "chunk += gridDim.x * span", "chunk += 2 * gridDim.x * span"),
        ("NaN clipped like a number", "if (is_nan(value)) return 0.0f;", ";"),
        ("NaN not reported", "if (has_nan && reported) *reported = not_a_number();", ";"),
        ("range not widened to zero", "low = low > 0.0f ? 0.0f : low;", ";"),
        ("steps and not levels", "divide(subtract(high, low), add(top, 1.0f))", "divide(subtract(high, low), top)"),
        ("zero point not clipped", "zero < 0.0f ? 0.0f : zero > top ? top : zero", "zero"),
        ("zero point of a poisoned scale", "if (is_nan(result.scale)) result.zero = 0.0f;", ";"),
        ("infinite scale kept", "is_finite(scale) ? scale : not_a_number()", "scale"),
        ("tiny scale kept", "fabsf(scale) < SMALLEST_NORMAL ? 1.0f : scale", "scale"),
        ("power of two at the half-way point", "(bits & 0x7fffffu) >= 0x3504f3u", "(bits & 0x7fffffu) > 0x3504f3u"),
        ("power of two of a subnormal", "(is_subnormal ? 24 : 0)", "0"),
        ("largest power of two", "exponent + rounds_up < 127 ? exponent + rounds_up : 127", "exponent + rounds_up"),
        ("reciprocal in place of a division", "add(divide(value, scale), zero)",
         "add(multiply(value, divide(1.0f, scale)), zero)"),
        ("zero is negative", "value >= 0.0f", "value > 0.0f", "NEAREST ? value >= 0.0f"),
    ),
    *_of(
        "encode", "extremes",
        ("lanes left out", "low = fminf(low, __shfl_xor_sync(ALL_LANES, low, distance));", ";"),
        ("NaN of one lane", "has_nan = __any_sync(ALL_LANES, has_nan);", ";"),
        ("negative numbers as integers", "atomicMax((u32*)target, to_bits(value));",
         "atomicMin((i32*)target, (i32)to_bits(value));"),
        ("negative zero", "high = add(high, 0.0f);", ";"),
        ("elements beyond the end", "if (j < live) extremes.include(quad.element[j]);",
         "extremes.include(quad.element[j]);"),
    ),
    *_of(
        "encode", "encode_flag encode_levels decode",
        ("fine and coarse at the border", "fabsf(y) >= 1.0f", "fabsf(y) > 1.0f"),
        ("threshold belongs to the upper level", "value <= values[middle]", "value < values[middle]"),
        ("no barrier behind the thresholds", "__syncthreads();", ";"),
        ("zero point after the scale", "multiply(subtract((float)quad.element[j], shift), unit)",
         "subtract(multiply((float)quad.element[j], unit), multiply(shift, unit))"),
    ),
    *_of(
        "views", "affine_view level_view apply_mask view_gradient_extremes",
        ("halves of a byte exchanged", "bits | next << 4", "next | bits << 4"),
        ("every lane writes its byte", "relu && live && threadIdx.x % 2 == 0", "relu && live"),
        ("half of the mask's bits", "first & 7", "0", "live ? (u32)mask[first >> 3] >> (first & 7) : 0"),
        ("a mask on the value's sign", "!relu || value > 0.0f", "!relu || value < 0.0f"),
        ("channels past the last", "channel + 1 == channels ? 0 : channel + 1", "channel + 1"),
        ("channels in fours though ragged", "channels % 4 == 0 && is_packed(values)", "is_packed(values)"),
        ("channel beyond the last", "if (channel >= channels) channel -= channels;", ";"),
        ("channel after a step of the loop", "(UNROLLED - 1) * stride", "UNROLLED * stride"),
        ("trunk left out", "if (trunk) value = add(value, item.trunk.element[j]);", ";"),
        ("fused multiply-add", "add(multiply(slope, value), offset)", "fmaf(slope, value, offset)"),
    ),
    *_of(
        "views", "join_gradients",
        ("half of the joined bits", "first & 7", "0", "(u32)mask[first >> 3] >> (first & 7) : ~0u"),
        ("no mask taken for an empty one", "~0u", "0u"),
        ("codes without their scale", "multiply((float)item.codes.element[j], *scale)", "(float)item.codes.element[j]"),
        ("codes alone", "if (g) value = add(item.gradient.element[j], value);", ";"),
        ("mask left out", "item.bits >> j & 1 ? value : 0.0f", "value"),
    ),
    *_of(
        "views", "encode_affine_view encode_scaled_view view_extremes encode_view_gradient_",
        ("replaced elements counted", "marked && live ? marked[first >> 5] >> (first & 31) : 0", "0"),
        ("one mark per word", "atomicOr(bits + (at[p] >> 5), 1u << (at[p] & 31));",
         "bits[at[p] >> 5] = 1u << (at[p] & 31);"),
        ("another element's random word", "place & 2 ? high : low", "place & 2 ? low : high"),
        ("random word of the point's number", "encoder.rounder.word_of(at[p])", "encoder.rounder.word_of(p)"),
        ("ReLU left out", "relu && value < 0.0f ? 0.0f : value", "value"),
        ("ReLU takes NaN for nothing", "relu && value < 0.0f ? 0.0f : value", "relu ? fmaxf(value, 0.0f) : value"),
        ("sums of another product", "(i64)out[j] * code", "(i64)out[j] * out[j]"),
        ("no barrier before the columns are merged", "__syncthreads();  // every thread's partials are there", ";"),
        ("no barrier between two stages", "__syncthreads();  // the stage is done", ";"),
        ("a stage of the reduction too few", "(alive + 1) / 2", "alive / 2"),
        ("every row of threads publishes", "tile.is_active && tile.lane_row == 0", "tile.is_active"),
        ("last part of the rows dropped", "(last - first + parts - 1) / parts", "(last - first) / parts"),
        ("groups past the last", "lane_row < row_step && group < groups", "lane_row < row_step"),
    ),
    *_of(
        "views", "chunk_statistics",
        ("highest code as the lowest", "(u64)(255 - code) << ROW_BITS", "(u64)code << ROW_BITS"),
        ("lowest codes of one thread", "low = smaller(low, other.low);", ";"),
        ("rows from the chunk's start", "keys[count + i] & row_mask", "keys[count + i] & 0"),
        ("rows past the end",
         "if (row + u * tile.row_step < rows.end) use(partials, items[u], row + u * tile.row_step);",
         "use(partials, items[u], row + u * tile.row_step);"),
    ),
    *_of(
        "levels", "moments level_gradient_sums level_gradient encode_normalised_levels",
        ("variance between parts lost",
         "difference * difference * (count * other.count / (count + other.count))", "0.0"),
        ("last row not seen", "row + tile.row_step >= range.end", "row + tile.row_step > range.end"),
        ("NaN passed over", "b < a || is_nan(b) ? b : a", "b < a ? b : a"),
        ("no barrier between parts", "__syncthreads();  // the parts are merged", ";"),
        ("sum without the level", "m * level", "m"),
        ("terms in another order", "add(add(multiply(as[j], m), bs[j]), multiply(cs[j], level))",
         "add(multiply(as[j], m), add(bs[j], multiply(cs[j], level)))"),
        ("normalised in another order", "multiply(subtract(quad.element[j], means[j]), inverses[j])",
         "subtract(multiply(quad.element[j], inverses[j]), multiply(means[j], inverses[j]))"),
    ),
    *_of(
        "direct", "direct_line direct_gradient_line",
        ("not rounded to float32 first", "divide(on_grid(exact, mean_steps, mean_top), mean_steps)",
         "divide(on_grid((float)(mean[c] * 1.0000001), mean_steps, mean_top), mean_steps)"),
        ("epsilon rounded with the deviation", "add(scale, eps)", "scale"),
        ("grid of the weights without an end", "on_grid(weight[c], affine_steps, affine_top)",
         "rintf(multiply(weight[c], affine_steps))"),
        ("means without an end", "fminf(fmaxf(code, -top), top)", "code"),
        ("constant channel divided by", "deviation > 0.0f ? divide(1.0f, deviation) : 0.0f", "divide(1.0f, deviation)"),
        ("slope rounded before the constant term", "multiply(slope, constant)", "multiply((double)a[p], constant)"),
        ("shift of the mean left out", "multiply((double)shift[p], pull)", "0.0"),
        ("weight's gradient in steps", "divide(sums[channels + p], unit)", "sums[channels + p]"),
    ),
    *_of(
        "direct", "direct_view encode_direct_view direct_gradient",
        ("halves rounded away from zero", "rintf(multiply(x, steps))", "roundf(multiply(x, steps))"),
        ("NaN clipped like a number", "is_nan(code)", "false"),
        ("normalised in another order", "multiply(subtract(x, mean[j]), inverse[j])",
         "subtract(multiply(x, inverse[j]), multiply(mean[j], inverse[j]))"),
        ("trunk left out", "if (trunk) value = add(value, item.trunk.element[j]);", ";"),
        ("halves of a byte exchanged", "bits | next << 4", "next | bits << 4"),
        ("ReLU left out", "relu && value < 0.0f ? 0.0f : value", "value"),
        ("reciprocal in place of a division", "divide(value, scale)", "multiply(value, divide(1.0f, scale))"),
        ("NaN not reported", "if (has_nan) *reported = not_a_number();", ";"),
        ("codes without their scale", "scale ? multiply((float)g, *scale) : (float)g", "(float)g"),
        ("terms in another order", "add(add(multiply(as[j], m), bs[j]), multiply(cs[j], direct.z))",
         "add(multiply(as[j], m), add(bs[j], multiply(cs[j], direct.z)))"),
        ("elements beyond the end counted", "if (j < live) extremes.include(out.element[j]);",
         "extremes.include(out.element[j]);"),
    ),
    *_of(
        "direct", "direct_gradient_sums",
        ("sum of rounded for normalised values", "m * direct.z", "m * direct.t"),
        ("no barrier between parts", "__syncthreads();  // the parts are merged", ";"),
        ("one part's third sum", "normalised += other.normalised;", ";"),
        ("mask of the value on the grid", "direct.value", "direct.t",
         "const double m = masked(gradient_of(item.gradient.element[j], scale), direct.value, relu);"),
    ),
    *_of(
        "range_norm", "range_line range_gradient_line",
        ("both pulls on every element", "high == low ? at_high : add(multiply(narrow, (float)codes[low]), shift)",
         "at_high"),
        ("one pull on a shared element", "high == low ? at_low : at_high", "at_high"),
        ("rounded to float32 too early", "multiply(line, center)", "multiply((double)slope[c], center)"),
        ("no epsilon", "add(multiply(multiply(constant, step), divide((double)width, (double)chunks)), eps)",
         "multiply(multiply(constant, step), divide((double)width, (double)chunks))"),
    ),
    *_of(
        "updates", "sgd_on_grid_ adam_on_grid_ quantized_momentum_",
        ("plain momentum for Nesterov's", "nesterov ? add(direction, multiply(mu, item.buffer.element[j])) : "
         "item.buffer.element[j]", "item.buffer.element[j]"),
        ("first step decays what was there",
         "first_step ? direction : add(multiply(mu, item.buffer.element[j]), direction)",
         "add(multiply(mu, item.buffer.element[j]), direction)"),
        ("momentum not stored", "if (momentum) item.buffer.store(momentum, first, live);", ";"),
        ("fused multiply-add", "add(multiply(beta1, item.mean.element[j]), multiply(rest1, g))",
         "fmaf(beta1, item.mean.element[j], multiply(rest1, g))"),
        ("square in another order", "multiply(rest2, multiply(g, g))", "multiply(multiply(rest2, g), g)"),
        ("quarter rounded half up", "(rest == 2 && (floor & 1))", "rest == 2"),
        ("weight not clipped", "smaller(larger(moved, -limit), limit)", "moved"),
        ("zero is negative", "weight >= 0.0f ? 1.0f : -1.0f", "weight > 0.0f ? 1.0f : -1.0f"),
    ),
    *_of(
        "packing", "pack_bits unpack_bits",
        ("bytes past the end", "if (place < bytes) packed[place] = (u8)(stream >> (8 * j));",
         "packed[place] = (u8)(stream >> (8 * j));"),
        ("codes past the end", "i < count", "true", "if (i < count) codes[i]"),
        ("highest bit first", "(codes[i] & code_mask) << (j * bits)", "(codes[i] & code_mask) << ((7 - j) * bits)"),
        ("neighbours' bits kept", "stream >> (j * bits) & code_mask", "stream >> (j * bits)"),
    ),
    *_of(
        "pooling", "max_pool2d max_pool2d_backward",
        ("last of equals", "value[j] > best[j]", "value[j] >= best[j]"),
        ("NaN passed over", "is_nan(value[j]) && !is_nan(best[j])", "false"),
        ("above the image", "larger(top, Index(0))", "top"),
        ("first output left out", "row < kernel_h ? 0 : (row - kernel_h) / stride_h + 1",
         "row < kernel_h ? 0 : (row - kernel_h) / stride_h + 2"),
        ("last output left out", "ow * stride_w <= column", "ow * stride_w < column"),
        ("padding of the other axis", "at.column + (Index)padding_w", "at.column + (Index)padding_h"),
    ),
    *_of(
        "operands", "matmul conv2d_input_grad conv2d",
        ("packed beyond a row", "first + j < columns", "true"),
        ("no barrier in the transposition", "__syncthreads();", ";"),
        ("not transposed", "tile[across][i]", "tile[i][across]"),
        ("rows of tiles mistaken", "blockIdx.x / tiles_across", "blockIdx.x"),
        ("columns of tiles mistaken", "blockIdx.x % tiles_across", "blockIdx.x"),
        ("rows of the transpose not padded", "column < columns && row < padded", "column < columns && row < rows"),
        ("lanes left out of a row's sum", "sum += __shfl_xor_sync(ALL_LANES, sum, distance);", ";"),
        ("high digit rounded to zero", "quad.element[j] >> 8", "quad.element[j] / 256"),
        ("digits of the zero point exchanged", "(float)(point & 255)", "(float)(point >> 8)"),
    ),
    *_of(
        "operands", "conv2d_weight_grad matmul",
        ("no constant term", "pixels * x_shift * e_shift", "i64(0)"),
        ("offset of wide errors left out", "(e_shift - e_offset)", "e_shift"),
        ("sums of another filter", "x_shift * error_sums[row]", "x_shift * error_sums[filter - group * filters]"),
        ("sums of another group", "group * padded_columns + source_column", "source_column"),
        ("padding kept in a row", "tap * padded_channels + column - tap * channels", "column"),
    ),
    *_of(
        "convolution", "conv2d_encoded",
        ("code with another channel's scale", "encoding.code_of(scaling.apply(to_float(sums[k]), channel + k))",
         "encoding.code_of(scaling.apply(to_float(sums[k]), channel))"),
    ),
    *_of(
        "convolution", "add_conv2d_input_grad_",
        ("stored instead of added", "add(out.element[k], scaling.apply(to_float(sums[k]), channel + k))",
         "scaling.apply(to_float(sums[k]), channel + k)"),
        ("added to the next pixel", "Quad<float>::of((const float*)target + place, 0, live)",
         "Quad<float>::of((const float*)target + place + channel, 0, live)"),
    ),
    *_of(
        "operands", "add_conv2d_input_grad_",
        ("stored instead of added", "add(((const float*)y)[place], scaling.apply(to_float(sum), channel))",
         "scaling.apply(to_float(sum), channel)"),
    ),
    *_of(
        "operands", "conv2d_encoded",
        ("code with the first channel's scale", "encoding.code_of(scaling.apply(to_float(sum), channel))",
         "encoding.code_of(scaling.apply(to_float(sum), 0))"),
    ),
    *_of(
        "operands", "matmul_scaled conv2d_scaled",
        ("bias of another channel", "i % channels", "0"),
    ),
    *_of(
        "plain_products", "conv2d conv2d_input_grad conv2d_weight_grad",
        ("another group's channels", "at.channel / filters * group_channels", "0"),
        ("zero point left out", "codes[i] - zero", "codes[i]"),
    ),
    *_of(
        "plain_products", "conv2d_input_grad",
        ("every output reached", "row < 0 || row % stride_h || row / stride_h >= height_out",
         "row < 0 || row / stride_h >= height_out"),
        ("output below the last", "column < 0 || column % stride_w || column / stride_w >= width_out",
         "column < 0 || column % stride_w"),
    ),
    *_of(
        "plain_products", "conv2d_weight_grad",
        ("last pixels dropped", "(pixels + gridDim.y - 1) / gridDim.y", "pixels / gridDim.y"),
        ("stored instead of added", "atomicAdd((u64*)sums + i, (u64)sum);", "sums[i] = sum;"),
    ),
]
