// Exact 8-bit gradient of a convolution with respect to its weight, on tensor cores.
//
// A matrix product over pixels: rows are the filters, columns the taps and channels of a filter. In memory the pixels
// of both operands are outermost, but mma wants them innermost, and no instruction transposes bytes. So matrices of
// byte *pairs* are transposed while they are loaded, and the bytes of two pairs are then exchanged in registers. That
// leaves the pixels of a fragment in another order, the same for both operands, and a sum does not mind.
//
// Errors of 16 bits are byte pairs themselves: two rows of the product each, e = 256 * high + low, without a pass that
// takes them apart. An operand of mma has one type, so the low byte is taken less 128 to be signed as the high one is;
// the sum of x makes up for that.
//
// With zero points, the sum over the pixels of (x - x_zero) * (e - e_zero) is
//     sum x e  -  e_zero * sum x  -  x_zero * sum e  +  pixels * x_zero * e_zero
// with padding filled with x_zero. All sums are added in int64 atomically: integers, so in any order the same.
#include "outcome.cuh"
#include "tensor_core.cuh"

const int THREADS = 128, STAGES = 4, TILE_PIXELS = 64;

// The bytes of an error's code, and the type that mma takes them for.
template <typename E> struct Bytes {
    static constexpr int COUNT = 1;
    using Low = E;
    using Factor = E;
};
template <> struct Bytes<i16> {
    static constexpr int COUNT = 2;
    using Low = u8;  // the high one is signed
    using Factor = i8;
};
const u32 LESS_128 = 0x80808080u;  // exclusive or

struct Problem {
    int height, width, group_channels, height_out, width_out, rows, groups;  // rows: bytes of a group's filters
    int taps_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, taps;
    i64 pixels;

    DEVICE int columns() const { return taps * group_channels; }
};

// How a block's threads copy a tile of TILE_PIXELS rows of WIDTH bytes: one 16-byte chunk of every ROWS-th row each.
template <int WIDTH> struct CopyPattern {
    static constexpr int CHUNKS = WIDTH / VECTOR, ROWS = THREADS / CHUNKS, COPIES = TILE_PIXELS / ROWS;
    static_assert(ROWS % SWIZZLED_ROWS == 0, "a thread's chunks lie a constant apart");
    int chunk, row, first_place;

    DEVICE CopyPattern()
        : chunk(threadIdx.x % CHUNKS), row(threadIdx.x / CHUNKS), first_place(swizzled<WIDTH>(row, chunk)) {}
    DEVICE u8* place(u8* tile, int copy) const { return tile + first_place + copy * ROWS * WIDTH; }
};

// Pixels [begin, end) of the error [pixels, groups * rows], WIDTH bytes of each.
template <int WIDTH> struct ErrorCopier : CopyPattern<WIDTH> {
    const u8* source;
    int step, remaining;  // step: bytes between a thread's rows. remaining: pixels, none outside of the rows

    DEVICE ErrorCopier(const Problem& problem, const u8* e, int group, int first_row, i64 begin, i64 end)
        : step(this->ROWS * problem.groups * problem.rows) {
        const int first = first_row + this->chunk * VECTOR;
        remaining = first < problem.rows ? (int)(end - begin) - this->row : 0;
        source = e + (begin + this->row) * problem.groups * problem.rows + (i64)group * problem.rows + first;
    }

    DEVICE void copy(u8* tile) {
#pragma unroll
        for (int i = 0; i < this->COPIES; ++i) {
            copy_or_fill(this->place(tile, i), source, i * this->ROWS < remaining, 0);
            source += step;
        }
        remaining -= TILE_PIXELS;
    }
};

// A pixel of the result that moves on by the same number of pixels again and again, without a division or a branch.
struct PixelWalk {
    int image, row, column;

    DEVICE static PixelWalk at(i64 pixel, const Problem& problem) {
        const i64 line = pixel / problem.width_out, image = line / problem.height_out;
        return PixelWalk{(int)image, (int)(line - image * problem.height_out), (int)(pixel - line * problem.width_out)};
    }

    DEVICE void advance(const Problem& problem, const PixelWalk& step) {
        column += step.column;
        const bool next_row = column >= problem.width_out;
        column -= next_row ? problem.width_out : 0;
        row += step.row + next_row;
        const bool next_image = row >= problem.height_out;
        row -= next_image ? problem.height_out : 0;
        image += step.image + next_image;
    }
};

// The same pixels of x [images, height, width, groups * group_channels] as WIDTH columns meet them; the column of a
// thread's chunk, and with it the tap, stays the same. Pixels of x are counted in 32 bits.
template <typename X, int WIDTH> struct SourceCopier : CopyPattern<WIDTH> {
    const Problem& problem;
    const X* source;
    PixelWalk step, pixel;
    int remaining, down, across, channels;
    u32 fill;

    DEVICE SourceCopier(const Problem& problem_, const X* x, int group, int first_column, i64 begin, i64 end, int x_zero)
        : problem(problem_), step(PixelWalk::at(this->ROWS, problem_)),
          pixel(PixelWalk::at(begin + this->row, problem_)), channels(problem_.groups * problem_.group_channels),
          fill(filled((u32)x_zero)) {
        const int column = first_column + this->chunk * VECTOR, tap = column / problem.group_channels;
        remaining = column < problem.columns() ? (int)(end - begin) - this->row : 0;
        down = tap / problem.taps_w * problem.dilation_h - problem.padding_h;
        across = tap % problem.taps_w * problem.dilation_w - problem.padding_w;
        source = x + (i64)group * problem.group_channels + (column - tap * problem.group_channels);
    }

    DEVICE void copy(u8* tile) {
#pragma unroll
        for (int i = 0; i < this->COPIES; ++i) {
            const bool is_wanted = i * this->ROWS < remaining;
            const int row = pixel.row * problem.stride_h + down, column = pixel.column * problem.stride_w + across;
            const bool is_live = is_wanted && (u32)row < (u32)problem.height && (u32)column < (u32)problem.width;
            const int place = (pixel.image * problem.height + row) * problem.width + column;
            copy_or_fill(this->place(tile, i), source + (i64)place * channels, is_live, is_wanted ? fill : 0);
            pixel.advance(problem, step);
        }
        remaining -= TILE_PIXELS;
    }
};

// Fragments of 16 neighbouring channels over 32 pixels: of the even ones and of the odd ones, each with its pixels in
// two registers (of four pixels per lane).
struct Fragments {
    u32 even[2], odd[2];

    // row: of this lane's pixel.
    DEVICE void load(const u8* row) {
        u32 pairs[4];
        load_matrices_transposed(pairs, row);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            even[half] = __byte_perm(pairs[2 * half], pairs[2 * half + 1], 0x6420);
            odd[half] = __byte_perm(pairs[2 * half], pairs[2 * half + 1], 0x7531);
        }
    }
};

// Where a sum stands in shared memory at the end. Groups of 16 columns are exchanged within a row, so that the rows that
// a warp writes at a time, every second one, lie in different banks.
template <int TILE_COLUMNS> DEVICE int sum_place(int row, int column) {
    return row * TILE_COLUMNS + (column / 16 ^ (row / 2 & (TILE_COLUMNS / 16 - 1))) * 16 + column % 16;
}

// One warp's part of the product: a quarter of the tile.
template <typename X, typename E, int TILE_ROWS, int TILE_COLUMNS> struct Accumulator {
    using Factor = typename Bytes<E>::Factor;
    static constexpr int ROW_TILES = TILE_ROWS / 32, COLUMN_PAIRS = TILE_COLUMNS / 32;  // of 16 rows, 16 columns
    i32 sums[ROW_TILES][2 * COLUMN_PAIRS][4];
    i32 error_sums[ROW_TILES][2], source_sums[COLUMN_PAIRS][2];  // of the even and the odd rows or columns
    int lane, first_row, first_column;
    int e_place, x_place;  // of the first chunks; the exchange turns i chunks on into an exclusive or

    DEVICE Accumulator()
        : sums(), error_sums(), source_sums(), lane(threadIdx.x % WARP),
          first_row(threadIdx.x / WARP / 2 * (TILE_ROWS / 2)),
          first_column(threadIdx.x / WARP % 2 * (TILE_COLUMNS / 2)) {
        e_place = swizzled<TILE_ROWS>(lane, first_row / VECTOR);
        x_place = swizzled<TILE_COLUMNS>(lane, first_column / VECTOR);
    }

    // SUMS: those of the operands too, of which the block may want one or both. Asking at every fragment costs more.
    template <bool SUMS> DEVICE void multiply(const u8* e_tile, const u8* x_tile) {
#pragma unroll
        for (int first_pixel = 0; first_pixel < TILE_PIXELS; first_pixel += 32) {
            u32 a[ROW_TILES][4];  // rows 0 to 7 are the even ones, 8 to 15 the odd ones
#pragma unroll
            for (int i = 0; i < ROW_TILES; ++i) {
                Fragments e;
                e.load(e_tile + (e_place ^ i * VECTOR) + first_pixel * TILE_ROWS);
                if (SUMS) add_fragments(error_sums[i], e, typename Bytes<E>::Low(0), Factor(0));
                if (Bytes<E>::COUNT == 2) e.even[0] ^= LESS_128, e.even[1] ^= LESS_128;
                a[i][0] = e.even[0], a[i][1] = e.odd[0], a[i][2] = e.even[1], a[i][3] = e.odd[1];
            }
#pragma unroll
            for (int j = 0; j < COLUMN_PAIRS; ++j) {
                Fragments x;
                x.load(x_tile + (x_place ^ j * VECTOR) + first_pixel * TILE_COLUMNS);
                if (SUMS) add_fragments(source_sums[j], x, X(0), X(0));
#pragma unroll
                for (int i = 0; i < ROW_TILES; ++i) {
                    multiply_accumulate<Factor, X>(sums[i][2 * j], a[i], x.even[0], x.even[1]);
                    multiply_accumulate<Factor, X>(sums[i][2 * j + 1], a[i], x.odd[0], x.odd[1]);
                }
            }
        }
    }

    template <typename Even, typename Odd>
    DEVICE static void add_fragments(i32 (&sums)[2], const Fragments& fragments, Even, Odd) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            sums[0] = add_bytes(fragments.even[half], sums[0], Even(0));
            sums[1] = add_bytes(fragments.odd[half], sums[1], Odd(0));
        }
    }

    // Hands the sums to the whole block: shared_sums [TILE_ROWS, TILE_COLUMNS]. A lane holds row 2 g of 16 and the odd
    // one after it, g = lane / 4, and in each four neighbouring columns, even ones apart from odd ones.
    DEVICE void share(i32* shared_sums) const {
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i)
#pragma unroll
            for (int odd = 0; odd < 2; ++odd)
#pragma unroll
                for (int j = 0; j < COLUMN_PAIRS; ++j) {
                    const int row = first_row + 16 * i + lane / 4 * 2 + odd;
                    const int column = first_column + 16 * j + lane % 4 * 4;
                    const i32(&even_columns)[4] = sums[i][2 * j], (&odd_columns)[4] = sums[i][2 * j + 1];
                    *(int4*)(shared_sums + sum_place<TILE_COLUMNS>(row, column)) =
                        make_int4(even_columns[2 * odd], odd_columns[2 * odd], even_columns[2 * odd + 1],
                                  odd_columns[2 * odd + 1]);
                }
    }
};

DEVICE void atomic_add(i64* target, i64 value) { atomicAdd((u64*)target, (u64)value); }

// Adds the sums of one operand, spread over the four lanes of a quad: [TILES of 16][even, odd], or 256 times the odd one
// and the even one where two bytes make a code.
template <int BYTES, int TILES>
DEVICE void publish_sums(const i32 (&sums)[TILES][2], int lane, i64 first, int live, i64 factor, i64* target) {
#pragma unroll
    for (int i = 0; i < TILES; ++i) {
        i64 totals[2];
#pragma unroll
        for (int odd = 0; odd < 2; ++odd) {
            i32 sum = sums[i][odd];
            sum += __shfl_xor_sync(ALL_LANES, sum, 1);
            sum += __shfl_xor_sync(ALL_LANES, sum, 2);
            totals[odd] = sum;
        }
        if (BYTES == 2) totals[0] += 256 * totals[1];
#pragma unroll
        for (int odd = 0; odd < 2 / BYTES; ++odd) {
            const int place = (16 * i + lane / 4 * 2 + odd) / BYTES;
            if (lane % 4 == 0 && place < live) atomic_add(target + first + place, totals[odd] * factor);
        }
    }
}

// The sum of one filter and column, of its two bytes where there are two.
template <int BYTES, int TILE_COLUMNS> DEVICE i64 total(const i32* shared_sums, int filter, int column) {
    const i64 low = shared_sums[sum_place<TILE_COLUMNS>(BYTES * filter, column)];
    return BYTES == 1 ? low : low + 256 * (i64)shared_sums[sum_place<TILE_COLUMNS>(2 * filter + 1, column)];
}

// x [images, height, width, groups * group_channels], e [pixels, groups * filters] (pixels of all images), channels and
// bytes of the filters per group multiples of 16. Adds to sums [groups * filters, taps * group_channels], and, unless
// null, to error_sums [groups * filters] and source_sums [groups, taps * group_channels], everything times 2^shift. With
// errors of 16 bits sums is 128 times source_sums too small.
// blockIdx.x counts tiles, filters first; blockIdx.y parts of the pixels, few enough each that int32 holds their sum;
// blockIdx.z groups.
template <typename X, typename E, int TILE_ROWS, int TILE_COLUMNS>
__global__ void __launch_bounds__(THREADS, 2)
    weight_gradient(const X* x, const float* x_zero, const E* e, i64 pixels, i64 height, i64 width, i64 group_channels,
                    i64 height_out, i64 width_out, i64 filters, i64 groups, i64 taps_h, i64 taps_w, i64 stride_h,
                    i64 stride_w, i64 padding_h, i64 padding_w, i64 dilation_h, i64 dilation_w, i64 pixels_per_part,
                    i64 shift, i64* sums, i64* error_sums, i64* source_sums) {
    const int BYTES = Bytes<E>::COUNT, TILE_FILTERS = TILE_ROWS / BYTES;
    const int E_BYTES = TILE_PIXELS * TILE_ROWS, STAGE_BYTES = E_BYTES + TILE_PIXELS * TILE_COLUMNS;
    u8* const memory = dynamic_shared();
    const Problem problem{(int)height,     (int)width,     (int)group_channels, (int)height_out, (int)width_out,
                          BYTES * (int)filters, (int)groups, (int)taps_w,       (int)stride_h,   (int)stride_w,
                          (int)padding_h,  (int)padding_w, (int)dilation_h,     (int)dilation_w, (int)(taps_h * taps_w),
                          pixels};
    const int filter_tiles = ((int)filters + TILE_FILTERS - 1) / TILE_FILTERS, group = blockIdx.z;
    const int first_filter = (int)blockIdx.x % filter_tiles * TILE_FILTERS;
    const int first_column = (int)blockIdx.x / filter_tiles * TILE_COLUMNS;
    const i64 begin = blockIdx.y * pixels_per_part, end = smaller(begin + pixels_per_part, pixels);

    ErrorCopier<TILE_ROWS> errors(problem, (const u8*)e, group, BYTES * first_filter, begin, end);
    SourceCopier<X, TILE_COLUMNS> source(problem, x, group, first_column, begin, end, (int)zero_point(x_zero));
    Accumulator<X, E, TILE_ROWS, TILE_COLUMNS> accumulator;
    // Each operand is summed by one of the blocks, and by one of the two warps, that read it.
    const bool with_error_sums = error_sums && first_column == 0 && accumulator.first_column == 0;
    const bool with_source_sums = source_sums && first_filter == 0 && accumulator.first_row == 0;

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
        if (with_error_sums || with_source_sums)
            accumulator.template multiply<true>(stage, stage + E_BYTES);
        else
            accumulator.template multiply<false>(stage, stage + E_BYTES);
    }

    i32* const shared_sums = (i32*)memory;  // in place of the stages
    static_assert(TILE_ROWS * TILE_COLUMNS * sizeof(i32) <= STAGES * STAGE_BYTES, "the sums fit");
    __syncthreads();  // all are done with the last stage
    accumulator.share(shared_sums);
    __syncthreads();  // the sums are there

    const i64 factor = (i64)1 << shift, columns = problem.columns();
    const int live_filters = (int)filters - first_filter, live_columns = problem.columns() - first_column;
    i64* const corner = sums + ((i64)group * filters + first_filter) * columns + first_column;
    for (int i = threadIdx.x; i < TILE_FILTERS * TILE_COLUMNS; i += THREADS) {
        const int filter = i / TILE_COLUMNS, column = i % TILE_COLUMNS;
        if (filter < live_filters && column < live_columns)
            atomic_add(corner + filter * columns + column,
                       total<BYTES, TILE_COLUMNS>(shared_sums, filter, column) * factor);
    }
    if (with_error_sums) {
        const int mine = accumulator.first_row / BYTES;
        publish_sums<BYTES>(accumulator.error_sums, accumulator.lane, group * filters + first_filter + mine,
                            live_filters - mine, factor, error_sums);
    }
    if (with_source_sums)
        publish_sums<1>(accumulator.source_sums, accumulator.lane,
                        group * columns + first_column + accumulator.first_column,
                        live_columns - accumulator.first_column, factor, source_sums);
}
