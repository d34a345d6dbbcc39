// Bounded activations and their errors: what qbench/kernels/cpu/bounded.py calls. The formulas are documented in
// qbench/kernels/bounded.py.
#include "encode.h"

namespace qbench {
namespace {

BoundedJob bounded_job(
    const float* y, double inverse, const void* trunk, int type, const float* scale, int relu, double limit, u8* passed,
    u8* unclipped) {
    BoundedJob job;
    job.y = y;
    job.inverse = static_cast<float>(inverse);
    job.trunk = trunk;
    job.trunk_type = type;
    if (scale) job.trunk_scale = *scale;
    job.relu = relu != 0;
    job.limit = static_cast<float>(limit);
    job.passed = passed;
    job.unclipped = unclipped;
    return job;
}

}  // namespace
}  // namespace qbench

using namespace qbench;

// type: of the trunk's codes, negative for floats.
QBENCH_EXPORT void qbench_bounded_values(
    const float* y, i64 n, double inverse, const void* trunk, int type, const float* trunk_scale, int relu,
    double limit, float* value, u8* passed, u8* unclipped, int threads, int isa) {
    BoundedJob job = bounded_job(y, inverse, trunk, type, trunk_scale, relu, limit, passed, unclipped);
    job.value = value;
    for_elements(threads, n, isa, [&](const Loops& loops, Range range) { loops.bounded_values(job, range); });
}

QBENCH_EXPORT void qbench_encode_bounded(
    const float* y, i64 n, double inverse, const void* trunk, int trunk_type, const float* trunk_scale, int relu,
    double limit, double given, double low, double high, int type, void* codes, float* scale, u8* passed, u8* unclipped,
    int threads, int isa) {
    const BoundedJob bounded =
        bounded_job(y, inverse, trunk, trunk_type, trunk_scale, relu, limit, passed, unclipped);
    EncodeJob job;
    job.bounded = &bounded;
    job.scale = scale_of(static_cast<float>(given), FIXED, 1);
    job.out = codes;
    set_limits(job, low, high, type);
    const auto part = [&](const Loops& loops, Range range) { return loops.encode_bounded(job, range); };
    *scale = any_nan(threads, n, isa, part) ? NAN : job.scale;
}

// joined: codes of `joined_type`, or none.
QBENCH_EXPORT void qbench_encode_bounded_error(
    const float* g, i64 n, const void* joined, int joined_type, const float* joined_scale, const u8* passed,
    const u8* unclipped, double divisor, double top, int type, void* codes, float* scale, int threads, int isa) {
    BoundedErrorJob error;
    error.g = g;
    error.joined = joined;
    error.joined_type = joined_type;
    if (joined_scale) error.joined_scale = *joined_scale;
    error.passed = passed;
    error.unclipped = unclipped;
    float ends[2];
    const auto part = [&](const Loops& loops, Range range) { return loops.bounded_error_extremes(error, range); };
    finish_extremes(extremes_of(threads, n, isa, part), n, ends);
    EncodeJob job;
    job.bounded_error = &error;
    job.scale = *scale = scale_of(ends, 2, POWER, static_cast<float>(divisor));
    job.out = codes;
    set_limits(job, -top, top, type);
    for_elements(threads, n, isa, [&](const Loops& loops, Range range) { loops.encode_bounded_error(job, range); });
}
