// The step from a float to its integer code that every encoder shares.
#include "elements.cuh"
#include "random.cuh"
#include "scales.cuh"

// Division by one number, many times over, rounded as `divide` rounds it.
//
// The quotient is found with the reciprocal, rounded to nearest, and corrected by the exact remainder twice: a first
// quotient within two units in the last place becomes one within one, which a second correction rounds correctly
// (Markstein 1990). That holds while no remainder is subnormal, so it is for divisors in [2^-60, 1] alone. Dividends
// below 2^-103 may get a quotient below 2^-43 that is off in its last place, but neither 0 nor of another sign.
struct Divisor {
    float value, reciprocal;
    bool is_easy;

    DEVICE explicit Divisor(float value_)
        : value(value_), reciprocal(divide(1.0f, value_)), is_easy(value_ >= 8.67361737988403547e-19f && value_ <= 1.0f) {}

    // Of an easy divisor. What is not finite, or too large to have a quotient, keeps its sign.
    DEVICE float quotient(float dividend) const {
        const float first = multiply(dividend, reciprocal);
        const float second = fused(fused(-first, value, dividend), reciprocal, first);
        const float third = fused(fused(-second, value, dividend), reciprocal, second);
        return is_finite(first) ? third : first;
    }
};

// A float32 of this exponent is an integer, and its low bits are a number of less than 22 bits that was added to it.
const float INTEGERS = 12582912.0f;  // 1.5 * 2^23

// Scale and zero point of affine codes, which every thread computes from the range [*low, *high] and one of them stores,
// or finds there if low is null. zero: null where the format has none.
struct Range {
    const float *low, *high;
    i64 integer_zero_point;
    float *scale, *zero;

    DEVICE AffineParameters parameters(float top) const {
        if (!low) return AffineParameters{*scale, zero ? *zero : 0.0f};
        const AffineParameters found = affine_parameters(*low, *high, top, integer_zero_point);
        if (thread_index() == 0 && blockIdx.y == 0) {
            *scale = found.scale;
            *zero = found.zero;
        }
        return found;
    }
};

// Codes are clip(round(value / scale + zero), low, high).
template <typename Code> struct Encoder {
    static constexpr bool IS_SHORT = sizeof(Code) < 4;
    Rounder rounder;
    Divisor divisor;
    float zero, low, high;

    // low, high: their whole parts count.
    DEVICE Encoder(const Range& range, float low_, float high_, i64 rounding, i64 seed, i64 tensor, i64 step,
                   const i32* elapsed)
        : Encoder(range.parameters(high_), low_, high_, rounding, seed, tensor, step, elapsed) {}
    DEVICE Encoder(const AffineParameters& parameters, float low_, float high_, i64 rounding, i64 seed, i64 tensor,
                   i64 step, const i32* elapsed)
        : rounder(rounding, seed, tensor, step, elapsed), divisor(parameters.scale), zero(parameters.zero),
          low(truncf(low_)), high(truncf(high_)) {
        // A quotient that is off in its last place makes no other code if a whole number is added to it.
        divisor.is_easy = divisor.is_easy && zero == rintf(zero);
    }

    // Of one element, and of the four whose first one is a multiple of 4.
    DEVICE Code code_of(float value, u64 index) const {
        const float place = add(divide(value, divisor.value), zero);
        return rounder.rounding == NEAREST ? nearest(place) : rounded(place, rounder.word_of(index));
    }
    DEVICE void codes_of(const float (&values)[1], u64 index, Code (&codes)[1]) const {
        codes[0] = code_of(values[0], index);
    }
    DEVICE void codes_of(const float (&values)[4], u64 first, Code (&codes)[4]) const {
        float places[4];
        if (divisor.is_easy) {
#pragma unroll
            for (int j = 0; j < 4; ++j) places[j] = add(divisor.quotient(values[j]), zero);
        } else {
#pragma unroll
            for (int j = 0; j < 4; ++j) places[j] = add(divide(values[j], divisor.value), zero);
        }
        if (rounder.rounding == NEAREST) {
#pragma unroll
            for (int j = 0; j < 4; ++j) codes[j] = nearest(places[j]);
        } else {
            const Block words = rounder.words_of_quad(first);
#pragma unroll
            for (int j = 0; j < 4; ++j) codes[j] = rounded(places[j], words.word[j]);
        }
    }

    // Bounds that are integers may be asked for before the number is rounded. Short codes then come from the bits of a
    // float: a GPU converts and rounds few numbers at a time by instructions of their own.
    DEVICE Code nearest(float place) const {
        if (!IS_SHORT) return (Code)clipped(rintf(place), low, high);
        return (Code)to_bits(add(clipped(place, low, high), INTEGERS));
    }
    DEVICE Code rounded(float place, u32 word) const {
        if (!IS_SHORT) return (Code)clipped(rounder.round(place, word), low, high);
        const float number = clipped(place, low, high), below = __fadd_rd(number, INTEGERS);
        return (Code)(to_bits(below) + rounder.is_up(subtract(number, subtract(below, INTEGERS)), word));
    }
};
