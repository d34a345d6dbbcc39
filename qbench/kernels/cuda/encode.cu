// Float tensors to integer codes and back.
#include "elements.cuh"
#include "encoder.cuh"
#include "extremes.cuh"
#include "levels.cuh"
#include "scales.cuh"

extern "C" __global__ void reset_extremes(float* target) {
    if (threadIdx.x == 0) {
        target[0] = infinity();
        target[1] = -infinity();
    }
}

extern "C" __global__ void tensor_extremes(const float* x, i64 count, float* target) {
    Extremes extremes;
    auto load = [&](i64 first, auto live) { return Quad<float>::of(x, first, live); };
    for_each_quad(count, is_packed(x), load, [&](const Quad<float>& quad, i64, auto live) {
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (j < live) extremes.include(quad.element[j]);
    });
    extremes.publish(target);
}

extern "C" __global__ void prepare_affine(const float* low, const float* high, float top, i64 integer_zero_point,
                                          float* scale, float* zero) {
    if (threadIdx.x) return;
    const AffineParameters result = affine_parameters(*low, *high, top, integer_zero_point);
    *scale = result.scale;
    *zero = result.zero;
}

// The scale that the encoder divides by, and the scale that is reported, which a NaN element makes NaN. Two places,
// because an encoder that read a NaN left by another block would give other codes than one that did not.
extern "C" __global__ void prepare_scaled(const float* magnitude, i64 numbers, i64 kind, float divisor,
                                          float* scale, float* reported) {
    if (threadIdx.x) return;
    *scale = *reported = scale_of(magnitude, numbers, (int)kind, divisor);
}

// The unit of the coarse grid, and that of the fine one, which is reported.
extern "C" __global__ void prepare_flag(const float* magnitude, i64 numbers, float steps, float* unit,
                                        float* reported) {
    if (threadIdx.x) return;
    *reported = scale_of(magnitude, numbers, POWER, steps * steps);
    *unit = *reported * steps;
}

// codes = clip(round(x / scale + zero), low, high). reported: made NaN by a NaN element, unless null.
template <typename Code>
__global__ void encode(const float* x, i64 count, const float* range_low, const float* range_high,
                       i64 integer_zero_point, float* scale, float* zero, float* reported, float low, float high,
                       i64 rounding, i64 seed, i64 tensor, i64 step, const i32* elapsed, Code* codes) {
    const Range range{range_low, range_high, integer_zero_point, scale, zero};
    const Encoder<Code> encoder(range, low, high, rounding, seed, tensor, step, elapsed);
    bool has_nan = false;
    auto load = [&](i64 first, auto live) { return Quad<float>::of(x, first, live); };
    for_each_quad(count, are_packed(x, codes), load, [&](const Quad<float>& quad, i64 first, auto live) {
        Quad<Code> out;
#pragma unroll
        for (int j = 0; j < 4; ++j) has_nan = has_nan || is_nan(quad.element[j]);
        encoder.codes_of(quad.element, first, out.element);
        out.store(codes, first, live);
    });
    if (has_nan && reported) *reported = not_a_number();
}

// Codes with a scale for each channel, max|x| / top over its `length` elements; a block takes one channel.
template <typename Code>
__global__ void encode_channels(const float* x, i64 length, float top, i64 rounding, i64 seed, i64 tensor, i64 step,
                                const i32* elapsed, Code* codes, float* scales) {
    __shared__ u32 largest;  // magnitudes are in the order of their bits, NaN above all
    if (threadIdx.x == 0) largest = 0;
    __syncthreads();  // for every thread
    const i64 first = blockIdx.x * length;
    u32 mine = 0;
    for (i64 i = first + threadIdx.x; i < first + length; i += blockDim.x) mine = larger(mine, to_bits(fabsf(x[i])));
    atomicMax(&largest, mine);
    __syncthreads();  // of every thread
    const float scale = scale_of(from_bits(largest), LINEAR, top);
    const Encoder<Code> encoder(AffineParameters{scale, 0.0f}, -top, top, rounding, seed, tensor, step, elapsed);
    for (i64 i = first + threadIdx.x; i < first + length; i += blockDim.x) codes[i] = encoder.code_of(x[i], i);
    if (threadIdx.x == 0) scales[blockIdx.x] = scale;
}

extern "C" __global__ void encode_flag(const float* x, i64 count, const float* unit_, float* reported, float steps,
                                       i16* codes) {
    const float unit = *unit_;
    bool has_nan = false;
    auto load = [&](i64 first, auto live) { return Quad<float>::of(x, first, live); };
    for_each_quad(count, are_packed(x, codes), load, [&](const Quad<float>& quad, i64 first, auto live) {
        Quad<i16> out;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            has_nan = has_nan || is_nan(quad.element[j]);
            const float y = divide(quad.element[j], unit);
            const float coarse = multiply(clipped(rintf(y), 1.0f - steps, steps - 1.0f), steps);
            const float fine = rintf(multiply(y, steps));
            out.element[j] = (i16)(is_nan(y) ? 0.0f : fabsf(y) >= 1.0f ? coarse : fine);
        }
        out.store(codes, first, live);
    });
    if (has_nan) *reported = not_a_number();
}

extern "C" __global__ void encode_binary(const float* x, i64 count, const float* scale_, float* reported,
                                         i64 rounding, i64 seed, i64 tensor, i64 step, const i32* elapsed, i8* codes) {
    const Rounder rounder(rounding, seed, tensor, step, elapsed);
    const float scale = *scale_;
    bool has_nan = false;
    auto load = [&](i64 first, auto live) { return Quad<float>::of(x, first, live); };
    for_each_quad(count, are_packed(x, codes), load, [&](const Quad<float>& quad, i64 first, auto live) {
        Quad<i8> out;
        const Block words = rounder.words_of_quad(first);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const float value = quad.element[j];
            has_nan = has_nan || is_nan(value);
            const float probability = clipped(multiply(add(divide(value, scale), 1.0f), 0.5f), 0.0f, 1.0f);
            const bool is_positive =
                rounder.rounding == NEAREST ? value >= 0.0f : rounder.round(probability, words.word[j]) > 0.0f;
            out.element[j] = is_nan(value) || is_nan(scale) ? (i8)0 : is_positive ? (i8)1 : (i8)-1;
        }
        out.store(codes, first, live);
    });
    if (has_nan) *reported = not_a_number();
}

extern "C" __global__ void encode_levels(const float* x, i64 count, const float* thresholds, i64 num_thresholds,
                                         u8* codes) {
    __shared__ float shared[MOST_THRESHOLDS];
    const Thresholds cuts(thresholds, num_thresholds, shared);
    auto load = [&](i64 first, auto live) { return Quad<float>::of(x, first, live); };
    for_each_quad(count, are_packed(x, codes), load, [&](const Quad<float>& quad, i64 first, auto live) {
        Quad<u8> out;
#pragma unroll
        for (int j = 0; j < 4; ++j) out.element[j] = cuts.code_of(quad.element[j]);
        out.store(codes, first, live);
    });
}

extern "C" __global__ void look_up(const u8* codes, i64 count, const float* table, float* values) {
    auto load = [&](i64 first, auto live) { return Quad<u8>::of(codes, first, live); };
    for_each_quad(count, are_packed(codes, values), load, [&](const Quad<u8>& quad, i64 first, auto live) {
        Quad<float> out;
#pragma unroll
        for (int j = 0; j < 4; ++j) out.element[j] = j < live ? table[quad.element[j]] : 0.0f;
        out.store(values, first, live);
    });
}

template <typename Code>
__global__ void decode(const Code* codes, i64 count, const float* scale, const float* zero, float* values) {
    const float unit = *scale, shift = zero ? *zero : 0.0f;
    auto load = [&](i64 first, auto live) { return Quad<Code>::of(codes, first, live); };
    for_each_quad(count, are_packed(codes, values), load, [&](const Quad<Code>& quad, i64 first, auto live) {
        Quad<float> out;
#pragma unroll
        for (int j = 0; j < 4; ++j) out.element[j] = multiply(subtract((float)quad.element[j], shift), unit);
        out.store(values, first, live);
    });
}

// scales: one for every `length` elements.
template <typename Code>
__global__ void decode_channels(const Code* codes, i64 count, i64 length, const float* scales, float* values) {
    for_each(count, [&](i64 i) { values[i] = multiply((float)codes[i], scales[i / length]); });
}

extern "C" __global__ void random_words(i64 count, i64 rounding, i64 seed, i64 tensor, i64 step, const i32* elapsed,
                                        i64* words) {
    const Rounder rounder(rounding, seed, tensor, step, elapsed);
    for_each((count + 3) / 4, [&](i64 quad) {
        const Block block = rounder.words_of_quad(4 * quad);
        for (int j = 0; j < 4 && 4 * quad + j < count; ++j) words[4 * quad + j] = block.word[j];
    });
}
