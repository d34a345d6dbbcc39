// Passes over float32 channels-last rows, and over the codes of a grid of levels.
#include "columns.cuh"
#include "doubles.cuh"
#include "levels.cuh"
#include "view.cuh"

// NaN stays once it is there.
DEVICE float lower(float a, float b) { return b < a || is_nan(b) ? b : a; }
DEVICE float higher(float a, float b) { return b > a || is_nan(b) ? b : a; }

// Count, sum and squared deviations from the own mean, merged by the pairwise update of Chan, Golub and LeVeque (1979):
// a difference of two large sums of squares would lose the variance.
struct Moments {
    double count, sum, deviations;
    float low, high;

    DEVICE void clear() {
        count = sum = deviations = 0.0;
        low = infinity();
        high = -infinity();
    }
    DEVICE void merge(const Moments& other) {
        if (other.count == 0.0) return;
        const double difference = count > 0.0 ? other.sum / other.count - sum / count : 0.0;
        deviations += other.deviations + difference * difference * (count * other.count / (count + other.count));
        count += other.count;
        sum += other.sum;
        low = lower(low, other.low);
        high = higher(high, other.high);
    }
};

// partials [gridDim.x, channels]: the moments of each part of the rows.
template <int V>
__global__ void __launch_bounds__(COLUMN_THREADS, COLUMN_BLOCKS)
    partial_moments(const float* x, i64 rows, i64 channels, Moments* partials) {
    const ColumnTile<V> tile(channels);
    const RowRange range(0, rows, blockIdx.x, gridDim.x);
    // Of deviations from the thread's first value, which is near the mean compared with 0.
    float shift[V] = {}, low[V], high[V];
    double sums[V] = {}, squares[V] = {};
    int count = 0;
#pragma unroll
    for (int j = 0; j < V; ++j) {
        low[j] = infinity();
        high[j] = -infinity();
    }
    const i64 first_row = range.begin + tile.lane_row;
    if (tile.is_active && first_row < range.end) {
        float value[V];
        load_row(x, first_row * channels + tile.channel(), value);
#pragma unroll
        for (int j = 0; j < V; ++j) shift[j] = is_finite(value[j]) ? value[j] : 0.0f;
    }
    auto load = [&](i64 row) { return Cells<V, float>::of(x, row * channels + tile.channel()); };
    auto use = [&](const Cells<V, float>& item, i64) {
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const double shifted = (double)item.element[j] - shift[j];
            sums[j] += shifted;
            squares[j] += shifted * shifted;
            low[j] = lower(low[j], item.element[j]);
            high[j] = higher(high[j], item.element[j]);
        }
        ++count;
    };
    auto partial = [&](int j) {
        const double deviations = count ? squares[j] - sums[j] * sums[j] / count : 0.0;
        return Moments{(double)count, sums[j] + (double)count * shift[j], deviations, low[j], high[j]};
    };
    auto publish = [&](i64 channel, const Moments& result) { partials[blockIdx.x * channels + channel] = result; };
    reduce_columns<V, Moments, 2>(tile, range, load, use, partial, publish);
}

// One block per channel.
extern "C" __global__ void finish_moments(const Moments* partials, i64 parts, i64 channels, double* mean,
                                          double* variance, float* lows, float* highs) {
    const i64 channel = blockIdx.x;
    const Moments result = merged_parts(partials, parts, channels, channel);
    if (threadIdx.x) return;
    mean[channel] = result.sum / result.count;
    variance[channel] = result.deviations / result.count;
    lows[channel] = result.low;
    highs[channel] = result.high;
}

// correction: from the biased to the unbiased variance. All others [channels].
extern "C" __global__ void level_line(i64 channels, const double* mean, const double* variance, const float* weight,
                                      const float* bias, double correction, double eps, float* used, float* inverse,
                                      float* slope, float* offset, float* unbiased) {
    for_each(channels, [&](i64 c) {
        used[c] = (float)mean[c];
        inverse[c] = (float)divide(1.0, __dsqrt_rn(add(variance[c], eps)));
        slope[c] = weight[c];
        offset[c] = add(bias[c], multiply(0.0f, inverse[c]));
        unbiased[c] = (float)multiply(variance[c], correction);
    });
}

// sums [2, channels], of level_gradient_sums.
extern "C" __global__ void level_gradient_line(i64 channels, const double* sums, i64 rows, const float* inverse,
                                               const float* weight, float* grad_weight, float* grad_bias, float* a,
                                               float* b, float* c) {
    for_each(channels, [&](i64 p) {
        const double count = (double)rows, slope = multiply((double)weight[p], (double)inverse[p]);
        grad_weight[p] = (float)sums[channels + p];
        grad_bias[p] = (float)sums[p];
        a[p] = (float)slope;
        b[p] = (float)divide(-multiply(slope, sums[p]), count);
        c[p] = (float)divide(-multiply(slope, sums[channels + p]), count);
    });
}

template <typename T>
__global__ void move_average(float* average, i64 count, const T* values, float weight, float rest, i64 from_average) {
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x) {
        const float value = (float)values[i], step = subtract(value, average[i]);
        average[i] = from_average ? add(average[i], multiply(weight, step)) : subtract(value, multiply(rest, step));
    }
}

extern "C" __global__ void encode_normalised_levels(const float* x, i64 count, i64 channels, const float* mean,
                                                    const float* inverse, const float* thresholds, i64 num_thresholds,
                                                    u8* codes) {
    __shared__ float shared[MOST_THRESHOLDS];
    const Thresholds cuts(thresholds, num_thresholds, shared);
    auto load = [&](i64 first, auto live) { return Quad<float>::of(x, first, live); };
    const bool are_whole = are_packed(x, codes) && have_packed_channels(channels, mean, inverse);
    for_each_quad_of_rows(count, channels, are_whole, load, [&](const Quad<float>& quad, i64 first, auto live, u32 channel) {
        Quad<u8> out;
        float means[4], inverses[4];
        load_channels(mean, channel, (u32)channels, live, means);
        load_channels(inverse, channel, (u32)channels, live, inverses);
#pragma unroll
        for (int j = 0; j < 4; ++j)
            out.element[j] = cuts.code_of(multiply(subtract(quad.element[j], means[j]), inverses[j]));
        out.store(codes, first, live);
    });
}

struct GradientSums {
    double gradient, product;

    DEVICE void clear() { gradient = product = 0.0; }
    DEVICE void merge(const GradientSums& other) {
        gradient += other.gradient;
        product += other.product;
    }
};

template <int V>
__global__ void __launch_bounds__(COLUMN_THREADS, COLUMN_BLOCKS)
    partial_level_gradient_sums(const float* g, const u8* codes, i64 rows, i64 channels, const float* table,
                                const float* slope, const float* offset, i64 relu, GradientSums* partials) {
    const ColumnTile<V> tile(channels);
    float slopes[V], offsets[V];
    if (tile.is_active) {
        load_row(slope, tile.channel(), slopes);
        load_row(offset, tile.channel(), offsets);
    }
    struct Item {
        Cells<V, float> gradient;
        Cells<V, u8> code;
    };
    auto load = [&](i64 row) {
        const i64 first = row * channels + tile.channel();
        return Item{Cells<V, float>::of(g, first), Cells<V, u8>::of(codes, first)};
    };
    double gradients[V] = {}, products[V] = {};
    auto use = [&](const Item& item, i64) {
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const float level = table[item.code.element[j]];
            const double m = masked(item.gradient.element[j], linear_view(level, slopes[j], offsets[j]), relu);
            gradients[j] += m;
            products[j] += m * level;
        }
    };
    auto partial = [&](int j) { return GradientSums{gradients[j], products[j]}; };
    auto publish = [&](i64 channel, const GradientSums& result) {
        partials[blockIdx.x * channels + channel] = result;
    };
    reduce_columns<V, GradientSums, 2>(tile, RowRange(0, rows, blockIdx.x, gridDim.x), load, use, partial, publish);
}

// One block per channel; sums [2, channels].
extern "C" __global__ void finish_level_gradient_sums(const GradientSums* partials, i64 parts, i64 channels,
                                                      double* sums) {
    const i64 channel = blockIdx.x;
    const GradientSums result = merged_parts(partials, parts, channels, channel);
    if (threadIdx.x) return;
    sums[channel] = result.gradient;
    sums[channels + channel] = result.product;
}

// (a * m + b) + c * level with the masked gradient m.
extern "C" __global__ void level_gradient(const float* g, const u8* codes, i64 count, i64 channels, const float* table,
                                          const float* slope, const float* offset, i64 relu, const float* a,
                                          const float* b, const float* c, float* out_g) {
    auto load = [&](i64 first, auto live) { return GradientItem::of(g, codes, first, live); };
    const bool are_whole = are_packed(g, codes, out_g) && have_packed_channels(channels, slope, offset, a, b, c);
    for_each_quad_of_rows(count, channels, are_whole, load, [&](GradientItem& item, i64 first, auto live, u32 channel) {
        const ChannelPair pair(slope, offset, channel, (u32)channels, live);
        float as[4], bs[4], cs[4];
        load_channels(a, channel, (u32)channels, live, as);
        load_channels(b, channel, (u32)channels, live, bs);
        load_channels(c, channel, (u32)channels, live, cs);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const float level = j < live ? table[item.code.element[j]] : 0.0f;
            const float m = masked(item.gradient.element[j], linear_view(level, pair.slope[j], pair.offset[j]), relu);
            item.gradient.element[j] = add(add(multiply(as[j], m), bs[j]), multiply(cs[j], level));
        }
        item.gradient.store(out_g, first, live);
    });
}
