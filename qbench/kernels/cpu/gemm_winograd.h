// 3x3 convolutions with stride 1 in Winograd's form F(2x2, 3x3) (Lavin and Gray 2016, arXiv:1509.09308), in integers:
// 16 products for four outputs instead of 36. Included inside each instruction set's namespace; for pairs of int16.
//
// The filters' transform is kept four times too large, so that it stays integral, and the outputs are divided by four
// at the end. All sums are modulo 2^32; the quotient is exact where the outputs are below 2^29.

constexpr std::int64_t WINOGRAD_POINTS = 16;

// One panel: 16 panels of transformed filters from 9 panels of taps, which lie one after the other.
template <class Isa>
void winograd_pack(const ConvPlan& p, std::int64_t panel) {
    using B = typename Isa::B;
    const std::int64_t column = panel * Isa::columns;
    const std::int64_t left = p.out_group - column;
    const std::int64_t width = round_up(left < Isa::columns ? left : Isa::columns, Isa::lanes);
    const std::int64_t size = p.in_group * width;
    const B* taps = static_cast<const B*>(p.packed) + column * 9 * p.in_group;
    B* to = static_cast<B*>(p.winograd) + column * WINOGRAD_POINTS * p.in_group;
    using Halves = typename Vectors<Isa::lanes>::Halves;  // modulo 2^16 like the int16 elements they stand for
    for (std::int64_t i = 0; i < size; i += sizeof(Halves) / 2) {
        Halves half[4][3];
#pragma GCC unroll 3
        for (int x = 0; x < 3; ++x) {
            Halves tap[3];
#pragma GCC unroll 3
            for (int y = 0; y < 3; ++y) __builtin_memcpy(&tap[y], taps + (3 * y + x) * size + i, sizeof(Halves));
            half[0][x] = tap[0] + tap[0];
            half[1][x] = tap[0] + tap[1] + tap[2];
            half[2][x] = tap[0] - tap[1] + tap[2];
            half[3][x] = tap[2] + tap[2];
        }
#pragma GCC unroll 4
        for (int y = 0; y < 4; ++y) {
            const Halves* h = half[y];
            const Halves out[4] = {h[0] + h[0], h[0] + h[1] + h[2], h[0] - h[1] + h[2], h[2] + h[2]};
#pragma GCC unroll 4
            for (int x = 0; x < 4; ++x) __builtin_memcpy(to + (4 * y + x) * size + i, &out[x], sizeof(Halves));
        }
    }
}

// Type: int16 lanes as unsigned vectors, or one int16 as an unsigned number.
template <class Type>
QBENCH_INLINE void winograd_input(const std::int16_t* from, std::int64_t pixel, std::int64_t line, std::int16_t* to,
                                  std::int64_t point) {
    Type columns[4][4];
#pragma GCC unroll 4
    for (int x = 0; x < 4; ++x) {
        Type d[4];
#pragma GCC unroll 4
        for (int y = 0; y < 4; ++y) __builtin_memcpy(&d[y], from + y * line + x * pixel, sizeof(Type));
        columns[0][x] = static_cast<Type>(d[0] - d[2]);
        columns[1][x] = static_cast<Type>(d[1] + d[2]);
        columns[2][x] = static_cast<Type>(d[2] - d[1]);
        columns[3][x] = static_cast<Type>(d[1] - d[3]);
    }
#pragma GCC unroll 4
    for (int y = 0; y < 4; ++y) {
        const Type* d = columns[y];
        const Type out[4] = {static_cast<Type>(d[0] - d[2]), static_cast<Type>(d[1] + d[2]),
                             static_cast<Type>(d[2] - d[1]), static_cast<Type>(d[1] - d[3])};
#pragma GCC unroll 4
        for (int x = 0; x < 4; ++x) __builtin_memcpy(to + (4 * y + x) * point, &out[x], sizeof(Type));
    }
}

template <class Isa>
struct WinogradJob {
    static constexpr std::int64_t tile = Isa::rows * Isa::columns;

    const ConvPlan& p;
    const Job& job;  // rows count tiles
    const Phase& phase;
    std::int64_t across, down, tiles, line, point;  // tiles of a row, rows of tiles, all; elements of a row, of a point
    std::int16_t *image, *inputs;                   // prepared rows of one image; [point][tile][channel]
    alignas(64) std::int32_t sums[WINOGRAD_POINTS * tile];
    alignas(64) std::int32_t outputs[4 * tile];
    Range<Isa::columns> range;

    WinogradJob(const ConvPlan& plan, std::int64_t index, void* scratch)
        : p(plan), job(plan.jobs[index]), phase(plan.phases[0]) {
        across = pieces(phase.cols, 2);
        down = job.row[1] - job.row[0];
        tiles = (job.image[1] - job.image[0]) * down * across;
        line = (2 * across + 2) * p.channels;
        point = tiles * p.channels;
        inputs = static_cast<std::int16_t*>(scratch);
        image = inputs + WINOGRAD_POINTS * point + SLACK / 2;
        range.clear();
    }

    void prepare() {
        std::int16_t* to = inputs;
        for (std::int64_t n = job.image[0]; n < job.image[1]; ++n) {
            for (std::int64_t y = 0; y < 2 * down + 2; ++y) {
                prepare_row(p.a, 0, p.channels, p.height, p.width, n, 2 * job.row[0] + p.low_y + y, p.low_x,
                            2 * across + 2, image + y * line);
            }
            for (std::int64_t y = 0; y < down; ++y) {
                for (std::int64_t x = 0; x < across; ++x, to += p.channels) {
                    transform(image + 2 * y * line + 2 * x * p.channels, to);
                }
            }
        }
    }

    void transform(const std::int16_t* from, std::int16_t* to) const {
        using Wide = typename Vectors<Isa::lanes>::Halves;
        constexpr std::int64_t width = sizeof(Wide) / 2;
        std::int64_t c = 0;
        for (; c + width <= p.channels; c += width) winograd_input<Wide>(from + c, p.channels, line, to + c, point);
        for (; c + 8 <= p.channels; c += 8) {
            winograd_input<typename Vectors<4>::Halves>(from + c, p.channels, line, to + c, point);
        }
        for (; c < p.channels; ++c) winograd_input<std::uint16_t>(from + c, p.channels, line, to + c, point);
    }

    // Four outputs of each tile from its 16 sums.
    void transform_sums(std::int64_t rows, std::int64_t vectors) {
        using Bits = typename Vectors<Isa::lanes>::Bits;
        using Ints = typename Vectors<Isa::lanes>::Ints;
        for (std::int64_t m = 0; m < rows; ++m) {
            for (std::int64_t v = 0; v < vectors; ++v) {
                const std::int64_t at = m * Isa::columns + v * Isa::lanes;
                Bits half[2][4];
#pragma GCC unroll 4
                for (int x = 0; x < 4; ++x) {
                    Bits d[4];
#pragma GCC unroll 4
                    for (int y = 0; y < 4; ++y) __builtin_memcpy(&d[y], sums + (4 * y + x) * tile + at, sizeof(Bits));
                    half[0][x] = d[0] + d[1] + d[2];
                    half[1][x] = d[1] - d[2] - d[3];
                }
#pragma GCC unroll 2
                for (int y = 0; y < 2; ++y) {
                    const Bits* d = half[y];
                    const Ints left = reinterpret_cast<Ints>(d[0] + d[1] + d[2]) >> 2;
                    const Ints right = reinterpret_cast<Ints>(d[1] - d[2] - d[3]) >> 2;
                    __builtin_memcpy(outputs + 2 * y * tile + at, &left, sizeof(Ints));
                    __builtin_memcpy(outputs + (2 * y + 1) * tile + at, &right, sizeof(Ints));
                }
            }
        }
    }

    // Tiles [begin, end), which may belong to several rows of tiles.
    void put_outputs(std::int64_t begin, std::int64_t end, std::int64_t column, std::int64_t cols) {
        Range<Isa::columns>* seen = p.extremes ? &range : nullptr;
        for (std::int64_t t = begin; t < end;) {
            const std::int64_t row = t / across, x = t % across, n = job.image[0] + row / down;
            const std::int64_t count = across - x < end - t ? across - x : end - t, y = job.row[0] + row % down;
            for (int i = 0; i < 4; ++i) {
                const std::int64_t out_y = 2 * y + i / 2, out_x = 2 * x + i % 2;
                const std::int64_t fit = pieces(phase.cols - out_x, 2);
                if (out_y >= phase.rows) continue;
                put_tile<Isa>(p.target, n * p.target.stride[0] + out_y * p.target.stride[1] + out_x * p.target.stride[2],
                              2 * p.target.stride[2], column, outputs + i * tile + (t - begin) * Isa::columns,
                              count < fit ? count : fit, cols, seen);
            }
            t += count;
        }
    }

    void run() {
        prepare();
        const std::int64_t blocks = pieces(tiles, Isa::rows);
        const Segment segment{0, 0, p.channels / Isa::unit};
        for (std::int64_t column = 0; column < p.out_group; column += Isa::columns) {
            const std::int64_t cols = p.out_group - column < Isa::columns ? p.out_group - column : Isa::columns;
            const std::int64_t width = round_up(cols, Isa::lanes), vectors = width / Isa::lanes;
            const auto* filters =
                static_cast<const typename Isa::B*>(p.winograd) + column * WINOGRAD_POINTS * p.in_group;
            for (std::int64_t block = 0; block < blocks; ++block) {
                const std::int64_t begin = tiles * block / blocks, end = tiles * (block + 1) / blocks;
                for (std::int64_t i = 0; i < WINOGRAD_POINTS; ++i) {
                    Isa::Tiles::image(end - begin, inputs + i * point + begin * p.channels, p.channels,
                                      filters + i * p.in_group * width, &segment, 1, vectors, sums + i * tile);
                }
                transform_sums(end - begin, vectors);
                put_outputs(begin, end, column, cols);
            }
        }
    }
};

template <class Isa>
void winograd_job(const ConvPlan& p, std::int64_t index, void* scratch) {
    WinogradJob<Isa> job(p, index, scratch);
    job.run();
    if (p.extremes) {
        Extremes all{__builtin_inff(), -__builtin_inff(), false};
        job.range.give(all);
        p.extremes[index] = all;
    }
}
