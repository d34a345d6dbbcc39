// Scales, limits and reductions that several of the functions for Python share.
#pragma once

#include "jobs.h"

namespace qbench {

// How a scale comes from a magnitude: as it is, divided, or as the nearest power of two, divided.
enum Kind { FIXED, LINEAR, POWER };

// 1 in place of a scale below the smallest normal number, NaN in place of one that is not finite.
float usable(float scale);

// 2^round(log2 largest), at most 2^127; 1 for 0, NaN for what is not finite.
float power_of_two(float largest);

float scale_of(float magnitude, int kind, float divisor);
// extent: a magnitude, or two numbers, a range, whose larger magnitude is meant.
float scale_of(const float* extent, i64 numbers, int kind, float divisor);

// Scale, zero point and limits of the affine codes of [low, high].
void set_affine(EncodeJob& job, float low, float high, int bits, bool integer_zero_point);

// [low, high] limited to what the type holds, and to 2^24; whole numbers, as conversion to an integer would leave them.
void set_limits(EncodeJob& job, double low, double high, int type);

// The rule for a generator's number, negative to round to nearest.
int drawing_rule(int generator);

// Encodes n elements; whether a NaN was among the values.
bool encode_all(const EncodeJob& job, i64 n, int threads, int isa);

// What part(loops, range) finds in all ranges, joined.
template <class Part>
Extremes extremes_of(int threads, i64 n, int isa, const Part& part) {
    Extremes all = no_extremes();
    for_elements(threads, n, isa, [&](const Loops& loops, Range range) {
        const Extremes mine = part(loops, range);
#pragma omp critical(qbench_extremes)
        all = joined(all, mine);
    });
    return all;
}

// Whether part(loops, range) met a NaN in any range.
template <class Part>
bool any_nan(int threads, i64 n, int isa, const Part& part) {
    bool nan = false;
    for_elements(threads, n, isa, [&](const Loops& loops, Range range) {
        if (part(loops, range)) {
#pragma omp atomic write
            nan = true;
        }
    });
    return nan;
}

// out = [min, max]: NaN where one was met, 0 where there was nothing.
inline void finish_extremes(const Extremes& all, i64 n, float* out) {
    out[0] = all.nan ? NAN : n ? all.low : 0.0f;
    out[1] = all.nan ? NAN : n ? all.high : 0.0f;
}

// A table of levels with NaN for codes it does not have.
struct Table {
    alignas(64) float values[256];

    Table(const float* given, i64 entries) {
        for (i64 i = 0; i < 256; ++i) values[i] = i < entries ? given[i] : NAN;
    }
};

}  // namespace qbench
