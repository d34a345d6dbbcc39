// Bounded activations behind a layer scale, and their errors (Wu et al. 2018).
#include "elements.cuh"
#include "extremes.cuh"
#include "random.cuh"
#include "scales.cuh"

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
template <typename Trunk, typename Use>
DEVICE void bound_quad(const Quad<float>& y, float inverse, const Quad<Trunk>& trunk, bool has_trunk,
                       const float* trunk_scale, bool relu, float limit, i64 first, int live, u8* passed,
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

    DEVICE static BoundedItem of(const float* y, const Trunk* trunk, i64 first, int live) {
        return BoundedItem{Quad<float>::of(y, first, live), Quad<Trunk>::of(trunk, first, trunk ? live : 0)};
    }
};

template <typename Trunk>
__global__ void bounded_values(const float* y, i64 count, float inverse, const Trunk* trunk, const float* trunk_scale,
                               i64 relu, float limit, float* values, u8* passed, u8* unclipped) {
    auto load = [&](i64 first, int live) { return BoundedItem<Trunk>::of(y, trunk, first, live); };
    for_each_quad(count, load, [&](const BoundedItem<Trunk>& item, i64 first, int live) {
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
    bool has_nan = false;
    auto load = [&](i64 first, int live) { return BoundedItem<Trunk>::of(y, trunk, first, live); };
    for_each_quad(count, load, [&](const BoundedItem<Trunk>& item, i64 first, int live) {
        Quad<Code> out;
        auto use = [&](const Bounded& bounded, int j) {
            has_nan = has_nan || (j < live && is_nan(bounded.value));
            out.element[j] = (Code)clipped(rintf(divide(bounded.value, scale)), low, high);
        };
        bound_quad(item.y, inverse, item.trunk, trunk, trunk_scale, relu, limit, first, live, passed, unclipped, use);
        out.store(codes, first, live);
    });
    if (has_nan) *reported = not_a_number();
}

// Four errors g (+ joined * scale), each 0 where its bit is not set.
template <typename Joined> struct ErrorItem {
    Quad<float> gradient;
    Quad<Joined> joined;
    u32 bits;

    DEVICE static ErrorItem of(const float* g, const Joined* joined, const u8* mask, i64 first, int live) {
        const u32 bits = live ? (u32)mask[first >> 3] >> (first & 7) : 0;
        return ErrorItem{Quad<float>::of(g, first, live), Quad<Joined>::of(joined, first, joined ? live : 0), bits};
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
    auto load = [&](i64 first, int live) { return ErrorItem<Joined>::of(g, joined, unclipped, first, live); };
    for_each_quad(count, load, [&](const ErrorItem<Joined>& item, i64, int live) {
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (j < live) extremes.include(item.error(j, joined, joined_scale));
    });
    extremes.publish(target);
}

template <typename Joined, typename Code>
__global__ void encode_bounded_error(const float* g, i64 count, const Joined* joined, const float* joined_scale,
                                     const u8* passed, const float* scale_, float low, float high, Code* codes) {
    const float scale = *scale_;
    auto load = [&](i64 first, int live) { return ErrorItem<Joined>::of(g, joined, passed, first, live); };
    for_each_quad(count, load, [&](const ErrorItem<Joined>& item, i64 first, int live) {
        Quad<Code> out;
#pragma unroll
        for (int j = 0; j < 4; ++j)
            out.element[j] = (Code)clipped(rintf(divide(item.error(j, joined, joined_scale), scale)), low, high);
        out.store(codes, first, live);
    });
}
