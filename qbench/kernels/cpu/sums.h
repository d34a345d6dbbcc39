// Sums of columns in float64, over blocks of rows whose size depends on the shape alone: the number of threads changes
// no bit of them.
#pragma once

#include "jobs.h"

namespace qbench {

// Rows of a block of sums: few enough blocks to add up, rows enough to hide what a block costs.
inline i64 block_rows(i64 rows) {
    constexpr i64 FEWEST = 256, BLOCKS = 256;
    const i64 even = (rows + BLOCKS - 1) / BLOCKS;
    return even > FEWEST ? even : FEWEST;
}

// out[c] += the sum over its places of a table.
inline void fold(const double* places, i64 count, i64 channels, double* out) {
    for (i64 p = 0, c = 0; p < count; ++p) {
        out[c] += places[p];
        if (++c == channels) c = 0;
    }
}

// sums [SUMS, channels]: what body(rows, SUMS tables, thread) adds to the tables' places.
template <int SUMS, class Body>
void sum_blocks(i64 rows, i64 channels, i64 period, double* sums, int threads, const Body& body) {
    const i64 height = block_rows(rows), blocks = (rows + height - 1) / height, places = period + TABLE_MARGIN;
    const i64 width = SUMS * channels;
    std::vector<double> partial(static_cast<std::size_t>(blocks * width));
    in_parts(threads, blocks, 1, [&](int thread, Range share) {
        std::vector<Aligned<double>> tables;
        double* data[SUMS];
        for (int k = 0; k < SUMS; ++k) tables.emplace_back(places);
        for (int k = 0; k < SUMS; ++k) data[k] = tables[static_cast<std::size_t>(k)].data();
        for (i64 b = share.begin; b < share.end; ++b) {
            for (Aligned<double>& table : tables) table.clear();
            body(Range{b * height, b * height + height < rows ? b * height + height : rows}, data, thread);
            for (int k = 0; k < SUMS; ++k)
                fold(data[k], places, channels, &partial[static_cast<std::size_t>(b * width + k * channels)]);
        }
    });
    std::memset(sums, 0, static_cast<std::size_t>(width) * sizeof(double));
    for (i64 b = 0; b < blocks; ++b)
        for (i64 c = 0; c < width; ++c) sums[c] += partial[static_cast<std::size_t>(b * width + c)];
}

}  // namespace qbench
