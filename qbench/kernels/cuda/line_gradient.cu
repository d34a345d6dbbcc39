// The weight gradient of an error that is a line of 8-bit codes, but for a few replaced elements of each filter, from the
// exact sums over all outputs; qbench/kernels/line_gradient.py has the formula. A block works on one filter, a thread on
// four neighbouring channels of one of its taps.
#include "doubles.cuh"
#include "elements.cuh"

struct Replaced {
    i64 source;       // place in x of the pixel that the filter's first tap meets
    int row, column;  // of that pixel, which may be padding
    float delta;      // the element's value less the line's
};

const int PART = 64;  // replaced elements that a block's threads prepare for each other at a time
static_assert(PART % UNROLLED == 0, "they are taken in groups");

const int ABOVE_ALL = (int)0x80000000u;  // a row that no tap brings into the image

// sums [groups * filters, taps, channels] of (x - x_zero) * e; met [groups, taps, met_channels] of the pixels of x that
// the taps meet, too large by pixels * x_zero. at, values [count, groups * filters]. y is laid out as sums.
// blockIdx.x counts the blocks of a filter and, outside of those, filters.
extern "C" __global__ void finish_line_gradient(const i64* sums, const i64* met, i64 met_channels, i64 pixels,
                                                const u8* x, const float* x_zero, const float* x_scale, const u8* e,
                                                const float* slopes, const float* offsets, const i64* at,
                                                const float* values, i64 count, i64 height, i64 width, i64 channels,
                                                i64 height_out, i64 width_out, i64 filters, i64 groups, i64 taps_h,
                                                i64 taps_w, i64 stride_h, i64 stride_w, i64 padding_h, i64 padding_w,
                                                i64 dilation_h, i64 dilation_w, float* y) {
    __shared__ Replaced replaced[PART];
    const int quads = ((int)channels + 3) / 4, items = (int)(taps_h * taps_w) * quads;
    const int blocks = (items + (int)blockDim.x - 1) / (int)blockDim.x, filter = (int)blockIdx.x / blocks;
    const int item = ((int)blockIdx.x - filter * blocks) * (int)blockDim.x + (int)threadIdx.x;
    const int tap = item / quads, channel = (item - tap * quads) * 4;
    const int live = item < items ? smaller((int)channels - channel, 4) : 0;
    const int group = filter / (int)filters, down = tap / (int)taps_w * (int)dilation_h;
    const int across = tap % (int)taps_w * (int)dilation_w;
    const i64 all_filters = groups * filters, all_channels = groups * channels;
    const u8* const source = x + (down * width + across) * all_channels + group * channels + channel;
    const double slope = slopes[filter], offset = offsets[filter];
    const i64 x_shift = zero_point(x_zero);
    const float x_center = (float)x_shift;

    auto prepared = [&](i64 j) {
        Replaced element{0, ABOVE_ALL, 0, 0.0f};
        if (j >= count) return element;
        const i64 place = at[j * all_filters + filter], half = count / 2;
        if (j >= half && place == at[(j - half) * all_filters + filter]) return element;  // one element, in both halves
        const i64 output = place / all_filters, line = output / width_out, image = line / height_out;
        element.row = (int)((line - image * height_out) * stride_h - padding_h);
        element.column = (int)((output - line * width_out) * stride_w - padding_w);
        element.source = ((image * height + element.row) * width + element.column) * all_channels;
        const double of_line = add(multiply(slope, (double)e[place]), offset);
        element.delta = (float)subtract((double)values[j * all_filters + filter], of_line);
        return element;
    };

    float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (i64 first = 0; first < count; first += PART) {
        __syncthreads();  // all are done with the part before
        for (int j = threadIdx.x; j < PART; j += blockDim.x) replaced[j] = prepared(first + j);
        __syncthreads();  // the part is there
        const int last = (int)smaller(count - first, (i64)PART);
        for (int j = 0; j < last; j += UNROLLED) {
            Quad<u8> codes[UNROLLED];
            int wanted[UNROLLED];  // channels; none of padding
#pragma unroll
            for (int u = 0; u < UNROLLED; ++u) {
                const Replaced& element = replaced[j + u];
                const u32 row = element.row + down, column = element.column + across;
                wanted[u] = row < (u32)height && column < (u32)width ? live : 0;
                codes[u].load(source + element.source, 0, wanted[u]);
            }
#pragma unroll
            for (int u = 0; u < UNROLLED; ++u) {
                if (!wanted[u]) continue;
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const float code = subtract((float)codes[u].element[i], x_center);
                    total[i] = add(total[i], multiply(replaced[j + u].delta, code));
                }
            }
        }
    }

    const i64 place = ((i64)filter * taps_h * taps_w + tap) * channels + channel;
    const i64* const windows = met + (group * taps_h * taps_w + tap) * met_channels + channel;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (i >= live) break;
        const double window = (double)(windows[i] - pixels * x_shift);
        const double line = add(multiply(slope, (double)sums[place + i]), multiply(offset, window));
        y[place + i] = multiply(add((float)line, total[i]), *x_scale);
    }
}
