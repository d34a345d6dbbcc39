// What becomes of the sums of a weight gradient's jobs. Included inside each instruction set's namespace.

template <class Isa>
struct WgradReduction {
    static constexpr std::int64_t rows = Isa::rows, columns = Isa::columns, tile_size = rows * columns;

    const WgradPlan& p;
    const WgradSums* of_jobs;
    const Target& target;
    const WgradSizes size;
    alignas(64) std::int64_t totals[tile_size];
    alignas(64) float values[tile_size];

    WgradReduction(const WgradPlan& plan, const WgradSums* sums, const Target& to)
        : p(plan), of_jobs(sums), target(to), size(plan, rows, columns) {}

    struct Tile {
        std::int64_t part, local, group, tap, block, column;
    };

    void panel(std::int64_t index) {
        const std::int64_t group = index / size.panels, column = index % size.panels * columns;
        const std::int64_t cols = p.out_group - column < columns ? p.out_group - column : columns;
        const std::int64_t all = size.panels * p.groups, length = p.taps_x * p.in_group;
        std::int64_t part = 0;
        while (all * (part + 1) / p.parts_panels <= index) ++part;
        const std::int64_t local = (index - all * part / p.parts_panels) * size.panel;
        for (std::int64_t r = 0; r < p.taps_y; ++r) {
            for (std::int64_t block = 0; block < size.blocks; ++block) {
                const std::int64_t first = block * rows, count = length - first < rows ? length - first : rows;
                add_up({part, local, group, r, block, column});
                const std::int64_t place = ((group * p.out_group + column) * p.taps_y + r) * length + first;
                if (target.kind == RESULT_LINE) {
                    const std::int64_t* const met = target.met + (group * p.taps_y + r) * length + first;
                    write_line(place, p.taps_y * length, group * p.out_group + column, met, count, cols);
                } else {
                    write(place, p.taps_y * length, count, cols);
                }
            }
        }
    }

    // A tile's totals over all jobs and digits. int32 results are exact modulo 2^32 only, so int64 may wrap here.
    void add_up(const Tile& t) {
        fill(totals, tile_size, std::int64_t{0});
        for (int da = 0; da < p.a.digits; ++da) {
            for (int db = 0; db < p.b.digits; ++db) {
                const std::int64_t pair = ((t.block * p.taps_y + t.tap) * p.a.digits + da) * p.b.digits + db;
                const std::int64_t at = t.local + pair * tile_size;
                for (std::int64_t i = 0; i < p.parts_rows; ++i) {
                    const WgradSums& s = of_jobs[i * p.parts_panels + t.part];
                    if (p.limit) {
                        add(s.wide + at, 8 * (da + db));
                    } else {
                        add(s.narrow + at, 8 * (da + db));
                    }
                    if constexpr (Isa::raw) take_zeros(t, s, i == 0, da, db);
                }
            }
        }
    }

    template <class Sum>
    void add(const Sum* from, int shift) {
        for (std::int64_t i = 0; i < tile_size; ++i) {
            const auto sum = static_cast<std::uint64_t>(static_cast<std::int64_t>(from[i]));
            totals[i] = static_cast<std::int64_t>(static_cast<std::uint64_t>(totals[i]) + (sum << shift));
        }
    }

    // Takes the zero points of raw digits off one job's sums.
    void take_zeros(const Tile& t, const WgradSums& s, bool first, int da, int db) {
        const std::int64_t padded = size.blocks * rows, panels = size.panels * columns;
        const std::int64_t za = p.a.digit_zero[da], zb = p.b.digit_zero[db], factor = std::int64_t{1} << 8 * (da + db);
        const std::int64_t* of_row = s.row_sums + ((da * p.groups + t.group) * p.taps_y + t.tap) * padded + t.block * rows;
        const std::int64_t* of_column = s.column_sums + (db * p.groups + t.group) * panels + t.column;
        const std::int64_t constant = first ? p.images * p.out_h * p.out_w * za * zb : 0;
        alignas(64) std::int64_t column[columns];
        for (std::int64_t n = 0; n < columns; ++n) column[n] = (constant - za * of_column[n]) * factor;
        for (std::int64_t m = 0; m < rows; ++m) {
            const std::int64_t row = zb * of_row[m] * factor;
            for (std::int64_t n = 0; n < columns; ++n) totals[m * columns + n] += column[n] - row;
        }
    }

    // The first `count` rows of `cols` columns: a column's lie next to each other, columns `filter` elements apart.
    template <class To, class From>
    void transpose(std::int64_t place, std::int64_t filter, std::int64_t count, std::int64_t cols, const From* from) {
        To* to = static_cast<To*>(target.data) + place;
        for (std::int64_t n = 0; n < cols; ++n, to += filter) {
            if (count == rows) {
                for (std::int64_t m = 0; m < rows; ++m) to[m] = static_cast<To>(from[m * columns + n]);
            } else {
                for (std::int64_t m = 0; m < count; ++m) to[m] = static_cast<To>(from[m * columns + n]);
            }
        }
    }

    // first_filter: of the tile. met: what the rows of the tile met. What the extremes met lies where results come.
    void write_line(std::int64_t place, std::int64_t filter, std::int64_t first_filter, const std::int64_t* met,
                    std::int64_t count, std::int64_t cols) {
        alignas(64) std::int32_t pulled[tile_size];
        const float* from = static_cast<const float*>(target.data) + place;
        for (std::int64_t n = 0; n < cols; ++n, from += filter) {
            for (std::int64_t m = 0; m < count; ++m) __builtin_memcpy(pulled + m * columns + n, from + m, 4);
        }
        const float *const slope = target.slope + first_filter, *const pull = target.pull + first_filter;
        const double* const mean = target.mean + first_filter;
        for (std::int64_t m = 0; m < count; ++m) {
            const double pixels = static_cast<double>(met[m]);
            for (std::int64_t n = 0; n < cols; ++n) {
                const std::int64_t at = m * columns + n;
                const double sum = static_cast<double>(totals[at] + LINE_MIDDLE * met[m]);
                const double line = slope[n] * (sum - mean[n] * pixels) + pull[n] * static_cast<double>(pulled[at]);
                values[at] = static_cast<float>(line) * target.first_scale;
            }
        }
        transpose<float>(place, filter, count, cols, values);
    }

    void write(std::int64_t place, std::int64_t filter, std::int64_t count, std::int64_t cols) {
        if (target.kind == RESULT_INT32) return transpose<std::int32_t>(place, filter, count, cols, totals);
        if (target.kind == RESULT_INT64) return transpose<std::int64_t>(place, filter, count, cols, totals);
        const float first = target.first_scale, second = *target.second_scale;
        for (std::int64_t i = 0; i < tile_size; ++i) {
            const float scaled = static_cast<float>(totals[i]) * first;
            values[i] = scaled * second;
        }
        transpose<float>(place, filter, count, cols, values);
    }
};

template <class Isa>
void wgrad_reduce(const WgradPlan& p, const WgradSums* of_jobs, const Target& target, std::int64_t panel) {
    WgradReduction<Isa>(p, of_jobs, target).panel(panel);
}
