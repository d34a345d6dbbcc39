// Exact 8-bit convolution and its gradient with respect to the input, on tensor cores.
//
// An implicit matrix product: rows are the pixels of the result, columns the filters, and the sum runs over taps and
// channels (the depth) in vectors of 16 channels. Source [images, height, width, channels] and filters [filters, taps,
// channels] both have the channels innermost, as mma wants its operands; channels per group are a multiple of 16.
//
// With zero points, the sum of (x - x_zero) * (w - w_zero) is
//     sum x w  -  w_zero * sum x  -  x_zero * sum w  +  count * x_zero * w_zero
// where every sum runs over the whole window, because padding is filled with x_zero.
#include "elements.cuh"
#include "geometry.cuh"
#include "outcome.cuh"
#include "tensor_core.cuh"

const int THREADS = 128, STAGES = 4;
const int TILE_ROWS = 128, TILE_DEPTH = 64, CHUNKS = TILE_DEPTH / VECTOR;
const int COPY_ROWS = THREADS / CHUNKS;  // rows that the block copies at a time, each thread one chunk of one row
const int WARP_ROWS = TILE_ROWS / 2, ROW_TILES = WARP_ROWS / 16;
const int NOWHERE = -(1 << 30);  // a source row that no tap brings inside
static_assert(COPY_ROWS % SWIZZLED_ROWS == 0, "a thread's chunks lie a constant apart");

struct Problem {
    int images, height, width, channels, group_channels, height_out, width_out, filters, groups, filter_taps;
    Window window;

    DEVICE int rows() const { return images * window.pixels_per_image(); }
    DEVICE int vectors() const { return window.taps() * (group_channels / VECTOR); }
    DEVICE i64 filter_length() const { return (i64)filter_taps * group_channels; }

    // The number, in the result, of the pixel of a row of this phase.
    DEVICE i64 result_pixel(int row) const {
        if (window.is_whole()) return row;
        const Pixel pixel(row, window);
        const i64 line = (i64)pixel.image * height_out + window.down.result(pixel.row);
        return line * width_out + window.across.result(pixel.column);
    }
};

// Where a block stands: its group, its first row and its first filter within the group.
struct Corner {
    int group, row, filter;
};

// The place in the depth of the vectors that one thread copies: they are CHUNKS apart.
struct DepthWalk {
    int vector, column, row_tap, column_tap;  // column: of VECTOR channels
    int columns, taps_across;

    DEVICE DepthWalk(int start, const Problem& problem)
        : vector(start), columns(problem.group_channels / VECTOR), taps_across(problem.window.across.taps) {
        const int tap = vector / columns;
        column = vector - tap * columns;
        row_tap = taps_across ? tap / taps_across : 0;
        column_tap = tap - row_tap * taps_across;
    }

    DEVICE void advance() {
        vector += CHUNKS;
        for (column += CHUNKS; column >= columns; column -= columns) {
            if (++column_tap == taps_across) {
                column_tap = 0;
                ++row_tap;
            }
        }
    }
};

// Brings tiles [rows, TILE_DEPTH] of both operands to shared memory, 16 bytes per thread and row. What stays the same is
// computed once: beside the products of a tile there is little time. Offsets within an image and within the filters
// are 32-bit numbers.
template <typename X, typename W, int TILE_FILTERS> struct TileCopier {
    static constexpr int X_COPIES = TILE_ROWS / COPY_ROWS, W_COPIES = TILE_FILTERS / COPY_ROWS;
    const Problem& problem;
    const X* sources[X_COPIES];  // of a row's first tap
    int source_row[X_COPIES], source_column[X_COPIES];
    const W* filters;
    int place, filter_step, live_filters, end;
    DepthWalk depth;
    u32 fill;

    DEVICE TileCopier(const Problem& problem_, const Corner& corner, const X* x, const W* w, int begin, int end_,
                      int x_zero)
        : problem(problem_), end(end_), depth(begin + threadIdx.x % CHUNKS, problem_), fill(filled((u32)x_zero)) {
        const Window& window = problem.window;
        const int copy_row = threadIdx.x / CHUNKS;
        place = swizzled<TILE_DEPTH>(copy_row, threadIdx.x % CHUNKS);
#pragma unroll
        for (int i = 0; i < X_COPIES; ++i) {
            const int row = corner.row + copy_row + i * COPY_ROWS;
            const Pixel pixel(row < problem.rows() ? row : 0, window);
            const int down = window.down.source(pixel.row), across = window.across.source(pixel.column);
            source_row[i] = row < problem.rows() ? down : NOWHERE;
            source_column[i] = across;
            sources[i] = x + (((i64)pixel.image * problem.height + down) * problem.width + across) * problem.channels +
                         corner.group * problem.group_channels;
        }
        live_filters = problem.filters - corner.filter - copy_row;
        filters = w + ((i64)corner.group * problem.filters + corner.filter + copy_row) * problem.filter_length();
        filter_step = COPY_ROWS * (int)problem.filter_length();
    }

    DEVICE void copy(u8* x_tile, u8* w_tile) {
        const Window& window = problem.window;
        const bool is_inside = depth.vector < end;
        const int down = depth.row_tap * window.down.tap_step, across = depth.column_tap * window.across.tap_step;
        const int tap = window.tap(depth.row_tap, depth.column_tap), channel = depth.column * VECTOR;
        const int source_offset = (down * problem.width + across) * problem.channels + channel;
        const W* const filter = filters + (tap * problem.group_channels + channel);
        const u32 padding = is_inside ? fill : 0;
#pragma unroll
        for (int i = 0; i < X_COPIES; ++i) {
            const int row = source_row[i] + down, column = source_column[i] + across;
            const bool is_live = is_inside && (u32)row < (u32)problem.height && (u32)column < (u32)problem.width;
            copy_or_fill(x_tile + place + i * COPY_ROWS * TILE_DEPTH, sources[i] + source_offset, is_live, padding);
        }
#pragma unroll
        for (int i = 0; i < W_COPIES; ++i)
            copy_or_fill(w_tile + place + i * COPY_ROWS * TILE_DEPTH, filter + i * filter_step,
                         is_inside && i * COPY_ROWS < live_filters, 0);
        depth.advance();
    }
};

// Where a sum stands in shared memory at the end. Groups of 8 filters are exchanged within a row, so that the eight rows
// that a warp writes at a time lie in different banks.
template <int TILE_FILTERS> DEVICE int sum_place(int row, int filter) {
    return row * TILE_FILTERS + (filter / 8 ^ (row & 7)) * 8 + filter % 8;
}

// One warp's part of the product: WARP_ROWS pixels by half of the tile's filters, in mma's fragments.
template <typename X, typename W, int TILE_FILTERS> struct Accumulator {
    static constexpr int FILTER_TILES = TILE_FILTERS / 16;  // of 8 filters
    i32 sums[ROW_TILES][FILTER_TILES][4];
    i32 row_sums[ROW_TILES][2];  // of the source alone
    int lane, first_row, first_filter;
    int x_place, w_place;  // where this lane's rows of the first matrices start

    DEVICE Accumulator()
        : sums(), row_sums(), lane(threadIdx.x % WARP), first_row(threadIdx.x / WARP / 2 * WARP_ROWS),
          first_filter(threadIdx.x / WARP % 2 * (TILE_FILTERS / 2)) {
        x_place = swizzled<TILE_DEPTH>(first_row + lane % 16, lane / 16);
        w_place = swizzled<TILE_DEPTH>(first_filter + lane / 16 * 8 + lane % 8, lane / 8 % 2);
    }

    DEVICE void multiply(const u8* x_tile, const u8* w_tile, bool with_row_sums) {
#pragma unroll
        for (int half = 0; half < TILE_DEPTH / 32; ++half) {
            const int aside = 2 * half * VECTOR;  // two chunks on, which the exchange turns into an exclusive or
            u32 a[ROW_TILES][4];
#pragma unroll
            for (int i = 0; i < ROW_TILES; ++i)
                load_matrices(a[i], x_tile + (x_place ^ aside) + 16 * i * TILE_DEPTH);
            if (with_row_sums) {
#pragma unroll
                for (int i = 0; i < ROW_TILES; ++i)
#pragma unroll
                    for (int part = 0; part < 4; ++part)
                        row_sums[i][part % 2] = add_bytes(a[i][part], row_sums[i][part % 2], X(0));
            }
#pragma unroll
            for (int j = 0; j < FILTER_TILES; j += 2) {
                u32 b[4];  // two tiles of filters
                load_matrices(b, w_tile + (w_place ^ aside) + 8 * j * TILE_DEPTH);
#pragma unroll
                for (int i = 0; i < ROW_TILES; ++i) {
                    multiply_accumulate<X, W>(sums[i][j], a[i], b[0], b[1]);
                    multiply_accumulate<X, W>(sums[i][j + 1], a[i], b[2], b[3]);
                }
            }
        }
    }

    // Hands the sums to the whole block: shared_sums [TILE_ROWS, TILE_FILTERS], shared_row_sums [TILE_ROWS].
    DEVICE void share(i32* shared_sums, i32* shared_row_sums, bool with_row_sums) {
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = first_row + 16 * i + 8 * half + lane / 4;
#pragma unroll
                for (int j = 0; j < FILTER_TILES; ++j) {
                    i32* const place = shared_sums + sum_place<TILE_FILTERS>(row, first_filter + 8 * j + lane % 4 * 2);
                    *(int2*)place = make_int2(sums[i][j][2 * half], sums[i][j][2 * half + 1]);
                }
                if (!with_row_sums) continue;
                // A row's bytes were spread over the four lanes that hold its sums.
                i32 sum = row_sums[i][half];
                sum += __shfl_xor_sync(ALL_LANES, sum, 1);
                sum += __shfl_xor_sync(ALL_LANES, sum, 2);
                if (lane % 4 == 0) shared_row_sums[row] = sum;
            }
    }
};

// Sums of the filters of a tile over the taps of this phase. tap_sums [filters, taps]: over the channels.
template <int TILE_FILTERS>
DEVICE void sum_filters(const Problem& problem, const Corner& corner, const i32* tap_sums, i64* filter_sums) {
    const Window& window = problem.window;
    for (int f = threadIdx.x; f < TILE_FILTERS; f += THREADS) {
        i64 sum = 0;
        if (corner.filter + f < problem.filters) {
            const i32* const row =
                tap_sums + ((i64)corner.group * problem.filters + corner.filter + f) * problem.filter_taps;
            for (int r = 0; r < window.down.taps; ++r)
                for (int s = 0; s < window.across.taps; ++s) sum += row[window.tap(r, s)];
        }
        filter_sums[f] = sum;
    }
}

// The terms that zero points add to a sum of the tile.
struct Correction {
    i64 x_zero, w_zero, constant;
    const i64* filter_sums;  // null where x has no zero point
    const i32* row_sums;     // null where w has none

    DEVICE i64 of_filter(int filter) const {
        return filter_sums ? constant - x_zero * filter_sums[filter] : constant;
    }
    DEVICE i64 of_row(int row) const { return row_sums ? -w_zero * row_sums[row] : 0; }
};

// Writes four neighbouring filters of a pixel at a time, always the same: what belongs to them is read once.
// ACCUMULATE adds total << shift to what is there.
struct Writer {
    int mode, shift, live;  // live: of the four filters, those that exist
    void* target;
    Scale scales[4];
    Encoding encoding;
    Extremes extremes;

    template <typename Sum> DEVICE void write(i64 place, const Sum (&sums)[4]) {
        if (mode == SCALE) {
            Quad<float> out;
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                out.element[k] = scales[k].apply(to_float(sums[k]));
                if (k < live) extremes.include(out.element[k]);
            }
            out.store((float*)target + place, 0, live);
        } else if (mode == ADD) {
            Quad<float> out = Quad<float>::of((const float*)target + place, 0, live);
#pragma unroll
            for (int k = 0; k < 4; ++k) out.element[k] = add(out.element[k], scales[k].apply(to_float(sums[k])));
            out.store((float*)target + place, 0, live);
        } else if (mode == ENCODE) {
            Quad<u8> out;
#pragma unroll
            for (int k = 0; k < 4; ++k) out.element[k] = encoding.code_of(scales[k].apply(to_float(sums[k])));
            out.store((u8*)target + place, 0, live);
        } else if (mode == STORE_32) {
            Quad<i32> out;
#pragma unroll
            for (int k = 0; k < 4; ++k) out.element[k] = (i32)sums[k];
            out.store((i32*)target + place, 0, live);
        } else {
#pragma unroll
            for (int k = 0; k < 4; ++k)
                if (k < live) ((i64*)target)[place + k] += sums[k] * ((i64)1 << shift);
        }
    }
};

template <bool ZEROS, int TILE_FILTERS>
DEVICE void write_results(const i32* shared_sums, const Problem& problem, const Corner& corner,
                          const Correction& correction, const Scaling& scaling, Writer& writer) {
    const int THREADS_PER_ROW = TILE_FILTERS / 4;
    const int f = threadIdx.x % THREADS_PER_ROW * 4, filter = corner.filter + f;
    writer.live = smaller(problem.filters - filter, 4);
    if (writer.live <= 0) return;
    const i64 channel = (i64)corner.group * problem.filters + filter;
    i64 terms[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        if (ZEROS) terms[k] = correction.of_filter(f + k);
        writer.scales[k] = scaling.first ? scaling.of(channel + smaller(k, writer.live - 1)) : Scale{};
    }
#pragma unroll 1
    for (int r = threadIdx.x / THREADS_PER_ROW; r < TILE_ROWS; r += THREADS / THREADS_PER_ROW) {
        const int row = corner.row + r;
        if (row >= problem.rows()) break;
        const i64 place = problem.result_pixel(row) * problem.groups * problem.filters + channel;
        const Packed<i32> sums = *(const Packed<i32>*)(shared_sums + sum_place<TILE_FILTERS>(r, f));
        if (ZEROS) {
            const i64 of_row = correction.of_row(r);
            i64 totals[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) totals[k] = sums.element[k] + terms[k] + of_row;
            writer.write(place, totals);
        } else {
            writer.write(place, sums.element);
        }
    }
}

// x [images, height, width, groups * group_channels], w [groups * filters, taps_h * taps_w, group_channels]; tap_sums
// (with x_zero): w summed over its channels. y [images, height_out, width_out, groups * filters].
// blockIdx.x counts tiles of the product, filters first; blockIdx.z counts groups and phases. Vectors [begin, end) of
// the depth are summed; the call that is closing adds the terms of the whole depth. extremes: null, or of y.
template <typename X, typename W, int TILE_FILTERS, bool ZEROS>
__global__ void __launch_bounds__(THREADS, TILE_FILTERS == 128 ? 2 : 3)
    convolve(const X* x, const float* x_zero, const W* w, const float* w_zero, const i32* tap_sums, i64 images,
             i64 height, i64 width, i64 group_channels, i64 height_out, i64 width_out, i64 filters, i64 groups,
             i64 taps_h, i64 taps_w, i64 stride_h, i64 stride_w, i64 padding_h, i64 padding_w, i64 dilation_h,
             i64 dilation_w, i64 is_transposed, i64 begin, i64 end, i64 is_closing, i64 mode, i64 shift, void* y,
             const float* first_scale, const float* second_scale, i64 second_step, const float* bias,
             const float* code_scale, const float* code_zero, float code_top, float* extremes) {
    const int STAGE_BYTES = (TILE_ROWS + TILE_FILTERS) * TILE_DEPTH, X_BYTES = TILE_ROWS * TILE_DEPTH;
    u8* const memory = dynamic_shared();
    i64* const filter_sums = (i64*)(memory + STAGES * STAGE_BYTES);
    i32* const shared_row_sums = (i32*)(filter_sums + TILE_FILTERS);
    i32* const shared_sums = (i32*)memory;  // in place of the stages, when the product is done
    static_assert(TILE_ROWS * TILE_FILTERS * sizeof(i32) <= STAGES * STAGE_BYTES, "the sums fit");

    const int phases = is_transposed ? (int)(stride_h * stride_w) : 1, phase = blockIdx.z % phases;
    const Axis down = is_transposed
        ? Axis::transposed(height_out, taps_h, stride_h, padding_h, dilation_h, phase / (int)stride_w)
        : Axis::forward(height_out, taps_h, stride_h, padding_h, dilation_h);
    const Axis across = is_transposed
        ? Axis::transposed(width_out, taps_w, stride_w, padding_w, dilation_w, phase % (int)stride_w)
        : Axis::forward(width_out, taps_w, stride_w, padding_w, dilation_w);
    const Problem problem{(int)images,     (int)height,         (int)width,     (int)(groups * group_channels),
                          (int)group_channels, (int)height_out, (int)width_out, (int)filters,
                          (int)groups,     (int)(taps_h * taps_w), Window{down, across, (int)taps_w}};
    const int filter_tiles = (problem.filters + TILE_FILTERS - 1) / TILE_FILTERS;
    const Corner corner{(int)blockIdx.z / phases, (int)blockIdx.x / filter_tiles * TILE_ROWS,
                        (int)blockIdx.x % filter_tiles * TILE_FILTERS};
    if (corner.row >= problem.rows()) return;

    const bool has_filter_sums = ZEROS && x_zero && is_closing, has_row_sums = ZEROS && w_zero;
    const int last = smaller((int)end, problem.vectors());
    const int tiles = last > begin ? (last - (int)begin + CHUNKS - 1) / CHUNKS : 0;
    TileCopier<X, W, TILE_FILTERS> copier(problem, corner, x, w, (int)begin, last, (int)zero_point(x_zero));
    Accumulator<X, W, TILE_FILTERS> accumulator;
    const bool sums_rows = has_row_sums && accumulator.first_filter == 0;  // one of the two warps that read a row
    auto copy_tile = [&](int tile) {
        u8* const stage = memory + tile % STAGES * STAGE_BYTES;
        if (tile < tiles) copier.copy(stage, stage + X_BYTES);
        commit_copies();
    };
#pragma unroll
    for (int tile = 0; tile < STAGES - 1; ++tile) copy_tile(tile);
    if (has_filter_sums) sum_filters<TILE_FILTERS>(problem, corner, tap_sums, filter_sums);  // while copies are made
    for (int tile = 0; tile < tiles; ++tile) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();  // the tile is there for every thread, and all are done with the stage that is filled next
        copy_tile(tile + STAGES - 1);
        const u8* const stage = memory + tile % STAGES * STAGE_BYTES;
        accumulator.multiply(stage, stage + X_BYTES, sums_rows);
    }
    __syncthreads();  // all are done with the last stage
    accumulator.share(shared_sums, shared_row_sums, sums_rows);
    __syncthreads();  // the sums are there

    const i64 x_shift = zero_point(x_zero), w_shift = zero_point(w_zero);
    const i64 constant = is_closing ? x_shift * w_shift * problem.window.taps() * group_channels : 0;
    const Correction correction{x_shift, w_shift, constant, has_filter_sums ? filter_sums : nullptr,
                                has_row_sums ? shared_row_sums : nullptr};
    Writer writer{(int)mode, (int)shift, 0, y, {}, Encoding{code_scale, code_zero, code_top}, Extremes()};
    const Scaling scaling{first_scale, second_scale, bias, second_step};
    write_results<ZEROS, TILE_FILTERS>(shared_sums, problem, corner, correction, scaling, writer);
    if (extremes) writer.extremes.publish(extremes);
}
