// Reductions of columns: what qbench/kernels/cpu/passes.py calls. Integers are exact; for sums of doubles see sums.h.
#include <algorithm>

#include "encode.h"
#include "sums.h"

namespace qbench {
namespace {

constexpr i64 VECTOR_BYTES = 64;  // the longest vector of bytes

template <class T>
using Array = std::vector<T>;

std::size_t size(i64 count) { return static_cast<std::size_t>(count); }

// Lowest and highest codes of the channels and the rows, counted from the start of the tensor, that have them first.
struct Ends {
    u8 *lows, *highs;
    i64 *low_at, *high_at;

    void take(i64 c, u8 low, i64 low_row, u8 high, i64 high_row) const {
        if (low < lows[c] || (low == lows[c] && low_row < low_at[c])) {
            lows[c] = low;
            low_at[c] = low_row;
        }
        if (high > highs[c] || (high == highs[c] && high_row < high_at[c])) {
            highs[c] = high;
            high_at[c] = high_row;
        }
    }
};

// Statistics of ranges of rows, at least one row each.
class Statistics {
public:
    Statistics(const u8* codes, i64 channels, const Loops& loops)
        : codes_(codes), channels_(channels), period_(period_of(channels, VECTOR_BYTES)), loops_(loops),
          lows_(size(period_)), highs_(size(period_)), low_at_(size(period_)), high_at_(size(period_)),
          sums_(size(period_)) {}

    // Sets the ends, adds to the sums.
    void take_rows(Range rows, const Ends& ends, i64* sums) {
        for (i64 c = 0; c < channels_; ++c) {
            ends.lows[c] = ends.highs[c] = codes_[rows.begin * channels_ + c];
            ends.low_at[c] = ends.high_at[c] = rows.begin;
        }
        const i64 together = period_ / channels_, long_rows = (rows.end - rows.begin) / together;
        if (long_rows) take_long_rows(rows.begin, long_rows, ends, sums);
        for (i64 row = rows.begin + long_rows * together; row < rows.end; ++row)
            for (i64 c = 0; c < channels_; ++c) {
                const u8 code = codes_[row * channels_ + c];
                ends.take(c, code, row, code, row);
                sums[c] += code;
            }
    }

private:
    const u8* codes_;
    i64 channels_, period_;
    const Loops& loops_;
    Array<u8> lows_, highs_;
    Array<i64> low_at_, high_at_, sums_;

    // Several rows side by side make one that is at least as long as a vector.
    void take_long_rows(i64 begin, i64 rows, const Ends& ends, i64* sums) {
        loops_.column_statistics({codes_ + begin * channels_, rows, period_, lows_.data(), highs_.data(),
                                  low_at_.data(), high_at_.data(), sums_.data()});
        const i64 together = period_ / channels_;
        for (i64 k = 0, place = 0; k < together; ++k)
            for (i64 c = 0; c < channels_; ++c, ++place) {
                const std::size_t p = size(place);
                ends.take(c, lows_[p], begin + low_at_[p] * together + k, highs_[p], begin + high_at_[p] * together + k);
                sums[c] += sums_[p];
            }
    }
};

// The ends of the part of a chunk that one thread meets after another thread has begun the chunk.
struct Remainder {
    i64 chunk = -1;
    Array<u8> lows, highs;
    Array<i64> low_at, high_at;

    Ends ends(i64 channels) {
        lows.resize(size(channels));
        highs.resize(size(channels));
        low_at.resize(size(channels));
        high_at.resize(size(channels));
        return {lows.data(), highs.data(), low_at.data(), high_at.data()};
    }
};

// Extremes of the places of a table, per thread; NaN does not show in them.
struct PlaceExtremes {
    Aligned<float> lows, highs;

    explicit PlaceExtremes(i64 places) : lows(places), highs(places) {
        for (i64 p = 0; p < places; ++p) {
            lows.data()[p] = INFINITY;
            highs.data()[p] = -INFINITY;
        }
    }
};

bool column_has_nan(const float* x, i64 rows, i64 channels, i64 c) {
    for (i64 row = 0; row < rows; ++row)
        if (std::isnan(x[row * channels + c])) return true;
    return false;
}

}  // namespace
}  // namespace qbench

using namespace qbench;

// sums [channels]; lows, highs, low_at, high_at [chunks, channels]. chunks divides rows.
QBENCH_EXPORT void qbench_chunk_statistics(
    const u8* codes, i64 rows, i64 channels, i64 chunks, i64* sums, u8* lows, u8* highs, i64* low_at, i64* high_at,
    int threads, int isa) {
    std::fill_n(sums, channels, 0);
    if (!rows || !channels) return;
    const Loops& loops = loops_for(isa);
    const i64 height = rows / chunks;
    const int parts = useful_threads(threads, rows * channels);
    const auto ends_of = [&](i64 chunk) -> Ends {
        const i64 from = chunk * channels;
        return {lows + from, highs + from, low_at + from, high_at + from};
    };
    Array<Remainder> remainders(size(parts));
    in_parts(parts, rows, 1, [&](int part, Range share) {
        Statistics statistics(codes, channels, loops);
        Array<i64> mine(size(channels));
        for (i64 begin = share.begin; begin < share.end;) {
            const i64 chunk = begin / height, chunk_end = (chunk + 1) * height;
            const i64 end = chunk_end < share.end ? chunk_end : share.end;
            const bool starts_chunk = begin == chunk * height;
            Remainder& remainder = remainders[size(part)];
            if (!starts_chunk) remainder.chunk = chunk;
            statistics.take_rows({begin, end}, starts_chunk ? ends_of(chunk) : remainder.ends(channels), mine.data());
            begin = end;
        }
#pragma omp critical(qbench_statistics)
        for (i64 c = 0; c < channels; ++c) sums[c] += mine[size(c)];
    });
    for (Remainder& remainder : remainders) {
        if (remainder.chunk < 0) continue;
        const Ends ends = ends_of(remainder.chunk);
        for (i64 c = 0; c < channels; ++c) {
            const std::size_t p = size(c);
            ends.take(c, remainder.lows[p], remainder.low_at[p], remainder.highs[p], remainder.high_at[p]);
        }
    }
}

// mean, variance, lows, highs [channels].
// correction: from the biased to the unbiased variance. All others [channels].
QBENCH_EXPORT void qbench_level_line(
    i64 channels, const double* mean, const double* variance, const float* weight, const float* bias, double correction,
    double eps, float* used, float* inverse, float* slope, float* offset, float* unbiased, int, int) {
    for (i64 c = 0; c < channels; ++c) {
        used[c] = static_cast<float>(mean[c]);
        inverse[c] = static_cast<float>(1 / std::sqrt(variance[c] + eps));
        slope[c] = weight[c];
        offset[c] = bias[c] + 0 * inverse[c];
        unbiased[c] = static_cast<float>(variance[c] * correction);
    }
}

// sums [2, channels]: of m and m * level.
QBENCH_EXPORT void qbench_level_gradient_line(
    i64 channels, const double* sums, i64 rows, const float* inverse, const float* weight, float* grad_weight,
    float* grad_bias, float* a, float* b, float* c, int, int) {
    const double count = static_cast<double>(rows);
    for (i64 p = 0; p < channels; ++p) {
        const double slope = static_cast<double>(weight[p]) * inverse[p];
        grad_weight[p] = static_cast<float>(sums[channels + p]);
        grad_bias[p] = static_cast<float>(sums[p]);
        a[p] = static_cast<float>(slope);
        b[p] = static_cast<float>(-(slope * sums[p]) / count);
        c[p] = static_cast<float>(-(slope * sums[channels + p]) / count);
    }
}

// Of a few channels: one thread, and no vectors of our own.
QBENCH_EXPORT void qbench_move_average(
    float* average, i64 n, const void* values, int is_double, double given_weight, int, int) {
    const float weight = static_cast<float>(given_weight), rest = static_cast<float>(1 - given_weight);
    for (i64 i = 0; i < n; ++i) {
        const float value =
            is_double ? static_cast<float>(static_cast<const double*>(values)[i]) : static_cast<const float*>(values)[i];
        const float step = value - average[i];
        average[i] = given_weight < 0.5 ? average[i] + weight * step : value - rest * step;
    }
}

QBENCH_EXPORT void qbench_moments(
    const float* x, i64 rows, i64 channels, double* mean, double* variance, float* lows, float* highs, int threads,
    int isa) {
    const i64 period = channels ? period_of(channels, VECTOR_BYTES) : 0, places = period + TABLE_MARGIN;
    if (!rows || !channels) {
        for (i64 c = 0; c < channels; ++c) mean[c] = variance[c] = lows[c] = highs[c] = 0;
        return;
    }
    // Deviations from the first row keep the digits that squares of values far from zero would lose.
    Array<float> first_row(x, x + channels);
    for (float& value : first_row)
        if (!std::isfinite(value)) value = 0;
    auto shift = repeated(first_row.data(), channels, period);
    const int parts = useful_threads(threads, rows * channels);
    Array<PlaceExtremes> extremes;
    for (int part = 0; part < parts; ++part) extremes.emplace_back(places);
    Array<double> sums(size(2 * channels));
    sum_blocks<2>(rows, channels, period, sums.data(), parts, [&](Range range, double* const* tables, int thread) {
        PlaceExtremes& mine = extremes[size(thread)];
        SumsJob job;
        job.x = x;
        job.shift = shift.data();
        job.period = period;
        job.first = tables[0];
        job.second = tables[1];
        job.lows = mine.lows.data();
        job.highs = mine.highs.data();
        in_groups(loops_for(isa), {range.begin * channels, range.end * channels},
                  [&](const Loops& loops, Range elements) { loops.moments(job, elements); });
    });
    for (i64 c = 0; c < channels; ++c) {
        const double deviation = sums[size(c)] / (double)rows, square = sums[size(channels + c)] / (double)rows;
        const double spread = square - deviation * deviation;
        mean[c] = first_row[size(c)] + deviation;
        variance[c] = spread < 0 ? 0 : spread;
        Extremes all = no_extremes();
        for (PlaceExtremes& part : extremes)
            for (i64 p = c; p < places; p += channels)
                all = joined(all, {part.lows.data()[p], part.highs.data()[p], false});
        const bool nan = std::isnan(deviation) && column_has_nan(x, rows, channels, c);
        lows[c] = nan ? NAN : all.low;
        highs[c] = nan ? NAN : all.high;
    }
}

// sums [2, channels]: of m and of m * table[code].
QBENCH_EXPORT void qbench_level_gradient_sums(
    const float* g, const u8* codes, i64 rows, i64 channels, const float* table, i64 entries, const float* slope,
    const float* offset, int relu, double* sums, int threads, int isa) {
    if (!rows || !channels) {
        std::fill_n(sums, 2 * channels, 0.0);
        return;
    }
    const i64 period = period_of(channels, VECTOR_BYTES);
    auto slopes = repeated(slope, channels, period), offsets = repeated(offset, channels, period);
    const Table padded(table, entries);
    GradientJob job;
    job.view.codes = codes;
    job.view.table = padded.values;
    job.view.entries = static_cast<int>(entries);
    job.view.slope = slopes.data();
    job.view.offset = offsets.data();
    job.view.period = period;
    job.view.relu = relu != 0;
    job.g = g;
    const int parts = useful_threads(threads, rows * channels);
    sum_blocks<2>(rows, channels, period, sums, parts, [&](Range range, double* const* tables, int) {
        SumsJob added;
        added.gradient = &job;
        added.period = period;
        added.first = tables[0];
        added.second = tables[1];
        in_groups(loops_for(isa), {range.begin * channels, range.end * channels},
                  [&](const Loops& loops, Range elements) { loops.gradient_sums(added, elements); });
    });
}
