// Exact 8-bit gradient of a convolution with respect to its weight, on tensor cores.
//
// A matrix product over pixels: rows are the filters, columns the taps and channels of a filter. In memory the pixels
// of both operands are outermost, but mma wants them innermost, and no instruction transposes bytes. So matrices of
// byte *pairs* are transposed while they are loaded, and the bytes of two pairs are then exchanged in registers. That
// leaves the pixels of a fragment in another order, the same for both operands, and a sum does not mind.
//
// With zero points, the sum over the pixels of (x - x_zero) * (e - e_zero) is
//     sum x e  -  e_zero * sum x  -  x_zero * sum e  +  pixels * x_zero * e_zero
// with padding filled with x_zero. All sums are added in int64 atomically: integers, so in any order the same.
#include "outcome.cuh"
#include "tensor_core.cuh"

const int THREADS = 128, STAGES = 4, TILE_PIXELS = 64;

struct Problem {
    int height, width, group_channels, height_out, width_out, filters, groups;
    int taps_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, taps;
    i64 pixels;

    DEVICE int columns() const { return taps * group_channels; }
};

// How a block's threads copy a tile of TILE_PIXELS rows of WIDTH bytes: one 16-byte chunk of every ROWS-th row each.
template <int WIDTH> struct CopyPattern {
    static const int CHUNKS = WIDTH / VECTOR, ROWS = THREADS / CHUNKS, COPIES = TILE_PIXELS / ROWS;
    int chunk, row;

    DEVICE CopyPattern() : chunk(threadIdx.x % CHUNKS), row(threadIdx.x / CHUNKS) {}
    DEVICE u8* place(u8* tile, int copy) const { return tile + swizzled<WIDTH>(row + copy * ROWS, chunk); }
};

// Pixels [begin, end) of the error [pixels, groups * filters], WIDTH filters of it.
template <typename E, int WIDTH> struct ErrorCopier : CopyPattern<WIDTH> {
    const E* source;
    i64 all_filters, remaining;
    bool is_inside;

    DEVICE ErrorCopier(const Problem& problem, const E* e, int group, int first_filter, i64 begin, i64 end)
        : all_filters((i64)problem.groups * problem.filters), remaining(end - begin - this->row) {
        const int filter = first_filter + this->chunk * VECTOR;
        is_inside = filter < problem.filters;
        source = e + (begin + this->row) * all_filters + (i64)group * problem.filters + filter;
    }

    DEVICE void copy(u8* tile) {
#pragma unroll
        for (int i = 0; i < this->COPIES; ++i) {
            u8* const target = this->place(tile, i);
            if (is_inside && i * this->ROWS < remaining)
                copy_async(target, source + i * this->ROWS * all_filters);
            else
                *(Vector*)target = filled(0);
        }
        source += TILE_PIXELS * all_filters;
        remaining -= TILE_PIXELS;
    }
};

// A pixel of the result that moves on by TILE_PIXELS at a time, without a division.
struct PixelWalk {
    int image, row, column;

    DEVICE static PixelWalk at(i64 pixel, const Problem& problem) {
        const i64 line = pixel / problem.width_out, image = line / problem.height_out;
        return PixelWalk{(int)image, (int)(line - image * problem.height_out), (int)(pixel - line * problem.width_out)};
    }

    DEVICE void advance(const Problem& problem, const PixelWalk& step) {
        column += step.column;
        row += step.row;
        image += step.image;
        if (column >= problem.width_out) {
            column -= problem.width_out;
            ++row;
        }
        if (row >= problem.height_out) {
            row -= problem.height_out;
            ++image;
        }
    }
};

// The same pixels of x [images, height, width, groups * group_channels] as WIDTH columns meet them; the column of a
// thread's chunk, and with it the tap, stays the same.
template <typename X, int WIDTH> struct SourceCopier : CopyPattern<WIDTH> {
    static const int COPIES = CopyPattern<WIDTH>::COPIES;
    const Problem& problem;
    const X* source;
    PixelWalk step;
    PixelWalk pixels[COPIES];
    i64 remaining;
    int down, across;
    u32 fill;
    bool is_inside;

    DEVICE SourceCopier(const Problem& problem_, const X* x, int group, int first_column, i64 begin, i64 end, int x_zero)
        : problem(problem_), step(PixelWalk::at(TILE_PIXELS, problem_)), remaining(end - begin - this->row),
          fill((u32)x_zero) {
        const int column = first_column + this->chunk * VECTOR, tap = column / problem.group_channels;
        is_inside = column < problem.columns();
        down = tap / problem.taps_w * problem.dilation_h - problem.padding_h;
        across = tap % problem.taps_w * problem.dilation_w - problem.padding_w;
        source = x + (i64)group * problem.group_channels + (column - tap * problem.group_channels);
#pragma unroll
        for (int i = 0; i < COPIES; ++i) pixels[i] = PixelWalk::at(begin + this->row + i * this->ROWS, problem);
    }

    DEVICE void copy(u8* tile) {
        const i64 channels = (i64)problem.groups * problem.group_channels;
#pragma unroll
        for (int i = 0; i < COPIES; ++i) {
            u8* const target = this->place(tile, i);
            const bool is_live = is_inside && i * this->ROWS < remaining;
            const int row = pixels[i].row * problem.stride_h + down;
            const int column = pixels[i].column * problem.stride_w + across;
            if (is_live && (u32)row < (u32)problem.height && (u32)column < (u32)problem.width)
                copy_async(target,
                           source + (((i64)pixels[i].image * problem.height + row) * problem.width + column) * channels);
            else
                *(Vector*)target = filled(is_live ? fill : 0);
            pixels[i].advance(problem, step);
        }
        remaining -= TILE_PIXELS;
    }
};

// Fragments of 16 neighbouring channels over 32 pixels: of the even ones and of the odd ones, each with its pixels in
// two registers (of four pixels per lane).
struct Fragments {
    u32 even[2], odd[2];

    template <int WIDTH> DEVICE void load(const u8* tile, int first_pixel, int channel, int lane) {
        u32 pairs[4];
        load_matrices_transposed(pairs, tile + swizzled<WIDTH>(first_pixel + lane, channel / VECTOR));
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            even[half] = __byte_perm(pairs[2 * half], pairs[2 * half + 1], 0x6420);
            odd[half] = __byte_perm(pairs[2 * half], pairs[2 * half + 1], 0x7531);
        }
    }
};

// Where a sum stands in shared memory at the end. Groups of 16 columns are exchanged within a row, so that the rows that
// a warp writes at a time, every second one, lie in different banks.
template <int TILE_COLUMNS> DEVICE int sum_place(int filter, int column) {
    return filter * TILE_COLUMNS + (column / 16 ^ (filter / 2 & (TILE_COLUMNS / 16 - 1))) * 16 + column % 16;
}

// One warp's part of the product: a quarter of the tile.
template <typename X, typename E, int TILE_FILTERS, int TILE_COLUMNS> struct Accumulator {
    static const int ROW_TILES = TILE_FILTERS / 32, COLUMN_PAIRS = TILE_COLUMNS / 32;  // of 16 filters, 16 columns
    i32 sums[ROW_TILES][2 * COLUMN_PAIRS][4];
    i32 error_sums[ROW_TILES][2], source_sums[COLUMN_PAIRS][2];  // of the even and the odd channels
    int lane, first_filter, first_column;

    DEVICE Accumulator()
        : sums(), error_sums(), source_sums(), lane(threadIdx.x % WARP),
          first_filter(threadIdx.x / WARP / 2 * (TILE_FILTERS / 2)),
          first_column(threadIdx.x / WARP % 2 * (TILE_COLUMNS / 2)) {}

    DEVICE void multiply(const u8* e_tile, const u8* x_tile, bool with_error_sums, bool with_source_sums) {
#pragma unroll
        for (int first_pixel = 0; first_pixel < TILE_PIXELS; first_pixel += 32) {
            u32 a[ROW_TILES][4];  // rows 0 to 7 are the even filters, 8 to 15 the odd ones
#pragma unroll
            for (int i = 0; i < ROW_TILES; ++i) {
                Fragments e;
                e.load<TILE_FILTERS>(e_tile, first_pixel, first_filter + 16 * i, lane);
                a[i][0] = e.even[0], a[i][1] = e.odd[0], a[i][2] = e.even[1], a[i][3] = e.odd[1];
                if (with_error_sums) add_fragments(error_sums[i], e, E(0));
            }
#pragma unroll
            for (int j = 0; j < COLUMN_PAIRS; ++j) {
                Fragments x;
                x.load<TILE_COLUMNS>(x_tile, first_pixel, first_column + 16 * j, lane);
                if (with_source_sums) add_fragments(source_sums[j], x, X(0));
#pragma unroll
                for (int i = 0; i < ROW_TILES; ++i) {
                    multiply_accumulate<E, X>(sums[i][2 * j], a[i], x.even[0], x.even[1]);
                    multiply_accumulate<E, X>(sums[i][2 * j + 1], a[i], x.odd[0], x.odd[1]);
                }
            }
        }
    }

    template <typename T> DEVICE static void add_fragments(i32 (&sums)[2], const Fragments& fragments, T) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            sums[0] = add_bytes(fragments.even[half], sums[0], T(0));
            sums[1] = add_bytes(fragments.odd[half], sums[1], T(0));
        }
    }

    // Hands the sums to the whole block: shared_sums [TILE_FILTERS, TILE_COLUMNS]. A lane holds filter 2 g of 16 and
    // the odd one after it, g = lane / 4, and in each four neighbouring columns, even ones apart from odd ones.
    DEVICE void share(i32* shared_sums) const {
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i)
#pragma unroll
            for (int odd = 0; odd < 2; ++odd)
#pragma unroll
                for (int j = 0; j < COLUMN_PAIRS; ++j) {
                    const int filter = first_filter + 16 * i + lane / 4 * 2 + odd;
                    const int column = first_column + 16 * j + lane % 4 * 4;
                    const i32(&even_columns)[4] = sums[i][2 * j], (&odd_columns)[4] = sums[i][2 * j + 1];
                    *(int4*)(shared_sums + sum_place<TILE_COLUMNS>(filter, column)) =
                        make_int4(even_columns[2 * odd], odd_columns[2 * odd], even_columns[2 * odd + 1],
                                  odd_columns[2 * odd + 1]);
                }
    }
};

DEVICE void atomic_add(i64* target, i64 value) { atomicAdd((u64*)target, (u64)value); }

// Adds the sums of one operand's channels, spread over the four lanes of a quad: [TILES of 16][even, odd].
template <int TILES>
DEVICE void publish_sums(const i32 (&sums)[TILES][2], int lane, i64 first, int live, i64 factor, i64* target) {
#pragma unroll
    for (int i = 0; i < TILES; ++i)
#pragma unroll
        for (int odd = 0; odd < 2; ++odd) {
            i32 sum = sums[i][odd];
            sum += __shfl_xor_sync(ALL_LANES, sum, 1);
            sum += __shfl_xor_sync(ALL_LANES, sum, 2);
            const int channel = 16 * i + lane / 4 * 2 + odd;
            if (lane % 4 == 0 && channel < live) atomic_add(target + first + channel, sum * factor);
        }
}

// x [images, height, width, groups * group_channels], e [pixels, groups * filters] (pixels of all images), channels and
// filters per group multiples of 16. Adds to sums [groups * filters, taps * group_channels], and, unless null, to
// error_sums [groups * filters] and source_sums [groups, taps * group_channels], everything times 2^shift.
// blockIdx.x counts tiles, filters first; blockIdx.y parts of the pixels, few enough each that int32 holds their sum;
// blockIdx.z groups.
template <typename X, typename E, int TILE_FILTERS, int TILE_COLUMNS>
__global__ void __launch_bounds__(THREADS, 2)
    weight_gradient(const X* x, const float* x_zero, const E* e, i64 pixels, i64 height, i64 width, i64 group_channels,
                    i64 height_out, i64 width_out, i64 filters, i64 groups, i64 taps_h, i64 taps_w, i64 stride_h,
                    i64 stride_w, i64 padding_h, i64 padding_w, i64 dilation_h, i64 dilation_w, i64 pixels_per_part,
                    i64 shift, i64* sums, i64* error_sums, i64* source_sums) {
    const int E_BYTES = TILE_PIXELS * TILE_FILTERS, STAGE_BYTES = E_BYTES + TILE_PIXELS * TILE_COLUMNS;
    u8* const memory = dynamic_shared();
    const Problem problem{(int)height,     (int)width,     (int)group_channels, (int)height_out, (int)width_out,
                          (int)filters,    (int)groups,    (int)taps_w,         (int)stride_h,   (int)stride_w,
                          (int)padding_h,  (int)padding_w, (int)dilation_h,     (int)dilation_w, (int)(taps_h * taps_w),
                          pixels};
    const int filter_tiles = (problem.filters + TILE_FILTERS - 1) / TILE_FILTERS, group = blockIdx.z;
    const int first_filter = (int)blockIdx.x % filter_tiles * TILE_FILTERS;
    const int first_column = (int)blockIdx.x / filter_tiles * TILE_COLUMNS;
    const i64 begin = blockIdx.y * pixels_per_part, end = smaller(begin + pixels_per_part, pixels);

    ErrorCopier<E, TILE_FILTERS> errors(problem, e, group, first_filter, begin, end);
    SourceCopier<X, TILE_COLUMNS> source(problem, x, group, first_column, begin, end, (int)zero_point(x_zero));
    Accumulator<X, E, TILE_FILTERS, TILE_COLUMNS> accumulator;
    // Each operand is summed by one of the blocks, and by one of the two warps, that read it.
    const bool with_error_sums = error_sums && first_column == 0 && accumulator.first_column == 0;
    const bool with_source_sums = source_sums && first_filter == 0 && accumulator.first_filter == 0;

    const int tiles = (int)((end - begin + TILE_PIXELS - 1) / TILE_PIXELS);
    auto copy_tile = [&](int tile) {
        u8* const stage = memory + tile % STAGES * STAGE_BYTES;
        if (tile < tiles) {
            errors.copy(stage);
            source.copy(stage + E_BYTES);
        }
        commit_copies();
    };
#pragma unroll
    for (int tile = 0; tile < STAGES - 1; ++tile) copy_tile(tile);
    for (int tile = 0; tile < tiles; ++tile) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();  // the tile is there for every thread, and all are done with the stage that is filled next
        copy_tile(tile + STAGES - 1);
        const u8* const stage = memory + tile % STAGES * STAGE_BYTES;
        accumulator.multiply(stage, stage + E_BYTES, with_error_sums, with_source_sums);
    }

    i32* const shared_sums = (i32*)memory;  // in place of the stages
    static_assert(TILE_FILTERS * TILE_COLUMNS * sizeof(i32) <= STAGES * STAGE_BYTES, "the sums fit");
    __syncthreads();  // all are done with the last stage
    accumulator.share(shared_sums);
    __syncthreads();  // the sums are there

    const i64 factor = (i64)1 << shift, columns = problem.columns();
    const int live_filters = problem.filters - first_filter, live_columns = problem.columns() - first_column;
    i64* const corner = sums + ((i64)group * filters + first_filter) * columns + first_column;
    for (int i = threadIdx.x; i < TILE_FILTERS * TILE_COLUMNS; i += THREADS) {
        const int filter = i / TILE_COLUMNS, column = i % TILE_COLUMNS;
        if (filter < live_filters && column < live_columns)
            atomic_add(corner + filter * columns + column,
                       shared_sums[sum_place<TILE_COLUMNS>(filter, column)] * factor);
    }
    if (with_error_sums)
        publish_sums(accumulator.error_sums, accumulator.lane, group * filters + first_filter + accumulator.first_filter,
                     live_filters - accumulator.first_filter, factor, error_sums);
    if (with_source_sums)
        publish_sums(accumulator.source_sums, accumulator.lane, group * columns + first_column + accumulator.first_column,
                     live_columns - accumulator.first_column, factor, source_sums);
}
