// Max pooling of channels-last images, keeping which element of each window was the largest.
//
// Index is the type of element numbers: 32-bit divisions are several times cheaper where they suffice. A thread takes
// V neighbouring channels.
#include "columns.cuh"
#include "direct.cuh"

template <typename Index> struct Position {
    Index channel, column, row, image;

    // Of the i-th group of V channels in an image tensor of this height and width.
    DEVICE Position(Index i, Index groups, Index height, Index width, Index v) {
        const Index pixel = i / groups, line = pixel / width;
        channel = (i - pixel * groups) * v;
        column = pixel - line * width;
        image = line / height;
        row = line - image * height;
    }
};

// A window's geometry, as the launchers give it.
struct Pool {
    i64 channels, height, width, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w;
};

// load(first, channel, value) gives V neighbouring values.
template <typename Index, int V, typename Load>
DEVICE void pool_windows(const Pool& pool, i64 outputs, float* y, u8* window, Load load) {
    const Index channels = (Index)pool.channels, height = (Index)pool.height, width = (Index)pool.width;
    const Index kernel_h = (Index)pool.kernel_h, kernel_w = (Index)pool.kernel_w;
    for_each(outputs / V, [&](i64 group) {
        const Position<Index> at((Index)group, channels / V, (Index)pool.out_height, (Index)pool.out_width, V);
        const Index top = at.row * (Index)pool.stride_h - (Index)pool.padding_h;
        const Index left = at.column * (Index)pool.stride_w - (Index)pool.padding_w;
        const Index bottom = smaller(top + kernel_h, height), right = smaller(left + kernel_w, width);
        float best[V];
        int place[V];
#pragma unroll
        for (int j = 0; j < V; ++j) {
            best[j] = -infinity();
            place[j] = -1;
        }
        for (Index row = larger(top, Index(0)); row < bottom; ++row) {
            for (Index column = larger(left, Index(0)); column < right; ++column) {
                float value[V];
                load((((i64)at.image * height + row) * width + column) * channels + at.channel, at.channel, value);
                const int candidate = (int)((row - top) * kernel_w + column - left);
#pragma unroll
                for (int j = 0; j < V; ++j) {
                    if (place[j] < 0 || value[j] > best[j] || (is_nan(value[j]) && !is_nan(best[j]))) {
                        best[j] = value[j];
                        place[j] = candidate;
                    }
                }
            }
        }
        u8 places[V];
#pragma unroll
        for (int j = 0; j < V; ++j) places[j] = (u8)place[j];
        store_row(y, group * V, best);
        store_row(window, group * V, places);
    });
}

template <typename Index, int V>
__global__ void max_pool2d(const float* x, i64 outputs, i64 channels, i64 height, i64 width, i64 out_height,
                           i64 out_width, i64 kernel_h, i64 kernel_w, i64 stride_h, i64 stride_w, i64 padding_h,
                           i64 padding_w, float* y, u8* window) {
    const Pool pool{channels, height,   width,    out_height, out_width, kernel_h,
                    kernel_w, stride_h, stride_w, padding_h,  padding_w};
    pool_windows<Index, V>(pool, outputs, y, window,
                           [&](i64 first, i64, float(&value)[V]) { load_row(x, first, value); });
}

// The same of a view of codes. table: null to read codes as numbers.
template <typename Index, int V>
__global__ void max_pool2d_view(const u8* codes, const float* table, const float* slope, const float* offset, i64 relu,
                                i64 outputs, i64 channels, i64 height, i64 width, i64 out_height, i64 out_width,
                                i64 kernel_h, i64 kernel_w, i64 stride_h, i64 stride_w, i64 padding_h, i64 padding_w,
                                float* y, u8* window) {
    const Pool pool{channels, height,   width,    out_height, out_width, kernel_h,
                    kernel_w, stride_h, stride_w, padding_h,  padding_w};
    pool_windows<Index, V>(pool, outputs, y, window, [&](i64 first, i64 channel, float(&value)[V]) {
        u8 code[V];
        load_row(codes, first, code);
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const float line = linear_view(code_value(code[j], table), slope[channel + j], offset[channel + j]);
            value[j] = rectified(line, relu);
        }
    });
}

// The same of the view of a norm on direct grids.
template <typename Index, int V>
__global__ void max_pool2d_direct_view(const float* x, const float* mean, const float* inverse, float unit, float top,
                                       const float* slope, const float* offset, i64 relu, i64 outputs, i64 channels,
                                       i64 height, i64 width, i64 out_height, i64 out_width, i64 kernel_h, i64 kernel_w,
                                       i64 stride_h, i64 stride_w, i64 padding_h, i64 padding_w, float* y,
                                       u8* window) {
    const Pool pool{channels, height,   width,    out_height, out_width, kernel_h,
                    kernel_w, stride_h, stride_w, padding_h,  padding_w};
    pool_windows<Index, V>(pool, outputs, y, window, [&](i64 first, i64 channel, float(&value)[V]) {
        DirectChannels<V> at;
        load_row(mean, channel, at.mean);
        load_row(inverse, channel, at.inverse);
        load_row(slope, channel, at.slope);
        load_row(offset, channel, at.offset);
        at.unit = unit;
        at.top = top;
        load_row(x, first, value);
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const float normalised = at.of(value[j], j).value;
            value[j] = rectified(normalised, relu);
        }
    });
}

// One thread per V elements of the input: it adds the gradients of the windows that chose them, in the output's order.
template <typename Index, int V>
__global__ void max_pool2d_backward(const float* g, const u8* window, i64 inputs, i64 channels_, i64 height, i64 width,
                                    i64 out_height_, i64 out_width_, i64 kernel_h_, i64 kernel_w_, i64 stride_h_,
                                    i64 stride_w_, i64 padding_h, i64 padding_w, float* out_g) {
    const Index channels = (Index)channels_, out_height = (Index)out_height_, out_width = (Index)out_width_;
    const Index kernel_h = (Index)kernel_h_, kernel_w = (Index)kernel_w_;
    const Index stride_h = (Index)stride_h_, stride_w = (Index)stride_w_;
    for_each(inputs / V, [&](i64 group) {
        const Position<Index> at((Index)group, channels / V, (Index)height, (Index)width, V);
        const Index row = at.row + (Index)padding_h, column = at.column + (Index)padding_w;
        const Index top = row < kernel_h ? 0 : (row - kernel_h) / stride_h + 1;
        const Index left = column < kernel_w ? 0 : (column - kernel_w) / stride_w + 1;
        float sums[V];
#pragma unroll
        for (int j = 0; j < V; ++j) sums[j] = 0.0f;
        for (Index oh = top; oh < out_height && oh * stride_h <= row; ++oh) {
            for (Index ow = left; ow < out_width && ow * stride_w <= column; ++ow) {
                const i64 first = (((i64)at.image * out_height + oh) * out_width + ow) * channels + at.channel;
                const u8 place = (u8)((row - oh * stride_h) * kernel_w + column - ow * stride_w);
                float gradient[V];
                u8 chosen[V];
                load_row(g, first, gradient);
                load_row(window, first, chosen);
#pragma unroll
                for (int j = 0; j < V; ++j)
                    if (chosen[j] == place) sums[j] = add(sums[j], gradient[j]);
            }
        }
        store_row(out_g, group * V, sums);
    });
}
