// What the products need before and after: operands laid out in vectors of 16 channels, sums taken apart and scaled.
#include "elements.cuh"
#include "outcome.cuh"
#include "tensor_core.cuh"

// target [rows, padded] from source [rows, columns] with the given strides; the rest of a row is the zero point, which
// contributes nothing to a product. padded is a multiple of VECTOR.
extern "C" __global__ void pack_rows(const u8* source, i64 rows, i64 columns, i64 row_stride, i64 column_stride,
                                     i64 padded, const float* zero, u8* target) {
    const u8 fill = (u8)zero_point(zero);
    const i64 vectors = padded / VECTOR;
    for_each(rows * vectors, [&](i64 i) {
        const i64 row = i / vectors, first = (i - row * vectors) * VECTOR;
        const u8* const line = source + row * row_stride;
        alignas(VECTOR) u8 bytes[VECTOR];
#pragma unroll
        for (int j = 0; j < VECTOR; ++j) bytes[j] = first + j < columns ? line[(first + j) * column_stride] : fill;
        *(Vector*)(target + i * VECTOR) = *(const Vector*)bytes;
    });
}

const int TRANSPOSE_TILE = 32, TRANSPOSE_ROWS = 8;

// For each group and tap, the transpose of a matrix [rows, columns]: target [groups, columns, taps, padded] with rows
// innermost. padded: rows rounded up to a multiple of VECTOR; the rest is the zero point.
// blockIdx.x counts tiles of columns and, outside of those, of rows; blockIdx.z groups and taps.
extern "C" __global__ void transpose_rows(const u8* source, i64 rows, i64 columns, i64 taps, i64 row_stride,
                                          i64 column_stride, i64 tap_stride, i64 group_stride, i64 padded,
                                          const float* zero, u8* target) {
    __shared__ u8 tile[TRANSPOSE_TILE][TRANSPOSE_TILE + 4];  // a pitch of 9 words keeps columns in different banks
    const i64 tap = blockIdx.z % taps, group = blockIdx.z / taps;
    const i64 tiles_across = (columns + TRANSPOSE_TILE - 1) / TRANSPOSE_TILE;
    const i64 first_row = blockIdx.x / tiles_across * TRANSPOSE_TILE;
    const i64 first_column = blockIdx.x % tiles_across * TRANSPOSE_TILE;
    const int across = threadIdx.x % TRANSPOSE_TILE, down = threadIdx.x / TRANSPOSE_TILE;
    const u8* const matrix = source + group * group_stride + tap * tap_stride;
    const u8 fill = (u8)zero_point(zero);
    for (int i = down; i < TRANSPOSE_TILE; i += TRANSPOSE_ROWS) {
        const i64 row = first_row + i, column = first_column + across;
        const bool is_inside = row < rows && column < columns;
        tile[i][across] = is_inside ? matrix[row * row_stride + column * column_stride] : fill;
    }
    __syncthreads();
    for (int i = down; i < TRANSPOSE_TILE; i += TRANSPOSE_ROWS) {
        const i64 column = first_column + i, row = first_row + across;
        if (column < columns && row < padded)
            target[((group * columns + column) * taps + tap) * padded + row] = tile[across][i];
    }
}

// The sum of each row of [rows, length], one warp per row; length is a multiple of VECTOR.
template <typename T> __global__ void row_sums(const T* source, i64 rows, i64 length, i32* sums) {
    const int lane = threadIdx.x % WARP;
    for (i64 row = thread_index() / WARP; row < rows; row += thread_count() / WARP) {
        i32 sum = 0;
        for (i64 first = lane * VECTOR; first < length; first += WARP * VECTOR) {
            const Vector vector = *(const Vector*)(source + row * length + first);
#pragma unroll
            for (int j = 0; j < 4; ++j) sum = add_bytes(vector.word[j], sum, T(0));
        }
#pragma unroll
        for (int distance = WARP / 2; distance; distance /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, distance);
        if (lane == 0) sums[row] = sum;
    }
}

// A 16-bit code is 256 * high + low, and so is its zero point; zeros [2]: of low and of high, unless zero is null.
extern "C" __global__ void split_digits(const i16* source, i64 count, const float* zero, u8* low, i8* high,
                                        float* zeros) {
    auto load = [&](i64 first, auto live) { return Quad<i16>::of(source, first, live); };
    for_each_quad(count, are_packed(source, low, high), load, [&](const Quad<i16>& quad, i64 first, auto live) {
        Quad<u8> lows;
        Quad<i8> highs;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            lows.element[j] = (u8)(quad.element[j] & 255);
            highs.element[j] = (i8)(quad.element[j] >> 8);
        }
        lows.store(low, first, live);
        highs.store(high, first, live);
    });
    if (zero && thread_index() == 0) {
        const i64 point = zero_point(zero);
        zeros[0] = (float)(point & 255);
        zeros[1] = (float)(point >> 8);
    }
}

// A sum in its final form; `channel` chooses among the second scales and the biases.
DEVICE void finish(i64 sum, i64 place, i64 channel, int mode, void* y, const Scaling& scaling, const Encoding& encoding,
                   Extremes& extremes) {
    if (mode == ENCODE) {
        ((u8*)y)[place] = encoding.code_of(scaling.of(channel).apply(to_float(sum)));
    } else if (mode == SCALE) {
        const float value = scaling.of(channel).apply(to_float(sum));
        extremes.include(value);
        ((float*)y)[place] = value;
    } else if (mode == ADD) {
        ((float*)y)[place] = add(((const float*)y)[place], scaling.of(channel).apply(to_float(sum)));
    } else if (mode == STORE_32) {
        ((i32*)y)[place] = (i32)sum;
    } else {
        ((i64*)y)[place] = sum;
    }
}

// sums [rows, channels] to y of that shape. extremes: null, or of y.
extern "C" __global__ void finish_sums(const i64* sums, i64 count, i64 channels, i64 mode, void* y,
                                       const float* first_scale, const float* second_scale, i64 second_step,
                                       const float* bias, const float* code_scale, const float* code_zero,
                                       float code_top, float* extremes) {
    const Scaling scaling{first_scale, second_scale, bias, second_step};
    const Encoding encoding{code_scale, code_zero, code_top};
    Extremes mine;
    for_each(count, [&](i64 i) { finish(sums[i], i, i % channels, (int)mode, y, scaling, encoding, mine); });
    if (extremes) mine.publish(extremes);
}

// sums [groups, padded_filters, taps, padded_channels] to y [groups, filters, taps, channels], with the terms of the
// zero points: error_sums [groups, padded_filters] and source_sums [groups, taps, padded_channels], both null without
// zero points. The sums are of errors less e_offset. Second scale and bias are per column of y.
extern "C" __global__ void finish_weight_gradient(const i64* sums, const i64* error_sums, const i64* source_sums,
                                                  const float* e_zero, const float* x_zero, i64 e_offset, i64 pixels, i64 groups,
                                                  i64 filters, i64 padded_filters, i64 taps, i64 padded_channels,
                                                  i64 channels, i64 mode, void* y, const float* first_scale,
                                                  const float* second_scale, i64 second_step, const float* bias) {
    const Scaling scaling{first_scale, second_scale, bias, second_step};
    const i64 e_shift = zero_point(e_zero), x_shift = zero_point(x_zero);
    const i64 columns = taps * channels, padded_columns = taps * padded_channels;
    Extremes unused;
    for_each(groups * filters * columns, [&](i64 i) {
        const i64 filter = i / columns, column = i - filter * columns, group = filter / filters;
        const i64 row = group * padded_filters + filter - group * filters;
        const i64 tap = column / channels, source_column = tap * padded_channels + column - tap * channels;
        i64 sum = sums[row * padded_columns + source_column];
        if (error_sums)
            sum += pixels * x_shift * e_shift - x_shift * error_sums[row] -
                   (e_shift - e_offset) * source_sums[group * padded_columns + source_column];
        finish(sum, i, column, (int)mode, y, scaling, Encoding(), unused);
    });
}
