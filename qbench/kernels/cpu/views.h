// Codes seen through a view, as the loops take them.
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

}  // namespace qbench
