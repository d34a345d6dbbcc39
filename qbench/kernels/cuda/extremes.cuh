// Smallest and largest float of many threads, in any order: [min, max], both NaN where one NaN was met.
#include "types.cuh"

// Float order is integer order for positive numbers and reversed unsigned order for negative ones; each atomic leaves
// numbers of the other sign alone where they win. A NaN of the right sign wins over everything.
DEVICE void atomic_lower(float* target, float value) {
    if (value < 0.0f || (is_nan(value) && (to_bits(value) >> 31)))
        atomicMax((u32*)target, to_bits(value));
    else
        atomicMin((i32*)target, (i32)to_bits(value));
}

DEVICE void atomic_raise(float* target, float value) {
    if (value < 0.0f)
        atomicMin((u32*)target, to_bits(value));
    else
        atomicMax((i32*)target, (i32)to_bits(value));
}

struct Extremes {
    float low, high;
    bool has_nan;

    DEVICE Extremes() : low(infinity()), high(-infinity()), has_nan(false) {}

    DEVICE void include(float value) {
        has_nan = has_nan || is_nan(value);
        low = fminf(low, value);  // fminf and fmaxf pass over NaN
        high = fmaxf(high, value);
    }

    // Adds the extremes of this warp to target [2], which starts at [+inf, -inf]. All lanes take part.
    DEVICE void publish(float* target) {
#pragma unroll
        for (int distance = WARP / 2; distance; distance /= 2) {
            low = fminf(low, __shfl_xor_sync(ALL_LANES, low, distance));
            high = fmaxf(high, __shfl_xor_sync(ALL_LANES, high, distance));
        }
        has_nan = __any_sync(ALL_LANES, has_nan);
        if (threadIdx.x % WARP) return;
        if (has_nan) {
            atomic_lower(target, from_bits(0xffc00000u));  // negating one need not change its sign
            atomic_raise(target + 1, not_a_number());
            return;
        }
        // -0 would order below every number as an integer. Looking first spares most of the atomics on one address.
        low = add(low, 0.0f);
        high = add(high, 0.0f);
        const volatile float* current = target;
        if (low < current[0]) atomic_lower(target, low);
        if (high > current[1]) atomic_raise(target + 1, high);
    }
};
