// The weight gradient of an error that is a line of 8-bit codes with a pull at each chunk's extremes, from the exact
// sums over all outputs; qbench/kernels/line_gradient.py has the formula. A block works on one filter, a thread on four
// neighbouring channels of one of its taps.
#include "doubles.cuh"
#include "elements.cuh"

struct Extreme {
    i64 source;       // place in x of the pixel that the filter's first tap meets
    int row, column;  // of that pixel, which may be padding
    int sign;         // -1 of a maximum, 1 of a minimum
};

const int PART = 64;  // extremes that a block's threads prepare for each other at a time
static_assert(PART % UNROLLED == 0, "they are taken in groups");

const int ABOVE_ALL = (int)0x80000000u;  // a row that no tap brings into the image

// sums [groups * filters, taps, channels] of (x - x_zero) * e; met [groups, taps, met_channels] of the pixels of x that
// the taps meet, too large by pixels * x_zero. at [2, count / 2, groups * filters]: maxima, then minima. y is laid out
// as sums. blockIdx.x counts the blocks of a filter and, outside of those, filters.
extern "C" __global__ void finish_line_gradient(const i64* sums, const i64* met, i64 met_channels, i64 pixels,
                                                const u8* x, const float* x_zero, const float* x_scale,
                                                const float* slopes, const double* means, const float* pulls,
                                                const i64* at, i64 count, i64 height, i64 width, i64 channels,
                                                i64 height_out, i64 width_out, i64 filters, i64 groups, i64 taps_h,
                                                i64 taps_w, i64 stride_h, i64 stride_w, i64 padding_h, i64 padding_w,
                                                i64 dilation_h, i64 dilation_w, float* y) {
    __shared__ Extreme extremes[PART];
    const int quads = ((int)channels + 3) / 4, items = (int)(taps_h * taps_w) * quads;
    const int blocks = (items + (int)blockDim.x - 1) / (int)blockDim.x, filter = (int)blockIdx.x / blocks;
    const int item = ((int)blockIdx.x - filter * blocks) * (int)blockDim.x + (int)threadIdx.x;
    const int tap = item / quads, channel = (item - tap * quads) * 4;
    const int live = item < items ? smaller((int)channels - channel, 4) : 0;
    const int group = filter / (int)filters, down = tap / (int)taps_w * (int)dilation_h;
    const int across = tap % (int)taps_w * (int)dilation_w;
    const i64 all_filters = groups * filters, all_channels = groups * channels;
    const u8* const source = x + (down * width + across) * all_channels + group * channels + channel;

    auto prepared = [&](i64 j) {
        Extreme extreme{0, ABOVE_ALL, 0, 0};
        if (j >= count) return extreme;
        const i64 output = at[j * all_filters + filter] / all_filters;
        const i64 line = output / width_out, image = line / height_out;
        extreme.row = (int)((line - image * height_out) * stride_h - padding_h);
        extreme.column = (int)((output - line * width_out) * stride_w - padding_w);
        extreme.source = ((image * height + extreme.row) * width + extreme.column) * all_channels;
        extreme.sign = j < count / 2 ? -1 : 1;
        return extreme;
    };

    // Codes at the minima less those at the maxima, and how many more minima than maxima meet a pixel. 32 bits hold the
    // sums of 2^23 chunks; Range batch norm has a handful.
    i32 total[4] = {0, 0, 0, 0}, surplus = 0;
    for (i64 first = 0; first < count; first += PART) {
        __syncthreads();  // all are done with the part before
        for (int j = threadIdx.x; j < PART; j += blockDim.x) extremes[j] = prepared(first + j);
        __syncthreads();  // the part is there
        const int last = (int)smaller(count - first, (i64)PART);
        for (int j = 0; j < last; j += UNROLLED) {
            Quad<u8> codes[UNROLLED];
            int signs[UNROLLED];
#pragma unroll
            for (int u = 0; u < UNROLLED; ++u) {
                const Extreme& extreme = extremes[j + u];
                const u32 row = extreme.row + down, column = extreme.column + across;
                const bool inside = row < (u32)height && column < (u32)width;
                codes[u].load(source + extreme.source, 0, inside ? live : 0);  // 0 of padding
                signs[u] = extreme.sign;
                surplus += inside ? extreme.sign : 0;
            }
#pragma unroll
            for (int u = 0; u < UNROLLED; ++u)
#pragma unroll
                for (int i = 0; i < 4; ++i) total[i] += signs[u] * codes[u].element[i];
        }
    }

    const double slope = slopes[filter], mean = means[filter], pull = pulls[filter];
    const i64 x_shift = zero_point(x_zero);
    const i64 place = ((i64)filter * taps_h * taps_w + tap) * channels + channel;
    const i64* const windows = met + (group * taps_h * taps_w + tap) * met_channels + channel;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (i >= live) break;
        const double sum = (double)sums[place + i], window = (double)(windows[i] - pixels * x_shift);
        const double line = multiply(slope, subtract(sum, multiply(mean, window)));
        const double pulled = multiply(pull, (double)(total[i] - surplus * x_shift));
        y[place + i] = multiply((float)add(line, pulled), *x_scale);
    }
}
