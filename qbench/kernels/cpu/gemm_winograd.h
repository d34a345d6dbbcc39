// 3x3 convolutions with stride 1 in one of Winograd's forms. Included inside each instruction set's namespace; for
// int16. Inputs too large for the transform are two digits, whose outputs are added up.

// Filters of one panel: sums of the magnitudes of a unit's terms, by column.
template <class Isa>
void winograd_magnitudes(const typename Isa::B* taps, std::int64_t size, std::int64_t width, std::int32_t* to) {
    std::uint16_t total[Isa::columns * Isa::unit] = {};
    for (int tap = 0; tap < 9; ++tap, taps += size) {
        for (std::int64_t i = 0; i < width * Isa::unit; ++i) {
            total[i] = static_cast<std::uint16_t>(total[i] + (taps[i] < 0 ? -taps[i] : taps[i]));
        }
    }
    for (std::int64_t c = 0; c < width; ++c) {
        to[c] = 0;
        for (std::int64_t j = 0; j < Isa::unit; ++j) to[c] += total[c * Isa::unit + j];
    }
}

// Cuts the channels of one panel into parts whose outputs are recovered whatever the inputs are.
template <class Isa>
void winograd_cut(const ConvPlan& p, std::int64_t panel, const typename Isa::B* taps, std::int64_t width) {
    const std::int64_t units = p.in_group / Isa::unit, size = p.in_group * width, column = panel * Isa::columns;
    std::int32_t *ends = p.winograd_ends + panel * units, magnitude[Isa::columns] = {}, next[Isa::columns];
    std::int64_t largest = 0;
    for (std::int64_t c = 0; c < width; ++c) {
        const std::int64_t all = p.column_magnitudes[column + c];
        largest = all > largest ? all : largest;
    }
    if (largest > p.winograd_most) {
        for (std::int64_t unit = 0; unit < units; ++unit) {
            winograd_magnitudes<Isa>(taps + unit * width * Isa::unit, size, width, next);
            bool fits = true;
            for (std::int64_t c = 0; c < width; ++c) fits &= magnitude[c] + next[c] <= p.winograd_most;
            if (!fits) *ends++ = static_cast<std::int32_t>(unit);
            for (std::int64_t c = 0; c < width; ++c) magnitude[c] = fits ? magnitude[c] + next[c] : next[c];
        }
    }
    *ends = static_cast<std::int32_t>(units);
}

// One panel: as many panels of transformed filters as points from 9 panels of taps, which lie one after the other.
template <class Isa, class Form>
void winograd_pack(const ConvPlan& p, std::int64_t panel) {
    using B = typename Isa::B;
    constexpr int SIDE = Form::SIDE;
    const std::int64_t column = panel * Isa::columns;
    const std::int64_t left = p.out_group - column;
    const std::int64_t width = round_up(left < Isa::columns ? left : Isa::columns, Isa::lanes);
    const std::int64_t size = p.in_group * width;
    const B* taps = static_cast<const B*>(p.packed) + column * 9 * p.in_group;
    B* to = static_cast<B*>(p.winograd) + column * SIDE * SIDE * p.in_group;
    using Halves = typename Vectors<Isa::lanes>::Halves;  // modulo 2^16 like the int16 elements they stand for
    winograd_cut<Isa>(p, panel, taps, width);
    for (std::int64_t i = 0; i < size; i += sizeof(Halves) / 2) {
        along_both<Halves, 3, SIDE>(
            [&](int y, int x) { return taps + (3 * y + x) * size + i; },
            [](const Halves* from, Halves* out) { Form::filter(from, out); },
            [&](int y, int x, Halves value) { __builtin_memcpy(to + (SIDE * y + x) * size + i, &value, sizeof value); });
    }
}

// Type: int16 lanes as unsigned vectors, or one int16 as an unsigned number.
template <class Form, class Type>
QBENCH_INLINE void winograd_input(const std::int16_t* from, std::int64_t pixel, std::int64_t line, std::int16_t* to,
                                  std::int64_t point) {
    constexpr int SIDE = Form::SIDE;
    along_both<Type, SIDE, SIDE>(
        [&](int y, int x) { return from + y * line + x * pixel; },
        [](const Type* d, Type* out) { Form::input(d, out); },
        [&](int y, int x, Type value) { __builtin_memcpy(to + (SIDE * y + x) * point, &value, sizeof value); });
}

template <class Isa, class Form>
struct WinogradJob {
    static constexpr std::int64_t OUTPUTS = Form::OUTPUTS, SIDE = Form::SIDE, POINTS = SIDE * SIDE;
    static constexpr std::int64_t tile = Isa::rows * Isa::columns;

    const ConvPlan& p;
    const Job& job;  // rows count tiles
    const Phase& phase;
    std::int64_t across, down, tiles, line, point;  // tiles of a row, rows of tiles, all; elements of a row, of a point
    std::int16_t *image, *inputs;                   // prepared rows of one image; [digit][point][tile][channel]
    std::int32_t *sums, *outputs;                   // [block][point][tile][column]; [block][output][tile][column]
    Range<Isa::columns> range;

    WinogradJob(const ConvPlan& plan, std::int64_t index, void* scratch)
        : p(plan), job(plan.jobs[index]), phase(plan.phases[0]) {
        across = pieces(phase.cols, OUTPUTS);
        down = job.row[1] - job.row[0];
        tiles = (job.image[1] - job.image[0]) * down * across;
        line = (OUTPUTS * across + 2) * p.channels;
        point = odd_cache_lines(tiles * p.channels * 2) / 2;
        sums = static_cast<std::int32_t*>(scratch);
        outputs = sums + WINOGRAD_BLOCKS * POINTS * tile;
        inputs = reinterpret_cast<std::int16_t*>(outputs + WINOGRAD_BLOCKS * OUTPUTS * OUTPUTS * tile);
        image = inputs + p.a.digits * POINTS * point + SLACK / 2;
        range.clear();
    }

    void prepare(int digit) {
        std::int16_t* to = inputs + digit * POINTS * point;
        for (std::int64_t n = job.image[0]; n < job.image[1]; ++n) {
            std::int64_t ready = 0;
            for (std::int64_t y = 0; y < down; ++y) {
                for (; ready < OUTPUTS * y + SIDE; ++ready) {
                    prepare_row(p.a, digit, p.channels, p.height, p.width, n, OUTPUTS * job.row[0] + p.low_y + ready,
                                p.low_x, OUTPUTS * across + 2, image + ready * line);
                }
                for (std::int64_t x = 0; x < across; ++x, to += p.channels) {
                    transform(image + OUTPUTS * (y * line + x * p.channels), to);
                }
            }
        }
    }

    void transform(const std::int16_t* from, std::int16_t* to) const {
        using Wide = typename Vectors<Isa::lanes>::Halves;
        using Narrow = typename Vectors<4>::Halves;
        constexpr std::int64_t width = sizeof(Wide) / 2;
        std::int64_t c = 0;
        for (; c + width <= p.channels; c += width) {
            winograd_input<Form, Wide>(from + c, p.channels, line, to + c, point);
        }
        for (; c + 8 <= p.channels; c += 8) winograd_input<Form, Narrow>(from + c, p.channels, line, to + c, point);
        for (; c < p.channels; ++c) winograd_input<Form, std::uint16_t>(from + c, p.channels, line, to + c, point);
    }

    // The outputs of each tile of a block from its sums, added to those of other channels and digits.
    template <bool adds>
    void transform_sums(const std::int32_t* from, std::int64_t rows, std::int64_t vectors, int shift, std::int32_t* to) {
        using Bits = typename Vectors<Isa::lanes>::Bits;
        using Ints = typename Vectors<Isa::lanes>::Ints;
        for (std::int64_t m = 0; m < rows; ++m) {
            for (std::int64_t v = 0; v < vectors; ++v) {
                const std::int64_t at = m * Isa::columns + v * Isa::lanes;
                along_both<Bits, SIDE, OUTPUTS>(
                    [&](int y, int x) { return from + (SIDE * y + x) * tile + at; },
                    [](const Bits* d, Bits* out) { Form::output(d, out); },
                    [&](int y, int x, Bits sum) {
                        Bits value = reinterpret_cast<Bits>(Form::template quotient<Ints>(sum)), before;
                        std::int32_t* const place = to + (OUTPUTS * y + x) * tile + at;
                        if constexpr (adds) {
                            __builtin_memcpy(&before, place, sizeof before);
                            value = (value << shift) + before;
                        }
                        __builtin_memcpy(place, &value, sizeof value);
                    });
            }
        }
    }

    // Tiles [begin, end), which may belong to several rows of tiles.
    void put_outputs(std::int64_t begin, std::int64_t end, std::int64_t column, std::int64_t cols,
                     std::int32_t* from) {
        Range<Isa::columns>* seen = p.extremes ? &range : nullptr;
        for (std::int64_t t = begin; t < end;) {
            const std::int64_t row = t / across, x = t % across, n = job.image[0] + row / down;
            const std::int64_t count = across - x < end - t ? across - x : end - t, y = job.row[0] + row % down;
            for (int i = 0; i < OUTPUTS * OUTPUTS; ++i) {
                const std::int64_t out_y = OUTPUTS * y + i / OUTPUTS, out_x = OUTPUTS * x + i % OUTPUTS;
                const std::int64_t fit = pieces(phase.cols - out_x, OUTPUTS);
                if (out_y >= phase.rows) continue;
                const std::int64_t* stride = p.target.stride;
                std::int32_t* const of_output = from + i * tile + (t - begin) * Isa::columns;
                put_tile<Isa>(p.target, n * stride[0] + out_y * stride[1] + out_x * stride[2], OUTPUTS * stride[2],
                              column, of_output, count < fit ? count : fit, cols, seen, {});
            }
            t += count;
        }
    }

    // Blocks [first, last) of tiles: a point's filters stay in the nearest cache for all of them.
    void multiply(std::int64_t first, std::int64_t last, std::int64_t blocks, int digit,
                  const typename Isa::B* filters, const Segment& part, std::int64_t vectors) {
        const std::int16_t* const of_digit = inputs + digit * POINTS * point;
        for (std::int64_t i = 0; i < POINTS; ++i, filters += p.in_group * vectors * Isa::lanes) {
            for (std::int64_t block = first; block < last; ++block) {
                const std::int64_t begin = tiles * block / blocks, end = tiles * (block + 1) / blocks;
                Isa::Tiles::image(end - begin, of_digit + i * point + begin * p.channels, p.channels, filters, true, &part,
                                  1, vectors, sums + ((block - first) * POINTS + i) * tile);
            }
        }
    }

    void panel(std::int64_t column, std::int64_t first, std::int64_t last, std::int64_t blocks) {
        const std::int64_t cols = p.out_group - column < Isa::columns ? p.out_group - column : Isa::columns;
        const std::int64_t vectors = pieces(cols, Isa::lanes), units = p.in_group / Isa::unit;
        const auto* filters = static_cast<const typename Isa::B*>(p.winograd) + column * POINTS * p.in_group;
        const std::int32_t* end_of_part = p.winograd_ends + column / Isa::columns * units;
        for (std::int64_t unit = 0; unit < units; unit = *end_of_part++) {
            const Segment part{unit * Isa::unit, unit, *end_of_part - unit};
            for (int digit = 0; digit < p.a.digits; ++digit) {
                multiply(first, last, blocks, digit, filters, part, vectors);
                for (std::int64_t block = first; block < last; ++block) {
                    const std::int64_t rows = tiles * (block + 1) / blocks - tiles * block / blocks;
                    const std::int32_t* from = sums + (block - first) * POINTS * tile;
                    if (unit == 0 && digit == 0) {
                        transform_sums<false>(from, rows, vectors, 0, outputs_of(block - first));
                    } else {
                        transform_sums<true>(from, rows, vectors, 8 * digit, outputs_of(block - first));
                    }
                }
            }
        }
        for (std::int64_t block = first; block < last; ++block) {
            put_outputs(tiles * block / blocks, tiles * (block + 1) / blocks, column, cols, outputs_of(block - first));
        }
    }

    std::int32_t* outputs_of(std::int64_t block) const { return outputs + block * OUTPUTS * OUTPUTS * tile; }

    void run() {
        for (int digit = 0; digit < p.a.digits; ++digit) prepare(digit);
        const std::int64_t blocks = pieces(tiles, Isa::rows);
        for (std::int64_t column = 0; column < p.out_group; column += Isa::columns) {
            for (std::int64_t first = 0; first < blocks; first += WINOGRAD_BLOCKS) {
                const std::int64_t last = first + WINOGRAD_BLOCKS;
                panel(column, first, last < blocks ? last : blocks, blocks);
            }
        }
    }
};

template <class Isa, class Form>
void winograd_job(const ConvPlan& p, std::int64_t index, void* scratch) {
    WinogradJob<Isa, Form> job(p, index, scratch);
    job.run();
    if (p.extremes) {
        Extremes all{__builtin_inff(), -__builtin_inff(), false};
        job.range.give(all);
        p.extremes[index] = all;
    }
}
