// Scales and zero points from ranges, on the device: the host never reads a value.
#include "types.cuh"

enum ScaleKind { FIXED = 0, LINEAR = 1, POWER = 2 };

const float SMALLEST_NORMAL = 1.17549435082228750797e-38f;  // a smaller scale would divide to infinity

DEVICE float finite_or_nan(float scale) { return is_finite(scale) ? scale : not_a_number(); }
DEVICE float usable(float scale) { return finite_or_nan(fabsf(scale) < SMALLEST_NORMAL ? 1.0f : scale); }

// 2^exponent for exponent in [-149, 127].
DEVICE float two_to(int exponent) {
    return exponent < -126 ? from_bits(1u << (exponent + 149)) : from_bits((u32)(exponent + 127) << 23);
}

// 2^round(log2 largest), at most 2^127; 1 for 0, NaN for what is not finite. The exponent comes from the bits of the
// number, so that nothing rounds near sqrt(2).
DEVICE float power_of_two(float largest) {
    if (!is_finite(largest)) return not_a_number();
    if (largest == 0.0f) return 1.0f;
    const bool is_subnormal = largest < SMALLEST_NORMAL;
    const u32 bits = to_bits(is_subnormal ? multiply(largest, 16777216.0f) : largest);
    const int exponent = (int)(bits >> 23) - 127 - (is_subnormal ? 24 : 0);  // largest = [1, 2) * 2^exponent
    const bool rounds_up = (bits & 0x7fffffu) >= 0x3504f3u;                  // the float32 sqrt(2) and above
    return two_to(exponent + rounds_up < 127 ? exponent + rounds_up : 127);
}

DEVICE float scale_of(float magnitude, int kind, float divisor) {
    if (kind == FIXED) return finite_or_nan(magnitude);
    if (kind == LINEAR) return usable(divide(magnitude, divisor));
    return usable(divide(power_of_two(magnitude), divisor));
}

// extent: a magnitude, or two numbers, a range, whose larger magnitude is meant.
DEVICE float scale_of(const float* extent, i64 numbers, int kind, float divisor) {
    if (numbers == 1) return scale_of(*extent, kind, divisor);
    const float below = fabsf(extent[0]), above = fabsf(extent[1]);
    return scale_of(is_nan(below) || below > above ? below : above, kind, divisor);
}

struct AffineParameters {
    float scale, zero;
};

// top: the largest code, 2^bits - 1.
DEVICE AffineParameters affine_parameters(float low, float high, float top, bool integer_zero_point) {
    AffineParameters result;
    if (integer_zero_point) {
        low = low > 0.0f ? 0.0f : low;
        high = high < 0.0f ? 0.0f : high;
        result.scale = usable(divide(subtract(high, low), add(top, 1.0f)));
        const float zero = rintf(divide(-low, result.scale));
        result.zero = zero < 0.0f ? 0.0f : zero > top ? top : zero;
    } else {
        result.scale = usable(divide(subtract(high, low), top));
        result.zero = divide(-low, result.scale);
    }
    if (is_nan(result.scale)) result.zero = 0.0f;
    return result;
}
