// A job of a weight gradient: sums over pixels. Included inside each instruction set's namespace.
//
// A's rows are (tap column, channel), packed from input rows; B's columns are the error's channels. Both are packed a
// few output rows at a time, so that the innermost loops run in the nearest cache. Outputs of one image form a slice.

// Where things of a chunk lie in the scratch memory; everything counted in elements.
template <class Isa>
struct WgradLayout {
    std::int64_t units, line, blocks, row_width, lines, error_units;

    explicit WgradLayout(const WgradPlan& p) {
        units = pieces(p.out_w, Isa::unit);
        line = units * Isa::unit;
        blocks = pieces(p.taps_x * p.in_group, Isa::rows);
        row_width = (line - 1) * p.stride_x + (p.taps_x - 1) * p.dilation_x + 1;
        const std::int64_t slices = p.chunk_rows;  // at most one for each row
        lines = p.stride_y == 1 ? p.chunk_rows + (p.taps_y - 1) * p.dilation_y * most_slices(p) : p.chunk_rows * p.taps_y;
        error_units = round_up(p.chunk_rows * units + slices * (Isa::depth - 1), Isa::depth);
    }

    // A chunk of rows meets this many images at most.
    static std::int64_t most_slices(const WgradPlan& p) {
        const std::int64_t most = (p.chunk_rows + p.out_h - 2) / p.out_h + 1;
        return most < p.chunk_rows ? most : p.chunk_rows;
    }

    // Of one row of A. A tile reads at as many places as it has rows, which may not fall into the same sets of a cache.
    std::int64_t plane() const { return odd_cache_lines(lines * line + Isa::depth * Isa::unit); }
    std::int64_t block() const { return plane() * Isa::rows; }
};

template <class Isa>
std::int64_t wgrad_scratch(const WgradPlan& p) {
    const WgradLayout<Isa> at(p);
    const std::int64_t size = sizeof(typename Isa::A);
    return SLACK * 8 + at.row_width * p.channels * size + p.a.digits * at.blocks * at.block() * size +
           p.b.digits * at.error_units * Isa::unit * Isa::columns * size +
           at.lines * at.blocks * Isa::rows * 8 * p.a.digits +
           (p.taps_y + 1) * p.chunk_rows * static_cast<std::int64_t>(sizeof(Segment)) + at.blocks * Isa::rows * 8;
}

template <class Isa>
struct WgradJob {
    using A = typename Isa::A;
    using B = typename Isa::B;
    static constexpr std::int64_t tile_size = Isa::rows * Isa::columns;

    struct Slice {
        std::int64_t image, row, rows, line;  // first output row, their number, first line in A's planes
    };

    const WgradPlan& p;
    const WgradLayout<Isa> at;
    const WgradSums& sums;
    std::int64_t panels, first_panel, last_panel, pending = 0;  // pixels in the int32 sums
    bool is_fresh = false;  // whether there are no sums yet
    bool in_parts = false;  // whether the chunk has more pixels than int32 sums take
    Slice* slices;
    std::int64_t slice_count = 0;
    Segment* segments;         // [tap row][slice]
    std::int64_t* offset_of;   // of each row of A in a prepared pixel row
    std::int64_t* line_sums;   // [digit][line][row of A]
    A *row, *inputs;           // a prepared pixel row; [digit][block]
    B* errors;                 // [digit]

    WgradJob(const WgradPlan& plan, void* scratch, const WgradSums& where) : p(plan), at(plan), sums(where) {
        panels = pieces(p.out_group, Isa::columns);
        char* free = static_cast<char*>(scratch);
        const auto take = [&](std::int64_t bytes) {
            char* taken = free;
            free += round_up(bytes, 64);
            return taken;
        };
        const std::int64_t padded = at.blocks * Isa::rows;
        slices = reinterpret_cast<Slice*>(take(p.chunk_rows * sizeof(Slice)));
        segments = reinterpret_cast<Segment*>(take(p.taps_y * p.chunk_rows * sizeof(Segment)));
        offset_of = reinterpret_cast<std::int64_t*>(take(padded * 8));
        line_sums = reinterpret_cast<std::int64_t*>(take(p.a.digits * at.lines * padded * 8));
        errors = reinterpret_cast<B*>(take(p.b.digits * at.error_units * Isa::unit * Isa::columns * sizeof(B)));
        inputs = reinterpret_cast<A*>(take(p.a.digits * at.blocks * at.block() * sizeof(A)));
        row = reinterpret_cast<A*>(take((at.row_width * p.channels) * sizeof(A) + SLACK));
        const std::int64_t last = p.taps_x * p.in_group - 1;
        for (std::int64_t m = 0; m < padded; ++m) {
            const std::int64_t known = m < last ? m : last;
            offset_of[m] = known / p.in_group * p.dilation_x * p.channels + known % p.in_group;
        }
        if constexpr (Isa::planar) clear_last_planes();
    }

    // Splits the chunk's output rows by image and lays out their segments.
    void cut(std::int64_t begin, std::int64_t end) {
        slice_count = 0;
        std::int64_t line = 0, error = 0;
        for (std::int64_t next = begin; next < end;) {
            Slice slice{next / p.out_h, next % p.out_h, 0, line};
            slice.rows = p.out_h - slice.row < end - next ? p.out_h - slice.row : end - next;
            const std::int64_t count = round_up(slice.rows * at.units, Isa::depth);
            for (std::int64_t r = 0; r < p.taps_y; ++r) {
                const std::int64_t first = line + line_of(slice, r);
                segments[r * p.chunk_rows + slice_count] = {first * at.line * (Isa::planar ? 1 : Isa::rows), error, count};
            }
            slices[slice_count++] = slice;
            line += lines_of(slice);
            error += count;
            next += slice.rows;
        }
    }

    std::int64_t line_of(const Slice& slice, std::int64_t tap) const {
        return p.stride_y == 1 ? tap * p.dilation_y : tap * slice.rows;
    }
    std::int64_t lines_of(const Slice& slice) const {
        return p.stride_y == 1 ? slice.rows + (p.taps_y - 1) * p.dilation_y : p.taps_y * slice.rows;
    }
    // Input row of a line of a slice.
    std::int64_t input_row(const Slice& slice, std::int64_t line) const {
        if (p.stride_y == 1) return slice.row - p.pad_y + line;
        return (slice.row + line % slice.rows) * p.stride_y - p.pad_y + line / slice.rows * p.dilation_y;
    }

    void pack_inputs(std::int64_t group, bool sums_matter) {
        const std::int64_t padded = at.blocks * Isa::rows;
        const A* const part = row + group * p.in_group;
        for (int digit = 0; digit < p.a.digits; ++digit) {
            for (std::int64_t s = 0; s < slice_count; ++s) {
                for (std::int64_t line = 0; line < lines_of(slices[s]); ++line) {
                    prepare_row(p.a, digit, p.channels, p.height, p.width, slices[s].image,
                                input_row(slices[s], line), -p.pad_x, at.row_width, row);
                    spread_row(part, digit, slices[s].line + line);
                    if constexpr (Isa::raw) {
                        const std::int64_t index = digit * at.lines + slices[s].line + line;
                        if (sums_matter) sum_line(part, line_sums + index * padded);
                    }
                }
            }
        }
    }

    // One prepared pixel row, or a group's part of it, into the blocks of A.
    void spread_row(const A* part, int digit, std::int64_t line) {
        if constexpr (Isa::planar) {
            spread_planes(part, inputs + digit * at.blocks * at.block() + line * at.line);
        } else {
            spread_units(part, inputs + digit * at.blocks * at.block() + line * at.line * Isa::rows);
        }
    }

    // Planes of pixels by row of A.
    void spread_planes(const A* part, A* to) {
        const std::int64_t known = p.taps_x * p.in_group, plane = at.plane();
        const bool together = p.dilation_x == 1 && p.groups == 1;  // a window's elements lie next to each other
        const std::int64_t taps = together ? 1 : p.taps_x, length = known / taps;
        for (std::int64_t tap = 0; tap < taps; ++tap) {
            turn(part + tap * p.dilation_x * p.channels, to + tap * length * plane, length, plane);
        }
    }

    // Rows of A past the last one, for all chunks. Their sums are ignored.
    void clear_last_planes() {
        const std::int64_t known = p.taps_x * p.in_group, padded = at.blocks * Isa::rows, plane = at.plane();
        for (int digit = 0; digit < p.a.digits; ++digit) {
            A* const to = inputs + digit * at.blocks * at.block();
            fill(to + known * plane, (padded - known) * plane, A{0});
        }
    }

    // `length` elements of each of a line's pixels to [element][pixel], with up to 15 pixels more.
    void turn(const A* from, A* to, std::int64_t length, std::int64_t plane) const {
        constexpr std::int64_t SIDE = 16;
        const std::int64_t pixel = p.stride_x * p.channels, pixels = at.line;
        for (std::int64_t c = 0; c < length; c += SIDE) {
            const std::int64_t elements = length - c < SIDE ? length - c : SIDE;
            for (std::int64_t x = 0; x < pixels; x += SIDE) {
                const std::int64_t count = pixels - x < SIDE ? pixels - x : SIDE;
                Isa::turn(from + x * pixel + c, pixel, count, elements, to + c * plane + x, plane);
            }
        }
    }

    // Units of pixels of `rows` rows of A.
    void spread_units(const A* part, A* to_line) {
        const std::int64_t pixel = p.stride_x * p.channels;
        for (std::int64_t block = 0; block < at.blocks; ++block) {
            const std::int64_t* offset = offset_of + block * Isa::rows;
            A* to = to_line + block * at.block();
            const bool together = follow_each_other(offset);
            for (std::int64_t u = 0; u < at.units; ++u, to += Isa::rows * Isa::unit) {
                const A* from = part + u * Isa::unit * pixel;
                if (together) {
                    Isa::interleave(from + offset[0], pixel, to);
                } else {
                    for (std::int64_t m = 0; m < Isa::rows; ++m) {
                        for (std::int64_t j = 0; j < Isa::unit; ++j) to[m * Isa::unit + j] = from[j * pixel + offset[m]];
                    }
                }
            }
        }
    }

    // Whether a block's rows lie next to each other in a pixel row. First and last alone do not tell: rows past the
    // last one have its offset.
    static bool follow_each_other(const std::int64_t* offset) {
        for (std::int64_t m = 1; m < Isa::rows; ++m) {
            if (offset[m] != offset[0] + m) return false;
        }
        return true;
    }

    // Sums over a line of what its outputs meet, by row of A.
    void sum_line(const A* part, std::int64_t* to) const {
        fill(to, at.blocks * Isa::rows, std::int64_t{0});
        if (p.stride_x > 1 && p.dilation_x == 1 && p.groups == 1) {  // a window's elements lie next to each other
            return add_pixels(part, p.stride_x * p.channels, p.out_w, p.taps_x * p.in_group, to);
        }
        for (std::int64_t tap = 0; tap < p.taps_x; ++tap, to += p.in_group) {
            const A* first = part + tap * p.dilation_x * p.channels;
            if (tap == 0 || p.stride_x > 1 || p.dilation_x >= p.out_w) {
                add_pixels(first, p.stride_x * p.channels, p.out_w, p.in_group, to);
                continue;
            }
            first -= p.dilation_x * p.channels;
            move_window(first, first + p.out_w * p.channels, p.dilation_x, p.channels, p.in_group, to - p.in_group, to);
        }
    }

    // The sums of the tap before without its first `count` pixels and with those that follow its last one.
    static void move_window(const A* __restrict first, const A* __restrict next, std::int64_t count, std::int64_t pixel,
                            std::int64_t channels, const std::int64_t* __restrict before, std::int64_t* __restrict to) {
        for (std::int64_t c = 0; c < channels; ++c) to[c] = before[c];
        for (std::int64_t x = 0; x < count; ++x, first += pixel, next += pixel) {
            for (std::int64_t c = 0; c < channels; ++c) to[c] += next[c] - first[c];
        }
    }

    // Adds `length` elements each of `count` places, `pixel` elements apart.
    static void add_pixels(const A* __restrict from, std::int64_t pixel, std::int64_t count, std::int64_t length,
                           std::int64_t* __restrict to) {
        constexpr std::int64_t WIDTH = 16, MOST = UINT16_MAX / UINT8_MAX;  // pixels whose sum 16 bits take
        typedef std::uint8_t Bytes __attribute__((vector_size(WIDTH)));
        typedef std::uint16_t Wide __attribute__((vector_size(2 * WIDTH)));
        typedef std::uint32_t Wider __attribute__((vector_size(4 * WIDTH)));
        std::int64_t c = 0;
        for (; c + WIDTH <= length; c += WIDTH) {
            for (std::int64_t begin = 0; begin < count; begin += MOST) {
                const std::int64_t end = begin + MOST < count ? begin + MOST : count;
                Wide sum{};
                for (std::int64_t x = begin; x < end; ++x) {
                    Bytes next;
                    __builtin_memcpy(&next, from + x * pixel + c, WIDTH);
                    sum += __builtin_convertvector(next, Wide);
                }
                const Wider wider = __builtin_convertvector(sum, Wider);
                std::uint32_t sums[WIDTH];
                __builtin_memcpy(sums, &wider, sizeof sums);
                for (std::int64_t i = 0; i < WIDTH; ++i) to[c + i] += sums[i];
            }
        }
        for (; c < length; ++c) {
            for (std::int64_t x = 0; x < count; ++x) to[c] += from[x * pixel + c];
        }
    }

    void add_row_sums(std::int64_t group) {
        const std::int64_t padded = at.blocks * Isa::rows;
        for (int digit = 0; digit < p.a.digits; ++digit) {
            for (std::int64_t r = 0; r < p.taps_y; ++r) {
                std::int64_t* to = sums.row_sums + ((digit * p.groups + group) * p.taps_y + r) * padded;
                for (std::int64_t s = 0; s < slice_count; ++s) {
                    const std::int64_t first = slices[s].line + line_of(slices[s], r);
                    const std::int64_t* from = line_sums + (digit * at.lines + first) * padded;
                    for (std::int64_t y = 0; y < slices[s].rows; ++y, from += padded) {
                        for (std::int64_t m = 0; m < padded; ++m) to[m] += from[m];
                    }
                }
            }
        }
    }

    void pack_errors(std::int64_t first, std::int64_t cols, std::int64_t width, std::int64_t* column_sums,
                     std::int64_t digit_step) {
        for (int digit = 0; digit < p.b.digits; ++digit) {
            B* to = errors + digit * at.error_units * Isa::unit * Isa::columns;
            for (std::int64_t s = 0; s < slice_count; ++s) {
                B* const start = to;
                for (std::int64_t y = 0; y < slices[s].rows; ++y, to += at.line * width) {
                    pack_error_row(slices[s].image, slices[s].row + y, digit, first, cols, width, to);
                }
                const std::int64_t units = slices[s].rows * at.units, extra = round_up(units, Isa::depth) - units;
                fill(to, extra * Isa::unit * width, B{0});
                if constexpr (Isa::raw) sum_errors(start, digit, units, cols, width, column_sums + digit * digit_step);
                to += extra * Isa::unit * width;
            }
        }
    }

    void pack_error_row(std::int64_t image, std::int64_t y, int digit, std::int64_t first, std::int64_t cols,
                        std::int64_t width, B* to) const {
        const Recode rule = p.b.recode[digit];
        const std::int64_t pixel = p.b.stride[2], channel = p.b.stride[3];
        with_codes(p.b, [&](auto* codes) {
            auto* from = codes + image * p.b.stride[0] + y * p.b.stride[1] + first * channel;
            for (std::int64_t u = 0; u < at.units; ++u, from += Isa::unit * pixel, to += Isa::unit * width) {
                const std::int64_t left = p.out_w - u * Isa::unit;
                if (channel == 1) {
                    zip_terms<Isa>(from, pixel, left, cols, rule, to);
                } else {
                    fill(to, cols * Isa::unit, B{0});
                    zip_columns<Isa>(from, pixel, channel, left < Isa::unit ? left : Isa::unit, cols, rule, to);
                }
                fill(to + cols * Isa::unit, (width - cols) * Isa::unit, B{0});
            }
        });
    }

    // The instruction set with its factors in each other's place, for unsigned panels.
    struct Swapped : Isa {
        static QBENCH_INLINE typename Isa::Sum add(typename Isa::Sum sum, typename Isa::Left left,
                                                   typename Isa::Right right) {
            return Isa::add(sum, right, left);
        }
    };

    // Sums of packed errors by column: products with ones.
    void sum_errors(const B* from, int digit, std::int64_t units, std::int64_t cols, std::int64_t width,
                           std::int64_t* column_sums) {
        constexpr std::int64_t MOST = 1 << 20;  // units whose sum int32 takes
        constexpr A ONES[Isa::unit] = {1, 1, 1, 1};
        alignas(64) std::int32_t total[Isa::columns];
        for (std::int64_t begin = 0; begin < units; begin += MOST) {
            const Segment part{0, begin, units - begin < MOST ? units - begin : MOST};
            if (p.b.digit_signed[digit]) {
                sum_units<Isa>(ONES, from, part, width, total);
            } else {
                sum_units<Swapped>(ONES, from, part, width, total);
            }
            for (std::int64_t c = 0; c < cols; ++c) column_sums[c] += total[c];
        }
    }

    template <class Order>
    static void sum_units(const A* ones, const B* from, const Segment& part, std::int64_t width, std::int32_t* total) {
        if (width == Isa::lanes) return tile<Order, 1, 1>(ones, 0, 0, from, &part, 1, total, true);
        tile<Order, 1, Isa::vectors>(ones, 0, 0, from, &part, 1, total, true);
    }

    std::int64_t panel_size() const { return p.a.digits * p.b.digits * p.taps_y * at.blocks * tile_size; }

    // Panels [begin, end): int32 sums into the int64 ones.
    void flush(std::int64_t begin, std::int64_t end) {
        const std::int64_t size = panel_size(), count = (end - begin) * size;
        std::int32_t* __restrict narrow = sums.narrow + begin * size;
        std::int64_t* __restrict wide = sums.wide + begin * size;
        for (std::int64_t i = 0; i < count; ++i) {
            wide[i] += narrow[i];
            narrow[i] = 0;
        }
    }

    // All tiles of one panel.
    void multiply(std::int64_t panel, std::int64_t vectors) {
        std::int64_t to = panel * panel_size();
        const std::int64_t digit_step = at.error_units * Isa::unit * Isa::columns;
        for (std::int64_t block = 0; block < at.blocks; ++block) {
            for (std::int64_t r = 0; r < p.taps_y; ++r) {
                const Segment* const of_row = segments + r * p.chunk_rows;
                for (int da = 0; da < p.a.digits; ++da) {
                    const A* a = inputs + (da * at.blocks + block) * at.block();
                    for (int db = 0; db < p.b.digits; ++db, to += tile_size) {
                        const B* b = errors + db * digit_step;
                        if (in_parts) {
                            add_parts(a, b, db, of_row, vectors, sums.wide + to);
                        } else {
                            Isa::Tiles::packed(a, at.plane(), b, p.b.digit_signed[db], of_row, slice_count, vectors,
                                               sums.narrow + to, is_fresh);
                        }
                    }
                }
            }
        }
    }

    // A tile of a chunk with more pixels than an int32 sum takes.
    void add_parts(const A* a, const B* b, int db, const Segment* of_row, std::int64_t vectors, std::int64_t* wide) {
        const std::int64_t most = p.limit / (Isa::unit * Isa::depth) * Isa::depth;
        constexpr std::int64_t step = Isa::unit * (Isa::planar ? 1 : Isa::rows);
        for (const Segment* whole = of_row; whole < of_row + slice_count; ++whole) {
            for (std::int64_t start = 0; start < whole->count; start += most) {
                const std::int64_t left = whole->count - start;
                const Segment part{whole->a + start * step, whole->b + start, left < most ? left : most};
                alignas(64) std::int32_t narrow[tile_size];
                Isa::Tiles::packed(a, at.plane(), b, p.b.digit_signed[db], &part, 1, vectors, narrow, true);
                widen(narrow, Isa::rows, vectors * Isa::lanes, Isa::columns, 0, wide, Isa::columns);
            }
        }
    }

    void panel(std::int64_t index) {
        const std::int64_t group = index / panels, column = index % panels * Isa::columns, local = index - first_panel;
        const std::int64_t cols = p.out_group - column < Isa::columns ? p.out_group - column : Isa::columns;
        const std::int64_t width = round_up(cols, Isa::lanes), padded = panels * Isa::columns;
        pack_errors(group * p.out_group + column, cols, width, sums.column_sums + group * padded + column,
                    p.groups * padded);
        multiply(local, width / Isa::lanes);
    }

    void chunk(std::int64_t begin, std::int64_t end) {
        const std::int64_t terms = (end - begin) * p.out_w;
        in_parts = p.limit && terms > p.limit;
        if (p.limit && !in_parts && pending + terms > p.limit) {
            flush(0, last_panel - first_panel);
            pending = 0;
        }
        if (!in_parts) pending += terms;
        cut(begin, end);
        bool sums_matter = false;
        for (int d = 0; d < p.b.digits; ++d) sums_matter |= Isa::raw && p.b.digit_zero[d] != 0;
        for (std::int64_t index = first_panel, group = -1; index < last_panel; ++index) {
            if (index / panels != group) {
                group = index / panels;
                pack_inputs(group, sums_matter);
                if (sums_matter) add_row_sums(group);
            }
            panel(index);
        }
    }

    void run(std::int64_t part) {
        const std::int64_t rows = p.images * p.out_h, all = p.groups * panels;
        const std::int64_t i = part / p.parts_panels, j = part % p.parts_panels;
        first_panel = all * j / p.parts_panels;
        last_panel = all * (j + 1) / p.parts_panels;
        Isa::Tiles::begin();
        const std::int64_t start = rows * i / p.parts_rows, last = rows * (i + 1) / p.parts_rows;
        for (std::int64_t begin = start; begin < last; begin += p.chunk_rows) {
            is_fresh = p.starts_afresh && begin == start;
            chunk(begin, begin + p.chunk_rows < last ? begin + p.chunk_rows : last);
        }
        Isa::Tiles::end();
        if (p.limit) flush(0, last_panel - first_panel);
    }
};

template <class Isa>
void wgrad_job(const WgradPlan& p, std::int64_t part, void* scratch, const WgradSums& sums) {
    WgradJob<Isa>(p, scratch, sums).run(part);
}
