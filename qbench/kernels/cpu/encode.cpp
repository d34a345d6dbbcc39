// From float32 to integer codes and back: what qbench/kernels/cpu/encode.py calls. The formulas and their edge cases
// are documented in qbench/kernels/encoding.py.
#include "encode.h"

namespace qbench {

float usable(float scale) {
    if (!std::isfinite(scale)) return NAN;
    return std::fabs(scale) < 1.17549435e-38f ? 1.0f : scale;
}

float power_of_two(float largest) {
    if (largest == 0) return 1;
    if (!std::isfinite(largest)) return NAN;
    int exponent;
    const float mantissa = std::frexp(largest, &exponent);
    if (mantissa < 0.70710678f) --exponent;
    return std::ldexp(1.0f, exponent < 127 ? exponent : 127);
}

float scale_of(float magnitude, int kind, float divisor) {
    if (kind == FIXED) return std::isfinite(magnitude) ? magnitude : NAN;
    return usable((kind == POWER ? power_of_two(magnitude) : magnitude) / divisor);
}

float scale_of(const float* extent, i64 numbers, int kind, float divisor) {
    if (numbers == 1) return scale_of(*extent, kind, divisor);
    const float below = std::fabs(extent[0]), above = std::fabs(extent[1]);
    return scale_of(std::isnan(below) || below > above ? below : above, kind, divisor);
}

void set_affine(EncodeJob& job, float low, float high, int bits, bool integer_zero_point) {
    const float steps = std::ldexp(1.0f, bits), top = steps - 1;
    if (integer_zero_point) {
        low = low > 0 ? 0 : low;
        high = high < 0 ? 0 : high;
    }
    job.scale = usable((high - low) / (integer_zero_point ? steps : top));
    job.zero = -low / job.scale;
    if (integer_zero_point) {
        const float rounded = std::rint(job.zero);
        job.zero = rounded < 0 ? 0 : rounded > top ? top : rounded;
    }
    if (std::isnan(job.scale)) job.zero = 0;
    job.low = 0;
    job.high = top;
    job.type = bits <= 8 ? UINT8 : INT32;
}

int drawing_rule(int generator) { return generator < 0 ? NEAREST : generator == 0 ? PHILOX : HASH; }

void set_limits(EncodeJob& job, double low, double high, int type) {
    const double lowest[] = {0, -128, -32768, -16777216}, highest[] = {255, 127, 32767, 16777216};
    job.low = static_cast<float>(std::trunc(low > lowest[type] ? low : lowest[type]));
    job.high = static_cast<float>(std::trunc(high < highest[type] ? high : highest[type]));
    job.type = type;
}

bool encode_all(const EncodeJob& job, i64 n, int threads, int isa) {
    return any_nan(threads, n, isa, [&](const Loops& loops, Range range) { return loops.encode(job, range); });
}

}  // namespace qbench

using namespace qbench;

QBENCH_EXPORT void qbench_extremes(const float* x, i64 n, float* out, int threads, int isa) {
    const auto part = [&](const Loops& loops, Range range) { return loops.extremes(x, range); };
    finish_extremes(extremes_of(threads, n, isa, part), n, out);
}

QBENCH_EXPORT void qbench_affine_parameters(
    const float* low, const float* high, int bits, int integer_zero_point, float* scale, float* zero, int, int) {
    EncodeJob job;
    set_affine(job, *low, *high, bits, integer_zero_point != 0);
    *scale = job.scale;
    *zero = job.zero;
}

QBENCH_EXPORT void qbench_encode_affine(
    const float* x, i64 n, const float* low, const float* high, int bits, int integer_zero_point, u32 seed, u32 tensor,
    u32 step, int generator, void* codes, float* scale, float* zero, int threads, int isa) {
    EncodeJob job;
    job.x = x;
    job.key = {seed, tensor, step};
    job.rule = drawing_rule(generator);
    job.out = codes;
    set_affine(job, *low, *high, bits, integer_zero_point != 0);
    encode_all(job, n, threads, isa);
    *scale = job.scale;
    *zero = job.zero;
}

QBENCH_EXPORT void qbench_encode_scaled(
    const float* x, i64 n, const float* magnitude, i64 numbers, int kind, double divisor, double low, double high,
    int rule, u32 seed, u32 tensor, u32 step, int type, void* codes, float* scale, int threads, int isa) {
    EncodeJob job;
    job.x = x;
    job.key = {seed, tensor, step};
    job.rule = rule;
    job.out = codes;
    job.scale = scale_of(magnitude, numbers, kind, static_cast<float>(divisor));
    set_limits(job, low, high, type);
    *scale = encode_all(job, n, threads, isa) ? NAN : job.scale;
}

namespace {

// The elements of the channels that one thread takes, one channel after another.
template <class Body>
void for_channels(int threads, i64 n, i64 channels, const Body& body) {
    in_parts(useful_threads(threads, n), channels, 1, [&](int, Range mine) {
        for (i64 k = mine.begin; k < mine.end; ++k) body(k, Range{n / channels * k, n / channels * (k + 1)});
    });
}

// Codes of a range that starts anywhere: random bits are drawn for whole groups, so those in front of the first are
// encoded one by one.
void encode_from_anywhere(EncodeJob job, Range range, const Loops& loops) {
    i64 head[GRAIN], count = 0;
    const bool draws = job.rule == PHILOX || job.rule == HASH;
    for (i64 i = range.begin; draws && i % loops.group && i < range.end; ++i) head[count++] = i;
    in_groups(loops, {range.begin + count, range.end}, [&](const Loops& some, Range part) { some.encode(job, part); });
    job.x += range.begin;
    loops.encode_at(job, head, {0, count});
}

}  // namespace

QBENCH_EXPORT void qbench_encode_channels(
    const float* x, i64 n, i64 channels, double top, int rule, u32 seed, u32 tensor, u32 step, int type, void* codes,
    float* scale, int threads, int isa) {
    const Loops& loops = loops_for(isa);
    for_channels(threads, n, channels, [&](i64 k, Range range) {
        Extremes all = no_extremes();
        in_groups(loops, range, [&](const Loops& some, Range part) { all = joined(all, some.extremes(x, part)); });
        float ends[2];
        finish_extremes(all, range.end - range.begin, ends);
        EncodeJob job;
        job.x = x;
        job.key = {seed, tensor, step};
        job.rule = rule;
        job.out = codes;
        scale[k] = job.scale = scale_of(ends, 2, LINEAR, static_cast<float>(top));
        set_limits(job, -top, top, type);
        encode_from_anywhere(job, range, loops);
    });
}

QBENCH_EXPORT void qbench_encode_flag(
    const float* x, i64 n, const float* magnitude, i64 numbers, int bits, i16* codes, float* scale, int threads,
    int isa) {
    const float steps = std::ldexp(1.0f, bits - 1);
    EncodeJob job;
    job.x = x;
    job.out = codes;
    const float fine = scale_of(magnitude, numbers, POWER, steps * steps);
    job.scale = fine * steps;
    job.high = steps - 1;
    job.low = -job.high;
    const auto part = [&](const Loops& loops, Range range) { return loops.encode_flag(job, range); };
    *scale = any_nan(threads, n, isa, part) ? NAN : fine;
}

QBENCH_EXPORT void qbench_encode_binary(
    const float* x, i64 n, const float* given, u32 seed, u32 tensor, u32 step, int generator, i8* codes, float* scale,
    int threads, int isa) {
    EncodeJob job;
    job.x = x;
    job.key = {seed, tensor, step};
    job.rule = generator < 0 ? SIGN : generator == 0 ? SIGN_PHILOX : SIGN_HASH;
    job.type = INT8;
    job.out = codes;
    job.low = -1;
    job.high = 1;
    *scale = std::isfinite(*given) ? *given : NAN;
    if (generator >= 0) job.scale = *scale;  // the sign alone needs no division
    if (std::isnan(*scale)) {
        std::memset(codes, 0, static_cast<std::size_t>(n));
    } else if (encode_all(job, n, threads, isa)) {
        *scale = NAN;
    }
}

QBENCH_EXPORT void qbench_decode(
    const void* codes, int type, i64 n, const float* scale, const float* zero, float* out, int threads, int isa) {
    const float offset = zero ? *zero : 0.0f;
    for_elements(threads, n, isa, [&](const Loops& loops, Range range) {
        loops.decode(codes, type, *scale, offset, out, range);
    });
}

QBENCH_EXPORT void qbench_decode_channels(
    const void* codes, int type, i64 n, i64 channels, const float* scale, float* out, int threads, int isa) {
    for_channels(threads, n, channels, [&](i64 k, Range range) {
        in_groups(loops_for(isa), range,
                  [&](const Loops& loops, Range part) { loops.decode(codes, type, scale[k], 0.0f, out, part); });
    });
}

QBENCH_EXPORT void qbench_encode_levels(
    const float* x, i64 n, i64 channels, const float* mean, const float* inverse, const float* thresholds, i64 count,
    u8* codes, int threads, int isa) {
    LevelsJob job;
    job.x = x;
    job.count = static_cast<int>(count);
    for (job.bits = 1; (1 << job.bits) - 1 < count;) ++job.bits;
    alignas(64) float tree[8 * TREE_LEVEL] = {};
    for (int level = 0; level < job.bits; ++level)
        for (int i = 0; i < 1 << level; ++i) {
            const i64 place = ((2 * i + 1) << (job.bits - level - 1)) - 1;
            tree[TREE_LEVEL * level + i] = place < count ? thresholds[place] : INFINITY;
        }
    job.tree = tree;
    job.out = codes;
    Aligned<float> means(0), inverses(0);
    if (mean && n) {
        job.period = channels;
        job.mean = (means = repeated(mean, channels, channels)).data();
        job.inverse = (inverses = repeated(inverse, channels, channels)).data();
    }
    for_elements(threads, n, isa, [&](const Loops& loops, Range range) { loops.encode_levels(job, range); });
}

QBENCH_EXPORT void qbench_look_up(
    const u8* codes, i64 n, const float* table, i64 entries, float* out, int threads, int isa) {
    const Table padded(table, entries);
    for_elements(threads, n, isa, [&](const Loops& loops, Range range) {
        loops.look_up(codes, padded.values, static_cast<int>(entries), out, range);
    });
}
