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
    void* row_part;                              // per output of the current phase
    void* pixel_sums;                            // per pixel of the prepared images
    std::int64_t summed_group = -1;              // whose pixels' sums those are
    alignas(64) std::int32_t sums[tile_rows * columns], digit_sums[tile_rows * columns];
    alignas(64) std::int64_t totals[tile_rows * columns];
    alignas(64) std::int64_t column_part[columns];
    alignas(64) std::uint32_t column_bits[columns];
    Range<columns> range;

    ConvJob(const ConvPlan& plan, std::int64_t index, void* scratch) : p(plan), job(plan.jobs[index]) {
        image_rows = (job.row[1] - job.row[0] - 1) * p.step_y + p.high_y - p.low_y + 1;
        image_cols = (job.col[1] - job.col[0] - 1) * p.step_x + p.high_x - p.low_x + 1;
        plane = (job.image[1] - job.image[0]) * image_rows * image_cols * p.channels;
        const std::int64_t outputs = (job.image[1] - job.image[0]) * (job.row[1] - job.row[0]) * (job.col[1] - job.col[0]);
        char* const free = static_cast<char*>(scratch);
        const std::int64_t of_outputs = 8 * round_up(outputs, 8), of_pixels = Isa::raw ? 8 * round_up(pixels(), 8) : 0;
        row_part = free;
        pixel_sums = free + of_outputs;
        images = reinterpret_cast<A*>(free + of_outputs + of_pixels);
        range.clear();
    }

    std::int64_t pixels() const { return (job.image[1] - job.image[0]) * image_rows * image_cols; }

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

    std::int64_t outputs_of_row(const Phase& phase) const {
        return (job.col[1] < phase.cols ? job.col[1] : phase.cols) - job.col[0];
    }

    // body(image, row, rows, index of their first output in row_part, prepared pixel of its window, outputs of a row)
    template <class Body>
    void for_rows(const Phase& phase, std::int64_t at_once, const Body& body) {
        const std::int64_t last_row = job.row[1] < phase.rows ? job.row[1] : phase.rows;
        const std::int64_t all = last_row - job.row[0], cols = outputs_of_row(phase), parts = pieces(all, at_once);
        if (cols <= 0) return;
        std::int64_t output = 0;
        for (std::int64_t n = job.image[0]; n < job.image[1]; ++n) {
            for (std::int64_t part = 0; part < parts; ++part) {
                const std::int64_t first = all * part / parts, rows = all * (part + 1) / parts - first;
                const std::int64_t line = (n - job.image[0]) * image_rows + first * p.step_y;
                body(n, job.row[0] + first, rows, output, line * image_cols, cols);
                output += rows * cols;
            }
        }
    }

    // From the first output of a row to that of the next one, in steps between neighbours in prepared pixels.
    std::int64_t row_pitch() const { return image_cols * p.step_y / p.step_x; }

    // Rows of outputs of a block. Tiles take as long for few rows as for many: a small image has them read together,
    // with the pixels between them, whose sums are ignored.
    std::int64_t rows_at_once(const Phase& phase) const {
        const std::int64_t cols = outputs_of_row(phase);
        if (!Isa::planar || cols > tile_rows || image_cols * p.step_y % p.step_x) return 1;
        return (tile_rows - cols) / row_pitch() + 1;
    }

    // body(image, row, rows, first column, its output's index in row_part, prepared element of its window, outputs of a
    // row); several rows are whole ones.
    template <class Body>
    void for_blocks(const Phase& phase, const Body& body) {
        for_rows(phase, rows_at_once(phase), [&](std::int64_t n, std::int64_t y, std::int64_t rows, std::int64_t output,
                                                 std::int64_t pixel, std::int64_t cols) {
            const std::int64_t blocks = pieces(cols, tile_rows);
            for (std::int64_t block = 0; block < blocks; ++block) {
                const std::int64_t x = cols * block / blocks, end = cols * (block + 1) / blocks;
                const A* at = images + (pixel + x * p.step_x) * p.channels;
                body(n, y, rows, job.col[0] + x, output + x, at, end - x);
            }
        });
    }

    // What follows computes with Sum: modulo 2^32 where results are narrow, else in int64.

    // Sums over a group's channels of the prepared elements of each pixel.
    template <class Sum>
    void sum_pixels(std::int64_t group) {
        if (summed_group == group) return;
        Sum* const to = static_cast<Sum*>(pixel_sums);
        fill(to, pixels(), Sum{0});
        for (int digit = 0; digit < p.a.digits; ++digit) {
            const A* const from = images + digit * plane + group * p.in_group;
            Isa::add_pixel_sums(from, p.channels, pixels(), p.in_group, 8 * digit, to);
        }
        summed_group = group;
    }

    // Sums over `taps` pixels that follow each other, in place of the first one's.
    template <class Sum>
    void join_pixels(std::int64_t taps) {
        Sum* const sums_of = static_cast<Sum*>(pixel_sums);
        const std::int64_t last = pixels() - taps;
        Sum sum = 0;
        for (std::int64_t t = 0; t < taps; ++t) sum += sums_of[t];
        for (std::int64_t i = 0; i <= last; ++i) {
            const Sum first = sums_of[i];
            sums_of[i] = sum;
            if (i < last) sum += sums_of[i + taps] - first;
        }
        summed_group = -1;
    }

    // Taps of all runs, where those are many and as many in each; else 1.
    static std::int64_t joined_taps(const Phase& phase) {
        constexpr std::int64_t FEW = 3;  // as quickly added for every output
        const std::int64_t taps = phase.run_count ? phase.runs[0].taps : 1;
        for (std::int64_t r = 1; r < phase.run_count; ++r) {
            if (phase.runs[r].taps != taps) return 1;
        }
        return taps > FEW ? taps : 1;
    }

    // Sums of the prepared elements in each output's window, times the zero points of the filters' digits.
    template <class Sum>
    void sum_rows(const Phase& phase, std::int64_t group) {
        std::int64_t factor = 0;
        for (int d = 0; d < p.b.digits; ++d) factor += static_cast<std::int64_t>(p.b.digit_zero[d]) * (1 << 8 * d);
        sum_pixels<Sum>(group);
        const std::int64_t joined = joined_taps(phase);
        if (joined > 1) join_pixels<Sum>(joined);
        for_rows(phase, 1, [&](auto, auto, auto, std::int64_t output, std::int64_t pixel, std::int64_t cols) {
            sum_windows(phase, joined, static_cast<Sum*>(pixel_sums) + pixel, cols, static_cast<Sum>(-factor),
                        static_cast<Sum*>(row_part) + output);
        });
    }

    // Sums of what is `joined` taps each, of outputs that follow each other, times a factor.
    template <class Sum>
    void sum_windows(const Phase& phase, std::int64_t joined, const Sum* first, std::int64_t cols, Sum factor,
                     Sum* to) const {
        constexpr std::int64_t bytes = 64, lanes = bytes / sizeof(Sum);
        using Bits = std::make_unsigned_t<Sum>;  // past the last pixel there are images, whose sums may wrap
        typedef Bits Many __attribute__((vector_size(bytes)));
        const std::int64_t at_once = (lanes - 1) / p.step_x + 1;
        for (std::int64_t m = 0; m < cols; m += at_once) {
            Many sum{}, next;
            for (std::int64_t r = 0; r < phase.run_count; ++r) {
                for (std::int64_t tap = 0; tap < phase.runs[r].taps; tap += joined) {
                    __builtin_memcpy(&next, first + m * p.step_x + phase.runs[r].pixel + tap, bytes);
                    sum += next;
                }
            }
            sum *= static_cast<Bits>(factor);
            const std::int64_t count = cols - m < at_once ? cols - m : at_once;
            if (count == lanes) {
                __builtin_memcpy(to + m, &sum, bytes);
            } else {
                for (std::int64_t j = 0; j < count; ++j) to[m + j] = static_cast<Sum>(sum[j * p.step_x]);
            }
        }
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
        for (std::int64_t n = 0; n < columns; ++n) column_bits[n] = static_cast<std::uint32_t>(column_part[n]);
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
        const std::int64_t pitch = row_pitch(), row_step = p.out_step_y * p.target.stride[1];
        for_blocks(phase, [&](std::int64_t n, std::int64_t y, std::int64_t rows, std::int64_t x, std::int64_t output,
                              const A* at, std::int64_t outputs) {
            at += group * p.in_group;
            std::int64_t place_out = n * p.target.stride[0] + (y * p.out_step_y + phase.out_y) * p.target.stride[1] +
                                     (x * p.out_step_x + phase.out_x) * p.target.stride[2];
            const std::int64_t step = p.out_step_x * p.target.stride[2], tile_height = (rows - 1) * pitch + outputs;
            if (p.narrow) {
                sum_digits(*phase.chunks, at, packed, digit_step, tile_height, vectors);
            } else {
                total(phase, at, packed, digit_step, tile_height, vectors);
            }
            for (std::int64_t r = 0; r < rows; ++r, place_out += row_step, output += outputs) {
                const std::int64_t from = r * pitch * columns;
                if (p.narrow) {
                    const auto* of_rows = rows_matter ? static_cast<std::uint32_t*>(row_part) + output : nullptr;
                    put_tile<Isa>(p.target, place_out, step, first, sums + from, outputs, cols, seen,
                                  {of_rows, column_bits});
                } else {
                    const auto* of_rows = rows_matter ? static_cast<std::int64_t*>(row_part) + output : nullptr;
                    put_wide(place_out, step, first, totals + from, outputs, cols, seen, {of_rows, column_part});
                }
            }
        });
    }

    void put_wide(std::int64_t place, std::int64_t step, std::int64_t first, std::int64_t* from, std::int64_t outputs,
                  std::int64_t cols, Range<columns>* seen, const Lack<std::int64_t>& lack) const {
        if constexpr (Isa::raw) correct(from, outputs, cols, columns, lack);
        for (std::int64_t m = 0; m < outputs; ++m, place += step) {
            put<std::int64_t, columns>(p.target, place, first, from + m * columns, cols, seen);
        }
    }

    // Sums of all digits modulo 2^32.
    void sum_digits(const Chunk& chunk, const A* at, const B* packed, std::int64_t digit_step, std::int64_t outputs,
                    std::int64_t vectors) {
        for (int da = 0; da < p.a.digits; ++da) {
            for (int db = 0; db < p.b.digits; ++db) {
                const bool first = da + db == 0;
                Isa::Tiles::image(outputs, at + da * plane, p.step_x * p.channels, packed + db * digit_step,
                                  p.b.digit_signed[db], chunk.segments, chunk.count, vectors,
                                  first ? sums : digit_sums);
                if (!first) add_shifted(digit_sums, outputs, 8 * (da + db));
            }
        }
    }

    void add_shifted(const std::int32_t* from, std::int64_t outputs, int shift) {
        for (std::int64_t i = 0; i < outputs * columns; ++i) {
            const std::uint32_t sum = static_cast<std::uint32_t>(sums[i]);
            sums[i] = static_cast<std::int32_t>(sum + (static_cast<std::uint32_t>(from[i]) << shift));
        }
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
                                      p.b.digit_signed[db], chunk.segments, chunk.count, vectors, sums);
                    widen(sums, outputs, vectors * Isa::lanes, columns, 8 * (da + db), totals, columns);
                }
            }
        }
    }

    void run() {
        prepare();
        bool rows_matter = false;
        for (int d = 0; d < p.b.digits; ++d) rows_matter |= Isa::raw && p.b.digit_zero[d] != 0 && p.in_group > 0;
        Isa::Tiles::begin();
        for (std::int64_t f = 0; f < p.phase_count; ++f) {
            for (std::int64_t group = 0; group < p.groups; ++group) {
                if constexpr (Isa::raw) {
                    if (rows_matter && p.narrow) sum_rows<std::uint32_t>(p.phases[f], group);
                    if (rows_matter && !p.narrow) sum_rows<std::int64_t>(p.phases[f], group);
                }
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
