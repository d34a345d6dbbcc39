// Batch norm on direct grids and its gradient: passes over float32 rows that each normalise them anew.
#include "columns.cuh"
#include "direct.cuh"
#include "doubles.cuh"
#include "extremes.cuh"

// Of the four elements that start at `channel`.
template <typename Live>
DEVICE DirectChannels<4> channels_at(const float* mean, const float* inverse, float unit, float top, const float* slope,
                                     const float* offset, u32 channel, u32 channels, Live live) {
    DirectChannels<4> at;
    load_channels(mean, channel, channels, live, at.mean);
    load_channels(inverse, channel, channels, live, at.inverse);
    load_channels(slope, channel, channels, live, at.slope);
    load_channels(offset, channel, channels, live, at.offset);
    at.unit = unit;
    at.top = top;
    return at;
}

// grids are three pairs: steps per unit and largest code of the mean, of the deviation, of weight and bias.
extern "C" __global__ void direct_line(i64 channels, const double* mean, const double* variance, const float* weight,
                                       const float* bias, float mean_steps, float mean_top, float deviation_steps,
                                       float deviation_top, float affine_steps, float affine_top, float unit, float eps,
                                       float* used, float* inverse, float* slope, float* offset, float* rounded_weight,
                                       float* over_deviation, float* shift) {
    for_each(channels, [&](i64 c) {
        const float exact = (float)mean[c], deviation = (float)__dsqrt_rn(variance[c]);
        used[c] = divide(on_grid(exact, mean_steps, mean_top), mean_steps);
        const float scale = divide(on_grid(deviation, deviation_steps, deviation_top), deviation_steps);
        inverse[c] = divide(1.0f, add(scale, eps));
        rounded_weight[c] = divide(on_grid(weight[c], affine_steps, affine_top), affine_steps);
        slope[c] = divide(rounded_weight[c], unit);
        offset[c] = divide(on_grid(bias[c], affine_steps, affine_top), affine_steps);
        over_deviation[c] = deviation > 0.0f ? divide(1.0f, deviation) : 0.0f;
        shift[c] = subtract(exact, used[c]);
    });
}

// sums [3, channels]: of m, m * t and m * z.
extern "C" __global__ void direct_gradient_line(i64 channels, const double* sums, i64 rows, double unit,
                                                const float* inverse, const float* weight, const float* over_deviation,
                                                const float* shift, float* grad_weight, float* grad_bias, float* a,
                                                float* b, float* c) {
    for_each(channels, [&](i64 p) {
        const double count = (double)rows, scale = weight[p], slope = multiply(scale, (double)inverse[p]);
        const double pull = multiply(divide(sums[2 * channels + p], count), (double)over_deviation[p]);
        const double constant = subtract(multiply((double)shift[p], pull), divide(sums[p], count));
        grad_weight[p] = (float)divide(sums[channels + p], unit);
        grad_bias[p] = (float)sums[p];
        a[p] = (float)slope;
        b[p] = (float)multiply(slope, constant);
        c[p] = (float)-multiply(scale, pull);
    });
}

// relu(value + trunk) and the bits [value > 0]: two lanes make a byte.
extern "C" __global__ void direct_view(const float* x, i64 count, i64 channels, const float* mean, const float* inverse,
                                       float unit, float top, const float* slope, const float* offset, i64 relu,
                                       const float* trunk, float* values, u8* mask) {
    struct Item {
        Quad<float> x, trunk;
    };
    auto load = [&](i64 first, auto live) {
        return Item{Quad<float>::of(x, first, live), Quad<float>::of_any(trunk, first, live)};
    };
    const bool are_whole = are_packed(x, trunk, values) && have_packed_channels(channels, mean, inverse, slope, offset);
    for_each_quad_of_rows(count, channels, are_whole, load, [&](const Item& item, i64 first, auto live, u32 channel) {
        const auto at = channels_at(mean, inverse, unit, top, slope, offset, channel, (u32)channels, live);
        Quad<float> out;
        u32 bits = 0;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            float value = at.of(item.x.element[j], j).value;
            if (trunk) value = add(value, item.trunk.element[j]);
            out.element[j] = rectified(value, relu);
            bits |= (u32)(j < live && value > 0.0f) << j;
        }
        out.store(values, first, live);
        const u32 next = __shfl_xor_sync(ALL_LANES, bits, 1);
        if (relu && live && threadIdx.x % 2 == 0) mask[first >> 3] = (u8)(bits | next << 4);
    });
}

// codes = clip(round(relu(value) / scale), low, high). reported: made NaN by a NaN value.
template <typename Code>
__global__ void encode_direct_view(const float* x, i64 count, i64 channels, const float* mean, const float* inverse,
                                   float unit, float top, const float* slope, const float* offset, i64 relu,
                                   float scale, float low, float high, float* reported, Code* codes) {
    bool has_nan = false;
    auto load = [&](i64 first, auto live) { return Quad<float>::of(x, first, live); };
    const bool are_whole = are_packed(x, codes) && have_packed_channels(channels, mean, inverse, slope, offset);
    for_each_quad_of_rows(count, channels, are_whole, load, [&](const Quad<float>& quad, i64 first, auto live, u32 channel) {
        const auto at = channels_at(mean, inverse, unit, top, slope, offset, channel, (u32)channels, live);
        Quad<Code> out;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const float value = rectified(at.of(quad.element[j], j).value, relu);
            has_nan = has_nan || (j < live && is_nan(value));
            out.element[j] = (Code)clipped(rintf(divide(value, scale)), low, high);
        }
        out.store(codes, first, live);
    });
    if (has_nan) *reported = not_a_number();
}

// The gradient itself, or codes times their scale; scale: null for floats.
template <typename G> DEVICE float gradient_of(G g, const float* scale) {
    return scale ? multiply((float)g, *scale) : (float)g;
}

struct DirectSums {
    double gradient, on_grid, normalised;

    DEVICE void clear() { gradient = on_grid = normalised = 0.0; }
    DEVICE void merge(const DirectSums& other) {
        gradient += other.gradient;
        on_grid += other.on_grid;
        normalised += other.normalised;
    }
};

template <int V, typename G>
__global__ void partial_direct_gradient_sums(const G* g, const float* scale, const float* x, i64 rows, i64 channels,
                                             const float* mean, const float* inverse, float unit, float top,
                                             const float* slope, const float* offset, i64 relu, DirectSums* partials) {
    const ColumnTile<V> tile(channels);
    DirectChannels<V> at;
    at.unit = unit;
    at.top = top;
    if (tile.is_active) {
        load_row(mean, tile.channel(), at.mean);
        load_row(inverse, tile.channel(), at.inverse);
        load_row(slope, tile.channel(), at.slope);
        load_row(offset, tile.channel(), at.offset);
    }
    struct Item {
        Cells<V, G> gradient;
        Cells<V, float> x;
    };
    auto load = [&](i64 row) {
        const i64 first = row * channels + tile.channel();
        return Item{Cells<V, G>::of(g, first), Cells<V, float>::of(x, first)};
    };
    double gradients[V] = {}, on_grid[V] = {}, normalised[V] = {};
    auto use = [&](const Item& item, i64) {
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const Direct direct = at.of(item.x.element[j], j);
            const double m = masked(gradient_of(item.gradient.element[j], scale), direct.value, relu);
            gradients[j] += m;
            on_grid[j] += m * direct.t;
            normalised[j] += m * direct.z;
        }
    };
    auto partial = [&](int j) { return DirectSums{gradients[j], on_grid[j], normalised[j]}; };
    auto publish = [&](i64 channel, const DirectSums& result) { partials[blockIdx.x * channels + channel] = result; };
    reduce_columns<V, DirectSums>(tile, RowRange(0, rows, blockIdx.x, gridDim.x), load, use, partial, publish);
}

// One block per channel; sums [3, channels].
extern "C" __global__ void finish_direct_gradient_sums(const DirectSums* partials, i64 parts, i64 channels,
                                                       double* sums) {
    const i64 channel = blockIdx.x;
    const DirectSums result = merged_parts(partials, parts, channels, channel);
    if (threadIdx.x) return;
    sums[channel] = result.gradient;
    sums[channels + channel] = result.on_grid;
    sums[2 * channels + channel] = result.normalised;
}

// (a * m + b) + c * z with the masked gradient m, and its extremes.
template <typename G>
__global__ void direct_gradient(const G* g, const float* scale, const float* x, i64 count, i64 channels,
                                const float* mean, const float* inverse, float unit, float top, const float* slope,
                                const float* offset, i64 relu, const float* a, const float* b, const float* c,
                                float* out_g, float* target) {
    Extremes extremes;
    struct Item {
        Quad<G> gradient;
        Quad<float> x;
    };
    auto load = [&](i64 first, auto live) {
        return Item{Quad<G>::of(g, first, live), Quad<float>::of(x, first, live)};
    };
    const bool are_whole = are_packed(g, x, out_g) && have_packed_channels(channels, mean, inverse, slope, offset, a, b, c);
    for_each_quad_of_rows(count, channels, are_whole, load, [&](const Item& item, i64 first, auto live, u32 channel) {
        const auto at = channels_at(mean, inverse, unit, top, slope, offset, channel, (u32)channels, live);
        float as[4], bs[4], cs[4];
        load_channels(a, channel, (u32)channels, live, as);
        load_channels(b, channel, (u32)channels, live, bs);
        load_channels(c, channel, (u32)channels, live, cs);
        Quad<float> out;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const Direct direct = at.of(item.x.element[j], j);
            const float m = masked(gradient_of(item.gradient.element[j], scale), direct.value, relu);
            out.element[j] = add(add(multiply(as[j], m), bs[j]), multiply(cs[j], direct.z));
            if (j < live) extremes.include(out.element[j]);
        }
        out.store(out_g, first, live);
    });
    extremes.publish(target);
}
