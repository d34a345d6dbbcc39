// Codes, and norms on direct grids, seen through a view: as the loops take them.
#pragma once

#include "jobs.h"

namespace qbench {

// Slope and offset per channel as tables, for `width` elements or more.
struct ViewTables {
    i64 period;
    Aligned<float> slope, offset;

    ViewTables(const float* slopes, const float* offsets, i64 channels, i64 width)
        : period(period_of(channels, width)),
          slope(repeated(slopes, channels, period)),
          offset(repeated(offsets, channels, period)) {}
};

inline ViewJob view_job(const u8* codes, ViewTables& tables, int relu) {
    ViewJob job;
    job.codes = codes;
    job.slope = tables.slope.data();
    job.offset = tables.offset.data();
    job.period = tables.period;
    job.relu = relu != 0;
    return job;
}

// The vectors per channel as tables, for `width` elements or more.
struct DirectTables {
    i64 period;
    Aligned<float> mean, inverse, slope, offset;

    DirectTables(const float* means, const float* inverses, const float* slopes, const float* offsets, i64 channels,
                 i64 width)
        : period(period_of(channels, width)), mean(repeated(means, channels, period)),
          inverse(repeated(inverses, channels, period)), slope(repeated(slopes, channels, period)),
          offset(repeated(offsets, channels, period)) {}
};

inline DirectJob direct_job(const float* x, DirectTables& tables, double unit, double top, int relu) {
    DirectJob job;
    job.x = x;
    job.mean = tables.mean.data();
    job.inverse = tables.inverse.data();
    job.slope = tables.slope.data();
    job.offset = tables.offset.data();
    job.period = tables.period;
    job.unit = static_cast<float>(unit);
    job.top = static_cast<float>(top);
    job.relu = relu != 0;
    return job;
}

}  // namespace qbench
