// Passes over codes seen through a view: what qbench/kernels/cpu/passes.py calls. The formulas are documented in
// qbench/kernels/passes.py.
#include <algorithm>

#include "encode.h"
#include "gradients.h"
#include "views.h"

namespace qbench {
namespace {

constexpr i64 APART = 64;  // neighbouring vectors should not add to the same places of a table

EncodeJob encode_job(const u8* codes, ViewTables& tables, int relu, Key key, void* out) {
    EncodeJob job;
    job.codes = codes;
    job.slope = tables.slope.data();
    job.offset = tables.offset.data();
    job.period = tables.period;
    job.floor = relu ? 0.0f : -INFINITY;
    job.key = key;
    job.out = out;
    return job;
}

// Encodes the view, then again the elements that have a value of their own; whether a NaN was among the values.
bool encode_view(
    EncodeJob job, i64 n, const i64* at, const float* values, i64 count, int threads, int isa) {
    bool nan = encode_all(job, n, threads, isa);
    if (!count) return nan;
    job.x = values;
    in_parallel(threads, count, 1, [&](int, Range range) { loops_for(isa).encode_at(job, at, range); });
    for (i64 p = 0; p < count; ++p) nan = nan || std::isnan(values[p]);
    return nan;
}

}  // namespace

void gradient_extremes(
    const Gradient& g, const u8* codes, i64 n, i64 channels, const float* slope, const float* offset, bool relu,
    float* out, int threads, int isa) {
    if (!n) return finish_extremes(no_extremes(), 0, out);
    ViewTables tables(slope, offset, channels, 1);
    Extremes all = no_extremes();
    in_parts(useful_threads(threads, n), n, g.unit(), [&](int, Range range) {
        GradientJob job;
        job.view = view_job(codes, tables, relu);
        Extremes mine = no_extremes();
        g.for_pieces(loops_for(isa), range, n, [&](const float* values, i64 from, Range piece) {
            job.g = values;
            job.g_from = from;
            in_groups(loops_for(isa), piece, [&](const Loops& loops, Range part) {
                const Range inside{part.begin - from, part.end - from};
                mine = joined(mine, relu ? loops.gradient_extremes(job, part) : loops.extremes(values, inside));
            });
        });
#pragma omp critical(qbench_extremes)
        all = joined(all, mine);
    });
    finish_extremes(all, n, out);
}

void encode_gradient(
    const Gradient& g, u8* codes, i64 n, i64 channels, const float* slope, const float* offset, bool relu,
    EncodeJob encode, i64* sums, int threads, int isa) {
    std::fill_n(sums, 2 * channels, 0);
    if (!n) return;
    encode.out = codes;
    ViewTables tables(slope, offset, channels, APART);
    constexpr i64 ROWS = 32768;  // 255 * 255 * 2^15 fits 32 bits
    const i64 places = tables.period + TABLE_MARGIN, most = ROWS * tables.period;
    in_parts(useful_threads(threads, n), n, g.unit(), [&](int, Range range) {
        Aligned<u32> sums_of_codes(places), products(places);
        std::vector<i64> mine(static_cast<std::size_t>(2 * channels));
        GradientJob job;
        job.view = view_job(codes, tables, relu);
        job.encode = encode;
        job.sums = sums_of_codes.data();
        job.products = products.data();
        i64 pending = 0;  // elements in the 32-bit sums
        const auto flush = [&] {
            for (i64 p = 0; p < places; ++p) {
                mine[static_cast<std::size_t>(p % channels)] += job.sums[p];
                mine[static_cast<std::size_t>(channels + p % channels)] += job.products[p];
            }
            sums_of_codes.clear();
            products.clear();
            pending = 0;
        };
        g.for_pieces(loops_for(isa), range, most, [&](const float* values, i64 from, Range piece) {
            if (pending + (piece.end - piece.begin) > most) flush();
            pending += piece.end - piece.begin;
            job.g = values;
            job.g_from = from;
            in_groups(loops_for(isa), piece,
                      [&](const Loops& loops, Range part) { loops.encode_gradient(job, part); });
        });
        flush();
#pragma omp critical(qbench_gradient_sums)
        for (i64 c = 0; c < 2 * channels; ++c) sums[c] += mine[static_cast<std::size_t>(c)];
    });
}

}  // namespace qbench

using namespace qbench;

QBENCH_EXPORT void qbench_encode_affine_view(
    const u8* codes, i64 n, i64 channels, const float* slope, const float* offset, int relu, const float* low,
    const float* high, int bits, int integer_zero_point, u32 seed, u32 tensor, u32 step, int generator, const i64* at,
    const float* values, i64 count, void* out, float* scale, float* zero, int threads, int isa) {
    EncodeJob parameters;
    set_affine(parameters, *low, *high, bits, integer_zero_point != 0);
    *scale = parameters.scale;
    *zero = parameters.zero;
    if (!n) return;
    ViewTables tables(slope, offset, channels, 1);
    EncodeJob job = encode_job(codes, tables, relu, {seed, tensor, step}, out);
    set_affine(job, *low, *high, bits, integer_zero_point != 0);
    job.rule = drawing_rule(generator);
    encode_view(job, n, at, values, count, threads, isa);
}

QBENCH_EXPORT void qbench_encode_scaled_view(
    const u8* codes, i64 n, i64 channels, const float* slope, const float* offset, int relu, const float* magnitude,
    i64 numbers, int kind, double divisor, double low, double high, int rule, u32 seed, u32 tensor, u32 step, int type,
    const i64* at, const float* values, i64 count, void* out, float* scale, int threads, int isa) {
    *scale = scale_of(magnitude, numbers, kind, static_cast<float>(divisor));
    if (!n) return;
    ViewTables tables(slope, offset, channels, 1);
    EncodeJob job = encode_job(codes, tables, relu, {seed, tensor, step}, out);
    job.rule = rule;
    job.scale = *scale;
    set_limits(job, low, high, type);
    if (encode_view(job, n, at, values, count, threads, isa)) *scale = NAN;
}

// table: NULL to read codes as numbers. mask: written with relu.
QBENCH_EXPORT void qbench_view(
    const u8* codes, i64 n, i64 channels, const float* table, i64 entries, const float* slope, const float* offset,
    int relu, const float* trunk, float* value, u8* mask, float* extremes, int threads, int isa) {
    if (!n) return finish_extremes(no_extremes(), 0, extremes);
    ViewTables tables(slope, offset, channels, 1);
    const Table padded(table, table ? entries : 0);
    ViewJob job = view_job(codes, tables, relu);
    job.table = table ? padded.values : nullptr;
    job.entries = static_cast<int>(entries);
    job.trunk = trunk;
    job.value = value;
    job.mask = mask;
    const auto part = [&](const Loops& loops, Range range) { return loops.view(job, range); };
    finish_extremes(extremes_of(threads, n, isa, part), n, extremes);
}

QBENCH_EXPORT void qbench_apply_mask(
    const float* g, i64 n, const u8* mask, float* out, float* extremes, int threads, int isa) {
    const auto part = [&](const Loops& loops, Range range) { return loops.apply_mask(g, mask, out, range); };
    finish_extremes(extremes_of(threads, n, isa, part), n, extremes);
}

// trunk: may be null.
QBENCH_EXPORT void qbench_rectify(
    const float* x, i64 n, const float* trunk, float* value, u8* mask, float* extremes, int threads, int isa) {
    const auto part = [&](const Loops& loops, Range range) { return loops.rectify(x, trunk, value, mask, range); };
    finish_extremes(extremes_of(threads, n, isa, part), n, extremes);
}

// g, mask: may be null.
QBENCH_EXPORT void qbench_join_gradients(
    const void* codes, int type, i64 n, const float* scale, const float* g, const u8* mask, float* out, int threads,
    int isa) {
    JoinJob job;
    job.codes = codes;
    job.type = type;
    job.scale = *scale;
    job.g = g;
    job.mask = mask;
    job.out = out;
    for_elements(threads, n, isa, [&](const Loops& loops, Range range) { loops.join_gradients(job, range); });
}

QBENCH_EXPORT void qbench_view_gradient_extremes(
    const float* g, const u8* codes, i64 n, i64 channels, const float* slope, const float* offset, int relu, float* out,
    int threads, int isa) {
    gradient_extremes(Gradient(g), codes, n, channels, slope, offset, relu != 0, out, threads, isa);
}

QBENCH_EXPORT void qbench_encode_view_gradient(
    const float* g, u8* codes, i64 n, i64 channels, const float* slope, const float* offset, int relu, const float* low,
    const float* high, int bits, int integer_zero_point, u32 seed, u32 tensor, u32 step, int generator, float* scale,
    float* zero, i64* sums, int threads, int isa) {
    EncodeJob encode;
    set_affine(encode, *low, *high, bits, integer_zero_point != 0);
    encode.rule = drawing_rule(generator);
    encode.key = {seed, tensor, step};
    *scale = encode.scale;
    *zero = encode.zero;
    encode_gradient(Gradient(g), codes, n, channels, slope, offset, relu != 0, encode, sums, threads, isa);
}

// (a * m + b) + c * table[code] with the masked gradient m.
QBENCH_EXPORT void qbench_level_gradient(
    const float* g, const u8* codes, i64 n, i64 channels, const float* table, i64 entries, const float* slope,
    const float* offset, int relu, const float* a, const float* b, const float* c, float* out, int threads, int isa) {
    if (!n) return;
    ViewTables tables(slope, offset, channels, 1);
    const Table padded(table, entries);
    auto as = repeated(a, channels, tables.period), bs = repeated(b, channels, tables.period),
               cs = repeated(c, channels, tables.period);
    GradientJob job;
    job.view = view_job(codes, tables, relu);
    job.view.table = padded.values;
    job.view.entries = static_cast<int>(entries);
    job.g = g;
    job.a = as.data();
    job.b = bs.data();
    job.c = cs.data();
    job.out = out;
    for_elements(threads, n, isa, [&](const Loops& loops, Range range) { loops.level_gradient(job, range); });
}
