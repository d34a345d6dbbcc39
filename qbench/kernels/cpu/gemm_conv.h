// A job of a convolution, a matrix product or an input gradient. Included inside each instruction set's namespace.

template <class Isa>
struct ConvJob {
    using A = typename Isa::A;
    using B = typename Isa::B;
    static constexpr std::int64_t columns = Isa::columns, tile_rows = Isa::rows;

    const ConvPlan& p;
    const Job& job;
    std::int64_t image_rows, image_cols, plane;  // of the prepared part of an image; elements of one digit
    A* images;
    std::int64_t* row_part;                      // per output of the current phase
    alignas(64) std::int32_t sums[tile_rows * columns];
    alignas(64) std::int64_t totals[tile_rows * columns];
    alignas(64) std::int64_t column_part[columns];
    Range<columns> range;

    ConvJob(const ConvPlan& plan, std::int64_t index, void* scratch) : p(plan), job(plan.jobs[index]) {
        image_rows = (job.row[1] - job.row[0] - 1) * p.step_y + p.high_y - p.low_y + 1;
        image_cols = (job.col[1] - job.col[0] - 1) * p.step_x + p.high_x - p.low_x + 1;
        plane = (job.image[1] - job.image[0]) * image_rows * image_cols * p.channels;
        const std::int64_t outputs = (job.image[1] - job.image[0]) * (job.row[1] - job.row[0]) * (job.col[1] - job.col[0]);
        row_part = static_cast<std::int64_t*>(scratch);
        images = reinterpret_cast<A*>(row_part + round_up(outputs, 8));
        range.clear();
    }

    void prepare() {
        const std::int64_t left = job.col[0] * p.step_x + p.low_x, top = job.row[0] * p.step_y + p.low_y;
        for (int digit = 0; digit < p.a.digits; ++digit) {
            A* to = images + digit * plane;
            for (std::int64_t n = job.image[0]; n < job.image[1]; ++n) {
                for (std::int64_t y = 0; y < image_rows; ++y, to += image_cols * p.channels) {
                    prepare_row(p.a, digit, p.channels, p.height, p.width, n, top + y, left, image_cols, to);
                }
            }
        }
        fill(images + p.a.digits * plane, SLACK / static_cast<std::int64_t>(sizeof(A)), A{0});
    }

    // body(image, row, first column, its output's index in row_part, prepared element of its window, outputs)
    template <class Body>
    void for_blocks(const Phase& phase, const Body& body) {
        const std::int64_t last_row = job.row[1] < phase.rows ? job.row[1] : phase.rows;
        const std::int64_t last_col = job.col[1] < phase.cols ? job.col[1] : phase.cols;
        const std::int64_t cols = last_col - job.col[0];
        if (cols <= 0) return;
        const std::int64_t blocks = pieces(cols, tile_rows);
        std::int64_t output = 0;
        for (std::int64_t n = job.image[0]; n < job.image[1]; ++n) {
            for (std::int64_t y = job.row[0]; y < last_row; ++y) {
                const std::int64_t line = (n - job.image[0]) * image_rows + (y - job.row[0]) * p.step_y;
                for (std::int64_t block = 0; block < blocks; ++block) {
                    const std::int64_t x = cols * block / blocks, end = cols * (block + 1) / blocks;
                    const A* at = images + (line * image_cols + x * p.step_x) * p.channels;
                    body(n, y, job.col[0] + x, output, at, end - x);
                    output += end - x;
                }
            }
        }
    }

    // Sums of the prepared elements in each output's window, times the zero points of the filters' digits.
    void sum_rows(const Phase& phase, std::int64_t group) {
        std::int64_t factor = 0;
        for (int d = 0; d < p.b.digits; ++d) factor += static_cast<std::int64_t>(p.b.digit_zero[d]) * (1 << 8 * d);
        for_blocks(phase, [&](auto, auto, auto, std::int64_t output, const A* at, std::int64_t outputs) {
            for (std::int64_t m = 0; m < outputs; ++m) {
                std::int64_t total = 0;
                for (int digit = 0; digit < p.a.digits; ++digit) {
                    const A* window = at + digit * plane + m * p.step_x * p.channels + group * p.in_group;
                    std::int64_t sum = 0;
                    for (std::int64_t r = 0; r < phase.run_count; ++r) {
                        const Run& run = phase.runs[r];
                        sum += sum_of(window + run.a, run.taps * p.in_group);
                    }
                    total += sum * (1 << 8 * digit);
                }
                row_part[output + m] = -factor * total;
            }
        });
    }

    static std::int64_t sum_of(const A* values, std::int64_t count) {
        std::int32_t sum = 0;
        for (std::int64_t i = 0; i < count; ++i) sum += values[i];
        return sum;
    }

    // Zero points times the column sums of the panel's digits, plus the products of the zero points.
    void prepare_columns(const Phase& phase, std::int64_t place, std::int64_t cols) {
        fill(column_part, columns, std::int64_t{0});
        for (int da = 0; da < p.a.digits; ++da) {
            for (int db = 0; db < p.b.digits; ++db) {
                const std::int64_t* column_sums = p.column_sums + phase.sums + place + db * p.padded_columns;
                const std::int64_t za = p.a.digit_zero[da], zb = p.b.digit_zero[db];
                for (std::int64_t n = 0; n < cols; ++n) {
                    column_part[n] += (phase.terms * za * zb - za * column_sums[n]) * (1 << 8 * (da + db));
                }
            }
        }
    }

    void panel(const Phase& phase, std::int64_t group, std::int64_t column, bool rows_matter) {
        const std::int64_t cols = p.out_group - column < columns ? p.out_group - column : columns;
        const std::int64_t width = round_up(cols, Isa::lanes), vectors = width / Isa::lanes;
        const std::int64_t place = group * p.b.digits * p.padded_columns + column;
        const B* packed = static_cast<const B*>(p.packed) + phase.packed + place * phase.units * Isa::unit;
        const std::int64_t digit_step = p.padded_columns * phase.units * Isa::unit;
        const std::int64_t first = group * p.out_group + column;
        if constexpr (Isa::raw) prepare_columns(phase, place, cols);
        Range<columns>* seen = p.extremes ? &range : nullptr;
        for_blocks(phase, [&](std::int64_t n, std::int64_t y, std::int64_t x, std::int64_t output, const A* at,
                              std::int64_t outputs) {
            at += group * p.in_group;
            const std::int64_t* rows = rows_matter ? row_part + output : nullptr;
            std::int64_t place_out = n * p.target.stride[0] + (y * p.out_step_y + phase.out_y) * p.target.stride[1] +
                                     (x * p.out_step_x + phase.out_x) * p.target.stride[2];
            const std::int64_t step = p.out_step_x * p.target.stride[2];
            if (p.narrow) {
                Isa::Tiles::image(outputs, at, p.step_x * p.channels, packed, phase.chunks->segments,
                                  phase.chunks->count, vectors, sums);
                if constexpr (Isa::raw) correct(sums, outputs, cols, columns, rows, column_part);
                put_tile<Isa>(p.target, place_out, step, first, sums, outputs, cols, seen);
            } else {
                total(phase, at, packed, digit_step, outputs, vectors);
                if constexpr (Isa::raw) correct(totals, outputs, cols, columns, rows, column_part);
                for (std::int64_t m = 0; m < outputs; ++m, place_out += step) {
                    put<std::int64_t, columns>(p.target, place_out, first, totals + m * columns, cols, seen);
                }
            }
        });
    }

    // Sums of all digits and chunks in int64.
    void total(const Phase& phase, const A* at, const B* packed, std::int64_t digit_step, std::int64_t outputs,
               std::int64_t vectors) {
        fill(totals, tile_rows * columns, std::int64_t{0});
        for (int da = 0; da < p.a.digits; ++da) {
            for (int db = 0; db < p.b.digits; ++db) {
                for (std::int64_t c = 0; c < phase.chunk_count; ++c) {
                    const Chunk& chunk = phase.chunks[c];
                    Isa::Tiles::image(outputs, at + da * plane, p.step_x * p.channels, packed + db * digit_step,
                                      chunk.segments, chunk.count, vectors, sums);
                    widen(sums, outputs, vectors * Isa::lanes, columns, 8 * (da + db), totals);
                }
            }
        }
    }

    void run() {
        prepare();
        bool rows_matter = false;
        for (int d = 0; d < p.b.digits; ++d) rows_matter |= Isa::raw && p.b.digit_zero[d] != 0;
        Isa::Tiles::begin();
        for (std::int64_t f = 0; f < p.phase_count; ++f) {
            for (std::int64_t group = 0; group < p.groups; ++group) {
                if (rows_matter) sum_rows(p.phases[f], group);
                for (std::int64_t column = 0; column < p.out_group; column += columns) {
                    panel(p.phases[f], group, column, rows_matter);
                }
            }
        }
        Isa::Tiles::end();
    }
};

template <class Isa>
void conv_job(const ConvPlan& p, std::int64_t index, void* scratch) {
    ConvJob<Isa> job(p, index, scratch);
    job.run();
    if (p.extremes) {
        Extremes all{__builtin_inff(), -__builtin_inff(), false};
        job.range.give(all);
        p.extremes[index] = all;
    }
}
