// Passes over codes of a channels-last tensor, seen through a view.
#include "columns.cuh"
#include "encoder.cuh"
#include "extremes.cuh"
#include "view.cuh"

// One bit per element of the tensor, set for the listed ones.
extern "C" __global__ void mark_elements(const i64* at, i64 points, u32* bits) {
    for_each(points, [&](i64 p) { atomicOr(bits + (at[p] >> 5), 1u << (at[p] & 31)); });
}

// marked: bits of elements to pass over, or null. Elements first .. first + 3 share a word of it.
extern "C" __global__ void view_extremes(const u8* codes, i64 count, i64 channels, const float* slope,
                                         const float* offset, i64 relu, const u32* marked, float* target) {
    Extremes extremes;
    struct Item {
        Quad<u8> quad;
        u32 skipped;
    };
    auto load = [&](i64 first, auto live) {
        return Item{Quad<u8>::of(codes, first, live), marked && live ? marked[first >> 5] >> (first & 31) : 0};
    };
    const bool are_whole = is_packed(codes) && have_packed_channels(channels, slope, offset);
    for_each_quad_of_rows(count, channels, are_whole, load, [&](const Item& item, i64, auto live, u32 channel) {
        const ChannelPair pair(slope, offset, channel, (u32)channels, live);
        float values[4];
#pragma unroll
        for (int j = 0; j < 4; ++j)
            values[j] = rectified(linear_view(item.quad.element[j], pair.slope[j], pair.offset[j]), relu);
        if (live == 4 && !(item.skipped & 15)) {  // as nearly all are
#pragma unroll
            for (int j = 0; j < 4; ++j) extremes.include(values[j]);
        } else {
#pragma unroll
            for (int j = 0; j < 4; ++j)
                if (j < live && !(item.skipped >> j & 1)) extremes.include(values[j]);
        }
    });
    extremes.publish(target);
}

template <typename Code>
__global__ void encode_view(const u8* codes, i64 count, i64 channels, const float* slope, const float* offset, i64 relu,
                            const float* range_low, const float* range_high, i64 integer_zero_point, float* scale,
                            float* zero, float* reported, float low, float high, i64 rounding, i64 seed, i64 tensor,
                            i64 step, const i32* elapsed, Code* out_codes) {
    const Range range{range_low, range_high, integer_zero_point, scale, zero};
    const Encoder<Code> encoder(range, low, high, rounding, seed, tensor, step, elapsed);
    bool has_nan = false;
    auto load = [&](i64 first, auto live) { return Quad<u8>::of(codes, first, live); };
    const bool are_whole = are_packed(codes, out_codes) && have_packed_channels(channels, slope, offset);
    for_each_quad_of_rows(count, channels, are_whole, load, [&](const Quad<u8>& quad, i64 first, auto live, u32 channel) {
        Quad<Code> out;
        const ChannelPair pair(slope, offset, channel, (u32)channels, live);
        float values[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            values[j] = rectified(linear_view(quad.element[j], pair.slope[j], pair.offset[j]), relu);
            has_nan = has_nan || (j < live && is_nan(values[j]));
        }
        encoder.codes_of(values, first, out.element);
        out.store(out_codes, first, live);
    });
    if (has_nan && reported) *reported = not_a_number();
}

// Codes of single elements whose value is given, over what encode_view wrote there.
template <typename Code>
__global__ void encode_elements(const i64* at, const float* values, i64 points, float* scale, float* zero,
                                float* reported, float low, float high, i64 rounding, i64 seed, i64 tensor, i64 step,
                                const i32* elapsed, Code* out_codes) {
    const Range known{nullptr, nullptr, 0, scale, zero};
    const Encoder<Code> encoder(known, low, high, rounding, seed, tensor, step, elapsed);
    for_each(points, [&](i64 p) {
        out_codes[at[p]] = encoder.code_of(values[p], at[p]);
        if (is_nan(values[p]) && reported) *reported = not_a_number();
    });
}

// value = relu(view + trunk), its extremes, and the bits [value > 0]: two lanes make a byte.
extern "C" __global__ void finished_view(const u8* codes, i64 count, i64 channels, const float* table,
                                         const float* slope, const float* offset, i64 relu, const float* trunk,
                                         float* values, float* target, u8* mask) {
    Extremes extremes;
    struct Item {
        Quad<u8> code;
        Quad<float> trunk;
    };
    auto load = [&](i64 first, auto live) {
        return Item{Quad<u8>::of(codes, first, live), Quad<float>::of_any(trunk, first, live)};
    };
    const bool are_whole = are_packed(codes, trunk, values) && have_packed_channels(channels, slope, offset);
    for_each_quad_of_rows(count, channels, are_whole, load, [&](const Item& item, i64 first, auto live, u32 channel) {
        const ChannelPair pair(slope, offset, channel, (u32)channels, live);
        Quad<float> out;
        u32 bits = 0;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            float value = linear_view(code_value(item.code.element[j], table), pair.slope[j], pair.offset[j]);
            if (trunk) value = add(value, item.trunk.element[j]);
            value = rectified(value, relu);
            out.element[j] = value;
            if (j < live) {
                extremes.include(value);
                bits |= (u32)(value > 0.0f) << j;
            }
        }
        out.store(values, first, live);
        const u32 next = __shfl_xor_sync(ALL_LANES, bits, 1);
        if (relu && live && threadIdx.x % 2 == 0) mask[first >> 3] = (u8)(bits | next << 4);
    });
    extremes.publish(target);
}

extern "C" __global__ void apply_mask(const float* g, const u8* mask, i64 count, float* out_g, float* target) {
    Extremes extremes;
    struct Item {
        Quad<float> gradient;
        u32 bits;
    };
    auto load = [&](i64 first, auto live) {
        return Item{Quad<float>::of(g, first, live), live ? (u32)mask[first >> 3] >> (first & 7) : 0};
    };
    for_each_quad(count, are_packed(g, out_g), load, [&](Item& item, i64 first, auto live) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            if (!(item.bits >> j & 1)) item.gradient.element[j] = 0.0f;
            if (j < live) extremes.include(item.gradient.element[j]);
        }
        item.gradient.store(out_g, first, live);
    });
    extremes.publish(target);
}

// max(x + trunk, 0), its extremes, and the bits of what is not 0: two lanes make a byte. trunk may be null.
extern "C" __global__ void rectify(const float* x, i64 count, const float* trunk, float* values, u8* mask,
                                   float* target) {
    Extremes extremes;
    struct Item {
        Quad<float> value, shortcut;
    };
    auto load = [&](i64 first, auto live) {
        return Item{Quad<float>::of(x, first, live), Quad<float>::of_any(trunk, first, live)};
    };
    for_each_quad(count, are_packed(x, trunk, values), load, [&](Item& item, i64 first, auto live) {
        u32 bits = 0;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            float& value = item.value.element[j];
            if (trunk) value = add(value, item.shortcut.element[j]);
            value = rectified(value, true);
            if (j < live) {
                extremes.include(value);
                bits |= (u32)(value != 0.0f) << j;
            }
        }
        item.value.store(values, first, live);
        const u32 above = __shfl_xor_sync(ALL_LANES, bits, 1);
        if (threadIdx.x % 2 == 0 && live) mask[first >> 3] = (u8)(bits | above << 4);
    });
    extremes.publish(target);
}

// g + scale * code where the mask is set, else 0; g and mask may be null.
template <typename Code>
__global__ void join_gradients(const Code* codes, i64 count, const float* scale, const float* g, const u8* mask,
                               float* out) {
    struct Item {
        Quad<Code> codes;
        Quad<float> gradient;
        u32 bits;
    };
    auto load = [&](i64 first, auto live) {
        const u32 bits = mask && live ? (u32)mask[first >> 3] >> (first & 7) : ~0u;
        return Item{Quad<Code>::of(codes, first, live), Quad<float>::of_any(g, first, live), bits};
    };
    for_each_quad(count, are_packed(codes, g, out), load, [&](const Item& item, i64 first, auto live) {
        Quad<float> sum;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            float value = multiply((float)item.codes.element[j], *scale);
            if (g) value = add(item.gradient.element[j], value);
            sum.element[j] = item.bits >> j & 1 ? value : 0.0f;
        }
        sum.store(out, first, live);
    });
}

extern "C" __global__ void view_gradient_extremes(const float* g, const u8* codes, i64 count, i64 channels,
                                                  const float* slope, const float* offset, i64 relu, float* target) {
    Extremes extremes;
    auto load = [&](i64 first, auto live) { return GradientItem::of(g, codes, first, live); };
    const bool are_whole = are_packed(g, codes) && have_packed_channels(channels, slope, offset);
    for_each_quad_of_rows(count, channels, are_whole, load, [&](const GradientItem& item, i64, auto live, u32 channel) {
        const ChannelPair pair(slope, offset, channel, (u32)channels, live);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const float value = linear_view(item.code.element[j], pair.slope[j], pair.offset[j]);
            if (j < live) extremes.include(masked(item.gradient.element[j], value, relu));
        }
    });
    extremes.publish(target);
}

struct CodeSums {
    i64 codes, products;

    DEVICE void merge(const CodeSums& other) {
        codes += other.codes;
        products += other.products;
    }
};

// Codes e of the masked gradient, over the codes, and sums [2, channels] of e and e * code, added in integers: any order
// is exact.
template <int V>
__global__ void __launch_bounds__(COLUMN_THREADS, COLUMN_BLOCKS)
    encode_view_gradient(const float* g, u8* codes, i64 rows, i64 channels, const float* slope, const float* offset,
                         i64 relu, float* scale, float* zero, float high, i64 rounding, i64 seed, i64 tensor,
                         i64 step, const i32* elapsed, i64* sums) {
    const Range known{nullptr, nullptr, 0, scale, zero};  // no register is left to compute them with
    const Encoder<u8> encoder(known, 0.0f, high, rounding, seed, tensor, step, elapsed);
    const ColumnTile<V> tile(channels);
    u32 code_sums[V] = {}, product_sums[V] = {};  // a thread has 2^16 rows at most
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
    auto use = [&](const Item& item, i64 row) {
        const i64 first = row * channels + tile.channel();
        float values[V];
        u8 out[V];
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const float value = linear_view(item.code.element[j], slopes[j], offsets[j]);
            values[j] = masked(item.gradient.element[j], value, relu);
        }
        encoder.codes_of(values, first, out);
#pragma unroll
        for (int j = 0; j < V; ++j) {
            code_sums[j] += out[j];
            product_sums[j] += (u32)out[j] * item.code.element[j];
        }
        store_row(codes, first, out);
    };
    auto partial = [&](int j) { return CodeSums{code_sums[j], product_sums[j]}; };
    auto publish = [&](i64 channel, const CodeSums& result) {
        atomicAdd((u64*)sums + channel, (u64)result.codes);
        atomicAdd((u64*)sums + channels + channel, (u64)result.products);
    };
    reduce_columns<V, CodeSums, 2>(tile, RowRange(0, rows, blockIdx.x, gridDim.x), load, use, partial, publish);
}

// Sum, and the lowest and highest code with the row that first attains it, as keys that a minimum chooses by.
struct CodeStatistics {
    i64 sum;
    u64 low, high;

    DEVICE void merge(const CodeStatistics& other) {
        sum += other.sum;
        low = smaller(low, other.low);
        high = smaller(high, other.high);
    }
};

const int ROW_BITS = 48, OWN_ROW_BITS = 16;

// sums [channels]; keys [2, chunks, channels]: (code, row) for the lowest, (255 - code, row) for the highest.
template <int V>
__global__ void __launch_bounds__(COLUMN_THREADS, COLUMN_BLOCKS)
    chunk_statistics(const u8* codes, i64 rows_per_chunk, i64 channels, i64* sums, u64* keys) {
    const ColumnTile<V> tile(channels);
    const i64 chunk = blockIdx.z, start = chunk * rows_per_chunk, chunks = gridDim.z;
    auto load = [&](i64 row) { return Cells<V, u8>::of(codes, row * channels + tile.channel()); };
    // A thread's own keys, short ones: it has 2^OWN_ROW_BITS rows at most, and numbers them. Where it has none, they are
    // those of a code above all.
    u32 sums_of[V] = {}, low[V], high[V], number = 0;
#pragma unroll
    for (int j = 0; j < V; ++j) low[j] = high[j] = ~0u;
    auto use = [&](const Cells<V, u8>& item, i64) {
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const u32 code = item.element[j], key = code << OWN_ROW_BITS | number;
            sums_of[j] += code;
            low[j] = smaller(low[j], key);
            high[j] = smaller(high[j], key ^ 255u << OWN_ROW_BITS);
        }
        ++number;
    };
    const RowRange rows(start, start + rows_per_chunk, blockIdx.x, gridDim.x);
    auto with_row = [&](u32 key) {
        const i64 row = rows.begin + tile.lane_row + (key & ((1u << OWN_ROW_BITS) - 1)) * tile.row_step;
        return (u64)(key >> OWN_ROW_BITS) << ROW_BITS | (u64)row;
    };
    auto partial = [&](int j) { return CodeStatistics{sums_of[j], with_row(low[j]), with_row(high[j])}; };
    auto publish = [&](i64 channel, const CodeStatistics& result) {
        atomicAdd((u64*)sums + channel, (u64)result.sum);
        atomicMin(keys + chunk * channels + channel, result.low);
        atomicMin(keys + (chunks + chunk) * channels + channel, result.high);
    };
    reduce_columns<V, CodeStatistics>(tile, rows, load, use, partial, publish);
}

// Keys [2, count] taken apart again.
extern "C" __global__ void unpack_chunk_keys(const u64* keys, i64 count, u8* lows, u8* highs, i64* low_at,
                                             i64* high_at) {
    const u64 row_mask = ((u64)1 << ROW_BITS) - 1;
    for_each(count, [&](i64 i) {
        lows[i] = (u8)(keys[i] >> ROW_BITS);
        highs[i] = (u8)(255 - (keys[count + i] >> ROW_BITS));
        low_at[i] = (i64)(keys[i] & row_mask);
        high_at[i] = (i64)(keys[count + i] & row_mask);
    });
}
