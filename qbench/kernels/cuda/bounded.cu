// Bounded activations behind a layer scale, and their errors (Wu et al. 2018).
#include "elements.cuh"
#include "encoder.cuh"
#include "extremes.cuh"

// The trunk itself, or codes times their scale; scale: null for floats.
template <typename T> DEVICE float beside(T x, const float* scale) {
    return scale ? multiply((float)x, *scale) : (float)x;
}

// A value within the bounds, and what became of it.
struct Bounded {
    float value;
    bool passed, unclipped;

    DEVICE Bounded(float v, bool relu, float limit) {
        unclipped = !(v > limit || (!relu && v < -limit));
        passed = unclipped && !(relu && v <= 0.0f);
        const float floor = relu ? 0.0f : -limit;
        value = v > limit ? limit : v < floor ? floor : v;  // NaN stays
    }
};

// use(Bounded, place in the quad) for four elements, whose bits two lanes then make a byte of.
template <typename Trunk, typename Live, typename Use>
DEVICE void bound_quad(const Quad<float>& y, float inverse, const Quad<Trunk>& trunk, bool has_trunk,
                       const float* trunk_scale, bool relu, float limit, i64 first, Live live, u8* passed,
                       u8* unclipped, Use use) {
    u32 bits = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        float v = multiply(y.element[j], inverse);
        if (has_trunk) v = add(v, beside(trunk.element[j], trunk_scale));
        const Bounded bounded(v, relu, limit);
        use(bounded, j);
        bits |= (u32)(j < live && bounded.passed) << j | (u32)(j < live && bounded.unclipped) << (j + 8);
    }
    const u32 next = __shfl_xor_sync(ALL_LANES, bits, 1);
    if (!live || threadIdx.x % 2) return;
    passed[first >> 3] = (u8)(bits & 15u | next << 4);
    unclipped[first >> 3] = (u8)(bits >> 8 | next >> 8 << 4);
}

template <typename Trunk> struct BoundedItem {
    Quad<float> y;
    Quad<Trunk> trunk;

    template <typename Live> DEVICE static BoundedItem of(const float* y, const Trunk* trunk, i64 first, Live live) {
        return BoundedItem{Quad<float>::of(y, first, live), Quad<Trunk>::of_any(trunk, first, live)};
    }
};

template <typename Trunk>
__global__ void bounded_values(const float* y, i64 count, float inverse, const Trunk* trunk, const float* trunk_scale,
                               i64 relu, float limit, float* values, u8* passed, u8* unclipped) {
    auto load = [&](i64 first, auto live) { return BoundedItem<Trunk>::of(y, trunk, first, live); };
    for_each_quad(count, are_packed(y, trunk, values), load, [&](const BoundedItem<Trunk>& item, i64 first, auto live) {
        Quad<float> out;
        auto use = [&](const Bounded& bounded, int j) { out.element[j] = bounded.value; };
        bound_quad(item.y, inverse, item.trunk, trunk, trunk_scale, relu, limit, first, live, passed, unclipped, use);
        out.store(values, first, live);
    });
}

// codes = clip(round(value / scale), low, high). reported: made NaN by a NaN value.
template <typename Trunk, typename Code>
__global__ void encode_bounded(const float* y, i64 count, float inverse, const Trunk* trunk, const float* trunk_scale,
                               i64 relu, float limit, float scale, float low, float high, float* reported, Code* codes,
                               u8* passed, u8* unclipped) {
    const Encoder<Code> encoder(AffineParameters{scale, 0.0f}, low, high, NEAREST, 0, 0, 0, nullptr);
    bool has_nan = false;
    auto load = [&](i64 first, auto live) { return BoundedItem<Trunk>::of(y, trunk, first, live); };
    for_each_quad(count, are_packed(y, trunk, codes), load, [&](const BoundedItem<Trunk>& item, i64 first, auto live) {
        float values[4];
        auto use = [&](const Bounded& bounded, int j) {
            has_nan = has_nan || (j < live && is_nan(bounded.value));
            values[j] = bounded.value;
        };
        bound_quad(item.y, inverse, item.trunk, trunk, trunk_scale, relu, limit, first, live, passed, unclipped, use);
        Quad<Code> out;
        encoder.codes_of(values, first, out.element);
        out.store(codes, first, live);
    });
    if (has_nan) *reported = not_a_number();
}

// Four errors g (+ joined * scale), each 0 where its bit is not set.
template <typename Joined> struct ErrorItem {
    Quad<float> gradient;
    Quad<Joined> joined;
    u32 bits;

    template <typename Live>
    DEVICE static ErrorItem of(const float* g, const Joined* joined, const u8* mask, i64 first, Live live) {
        const u32 bits = live ? (u32)mask[first >> 3] >> (first & 7) : 0;
        return ErrorItem{Quad<float>::of(g, first, live), Quad<Joined>::of_any(joined, first, live), bits};
    }

    DEVICE float error(int j, bool has_joined, const float* scale) const {
        if (!(bits >> j & 1)) return 0.0f;
        return has_joined ? add(gradient.element[j], beside(joined.element[j], scale)) : gradient.element[j];
    }
};

template <typename Joined>
__global__ void bounded_error_extremes(const float* g, i64 count, const Joined* joined, const float* joined_scale,
                                       const u8* unclipped, float* target) {
    Extremes extremes;
    auto load = [&](i64 first, auto live) { return ErrorItem<Joined>::of(g, joined, unclipped, first, live); };
    for_each_quad(count, are_packed(g, joined), load, [&](const ErrorItem<Joined>& item, i64, auto live) {
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (j < live) extremes.include(item.error(j, joined, joined_scale));
    });
    extremes.publish(target);
}

// scale: of the codes, from the range of the error; stored for others.
template <typename Joined, typename Code>
__global__ void encode_bounded_error(const float* g, i64 count, const Joined* joined, const float* joined_scale,
                                     const u8* passed, const float* extent, float divisor, float low, float high,
                                     float* scale, Code* codes) {
    const AffineParameters parameters = {scale_of(extent, 2, POWER, divisor), 0.0f};
    const Encoder<Code> encoder(parameters, low, high, NEAREST, 0, 0, 0, nullptr);
    if (thread_index() == 0) *scale = parameters.scale;
    auto load = [&](i64 first, auto live) { return ErrorItem<Joined>::of(g, joined, passed, first, live); };
    for_each_quad(count, are_packed(g, joined, codes), load, [&](const ErrorItem<Joined>& item, i64 first, auto live) {
        float errors[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) errors[j] = item.error(j, joined, joined_scale);
        Quad<Code> out;
        encoder.codes_of(errors, first, out.element);
        out.store(codes, first, live);
    });
}
