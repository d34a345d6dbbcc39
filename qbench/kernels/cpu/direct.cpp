// Batch norm on direct grids: what qbench/kernels/cpu/direct.py calls. The formulas are documented in
// qbench/kernels/direct.py.
#include <algorithm>

#include "encode.h"
#include "sums.h"
#include "views.h"

namespace qbench {
namespace {

constexpr i64 VECTOR_BYTES = 64;  // neighbouring vectors of sums should not add to the same places of a table

void set_gradient(DirectJob& job, const void* g, int type, const float* scale) {
    job.g = g;
    job.g_type = type;
    if (scale) job.g_scale = *scale;
}

// x on the grid of `steps` steps per unit, within +-top steps; NaN stays.
float rounded(float x, double steps, double top) {
    const float width = static_cast<float>(steps), limit = static_cast<float>(top);
    const float code = std::rint(x * width);
    return (code < -limit ? -limit : code > limit ? limit : code) / width;
}

}  // namespace
}  // namespace qbench

using namespace qbench;

// grids: steps and largest code of the mean, the deviation, weight and bias. All others [channels].
QBENCH_EXPORT void qbench_direct_line(
    i64 channels, const double* mean, const double* variance, const float* weight, const float* bias,
    const double* grids, double unit, double eps, float* used, float* inverse, float* slope, float* offset,
    float* rounded_weight, float* over_deviation, float* shift, int, int) {
    for (i64 c = 0; c < channels; ++c) {
        const float exact = static_cast<float>(mean[c]), deviation = static_cast<float>(std::sqrt(variance[c]));
        used[c] = rounded(exact, grids[0], grids[1]);
        inverse[c] = 1 / (rounded(deviation, grids[2], grids[3]) + static_cast<float>(eps));
        rounded_weight[c] = rounded(weight[c], grids[4], grids[5]);
        slope[c] = rounded_weight[c] / static_cast<float>(unit);
        offset[c] = rounded(bias[c], grids[4], grids[5]);
        over_deviation[c] = deviation > 0 ? 1 / deviation : 0;
        shift[c] = exact - used[c];
    }
}

// sums [3, channels]: of m, m * t and m * z.
QBENCH_EXPORT void qbench_direct_gradient_line(
    i64 channels, const double* sums, i64 rows, double unit, const float* inverse, const float* weight,
    const float* over_deviation, const float* shift, float* grad_weight, float* grad_bias, float* a, float* b, float* c,
    int, int) {
    const double count = static_cast<double>(rows);
    for (i64 p = 0; p < channels; ++p) {
        const double pull = sums[2 * channels + p] / count * over_deviation[p], scale = weight[p];
        const double slope = scale * inverse[p];
        grad_weight[p] = static_cast<float>(sums[channels + p] / unit);
        grad_bias[p] = static_cast<float>(sums[p]);
        a[p] = static_cast<float>(slope);
        b[p] = static_cast<float>(slope * (shift[p] * pull - sums[p] / count));
        c[p] = static_cast<float>(-(scale * pull));
    }
}

// mask: written with relu.
QBENCH_EXPORT void qbench_direct_view(
    const float* x, i64 rows, i64 channels, const float* mean, const float* inverse, double unit, double top,
    const float* slope, const float* offset, int relu, const float* trunk, float* value, u8* mask, int threads,
    int isa) {
    const i64 n = rows * channels;
    if (!n) return;
    DirectTables tables(mean, inverse, slope, offset, channels, 1);
    DirectJob job = direct_job(x, tables, unit, top, relu);
    job.trunk = trunk;
    job.value = value;
    job.mask = mask;
    for_elements(threads, n, isa, [&](const Loops& loops, Range range) { loops.direct_view(job, range); });
}

QBENCH_EXPORT void qbench_encode_direct_view(
    const float* x, i64 rows, i64 channels, const float* mean, const float* inverse, double unit, double top,
    const float* slope, const float* offset, int relu, double given, double low, double high, int type, void* out,
    float* scale, int threads, int isa) {
    const i64 n = rows * channels;
    *scale = scale_of(static_cast<float>(given), FIXED, 1);
    if (!n) return;
    DirectTables tables(mean, inverse, slope, offset, channels, 1);
    const DirectJob view = direct_job(x, tables, unit, top, relu);
    EncodeJob job;
    job.direct = &view;
    job.floor = relu ? 0.0f : -INFINITY;
    job.scale = *scale;
    job.out = out;
    set_limits(job, low, high, type);
    const auto part = [&](const Loops& loops, Range range) { return loops.encode_direct(job, range); };
    if (any_nan(threads, n, isa, part)) *scale = NAN;
}

// sums [3, channels]. type: of the gradient's codes, negative for floats.
QBENCH_EXPORT void qbench_direct_gradient_sums(
    const void* g, int type, const float* scale, const float* x, i64 rows, i64 channels, const float* mean,
    const float* inverse, double unit, double top, const float* slope, const float* offset, int relu, double* sums,
    int threads, int isa) {
    if (!rows || !channels) {
        std::fill_n(sums, 3 * channels, 0.0);
        return;
    }
    DirectTables tables(mean, inverse, slope, offset, channels, VECTOR_BYTES);
    DirectJob job = direct_job(x, tables, unit, top, relu);
    set_gradient(job, g, type, scale);
    const int parts = useful_threads(threads, rows * channels);
    sum_blocks<3>(rows, channels, tables.period, sums, parts, [&](Range range, double* const* places, int) {
        SumsJob added;
        added.direct = &job;
        added.period = tables.period;
        added.first = places[0];
        added.second = places[1];
        added.third = places[2];
        in_groups(loops_for(isa), {range.begin * channels, range.end * channels},
                  [&](const Loops& loops, Range elements) { loops.direct_sums(added, elements); });
    });
}

// (a * m + b) + c * z with the masked gradient m, and the extremes [2] of that.
QBENCH_EXPORT void qbench_direct_gradient(
    const void* g, int type, const float* scale, const float* x, i64 rows, i64 channels, const float* mean,
    const float* inverse, double unit, double top, const float* slope, const float* offset, int relu, const float* a,
    const float* b, const float* c, float* out, float* extremes, int threads, int isa) {
    const i64 n = rows * channels;
    if (!n) return finish_extremes(no_extremes(), 0, extremes);
    DirectTables tables(mean, inverse, slope, offset, channels, 1);
    auto as = repeated(a, channels, tables.period), bs = repeated(b, channels, tables.period),
         cs = repeated(c, channels, tables.period);
    DirectJob job = direct_job(x, tables, unit, top, relu);
    set_gradient(job, g, type, scale);
    job.a = as.data();
    job.b = bs.data();
    job.c = cs.data();
    job.out = out;
    const auto part = [&](const Loops& loops, Range range) { return loops.direct_gradient(job, range); };
    finish_extremes(extremes_of(threads, n, isa, part), n, extremes);
}
