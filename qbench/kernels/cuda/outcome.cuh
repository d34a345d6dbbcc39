// What becomes of an exact sum.
#include "extremes.cuh"

// ADD: scaled, to the float32 that is there. ACCUMULATE: to the int64 that is there.
enum Mode { STORE_32 = 0, SCALE = 1, ACCUMULATE = 2, STORE_64 = 3, ENCODE = 4, ADD = 5 };

// sum * first * second + bias, every operation rounded.
struct Scale {
    float first, second, bias;
    bool has_bias;

    DEVICE float apply(float sum) const {
        const float y = multiply(multiply(sum, first), second);
        return has_bias ? add(y, bias) : y;
    }
};

// Where those of a channel stand. second_step: 1 where the second scale is per channel.
struct Scaling {
    const float *first, *second, *bias;
    i64 second_step;

    DEVICE Scale of(i64 channel) const {
        return Scale{*first, second[channel * second_step], bias ? bias[channel] : 0.0f, bias != nullptr};
    }
};

// Affine codes of the scaled results, rounded to nearest.
struct Encoding {
    const float *scale, *zero;
    float top;

    DEVICE u8 code_of(float value) const {
        return (u8)clipped(rintf(add(divide(value, *scale), *zero)), 0.0f, top);
    }
};

DEVICE float to_float(i32 sum) { return __int2float_rn(sum); }
DEVICE float to_float(i64 sum) { return __ll2float_rn(sum); }
