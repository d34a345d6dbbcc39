// The step from a float to its integer code that every encoder shares.
#include "random.cuh"

struct Encoder {
    Rounder rounder;
    float scale, zero, low, high;

    // zero: null where the format has none.
    DEVICE Encoder(const float* scale_, const float* zero_, float low_, float high_, i64 rounding, i64 seed, i64 tensor,
                   i64 step)
        : rounder(rounding, seed, tensor, step), scale(*scale_), zero(zero_ ? *zero_ : 0.0f), low(low_), high(high_) {}

    // clip(round(value / scale + zero), low, high); adding a zero that is 0 changes no code.
    DEVICE float code_of(float value, u32 word) const {
        return clipped(rounder.round(add(divide(value, scale), zero), word), low, high);
    }
};
