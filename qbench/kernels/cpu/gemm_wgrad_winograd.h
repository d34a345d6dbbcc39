// The weight gradient of a 3x3 convolution with stride 1 in Winograd's form F(3x3, 4x4) (Lavin and Gray 2016,
// arXiv:1509.09308): tiles of 4x4 errors are the filters, the taps are the outputs, 36 products for 144. Included
// inside each instruction set's namespace; for int16. Sums are modulo 2^32, as in gemm_winograd_forms.h, and run over
// tiles.
//
// Errors too large for the transform are two signed digits, error = low + 256 * high.

// F(3, 4), of the points 0, 1, -1, 2, -2 and infinity. Its inputs are transformed as those of F(4, 3).
struct WinogradTaps {
    // Rows [1,0,0,0], -[1,1,1,1], -[1,-1,1,-1], [1,2,4,8], [1,-2,4,-8], [0,0,0,1].
    template <class Type>
    static QBENCH_INLINE void error(const Type* e, Type* out) {
        const Type even = e[0] + e[2], odd = e[1] + e[3], wide = e[0] + e[2] * 4, twice = (e[1] + e[3] * 4) * 2;
        out[0] = e[0];
        out[1] = -even - odd;
        out[2] = odd - even;
        out[3] = wide + twice;
        out[4] = wide - twice;
        out[5] = e[3];
    }

    // Rows [6,4,4,1,1,0], [0,4,-4,2,-2,0], [0,4,4,4,4,24].
    template <class Bits>
    static QBENCH_INLINE void output(const Bits* m, Bits* out) {
        const Bits near_sum = m[1] + m[2], far_sum = m[3] + m[4];
        out[0] = ((m[0] + near_sum + near_sum) << 1) + (m[0] << 2) + far_sum;
        out[1] = (m[1] - m[2] + m[1] - m[2] + m[3] - m[4]) << 1;
        out[2] = (near_sum + far_sum + (m[5] << 1) + (m[5] << 2)) << 2;
    }
};

template <class Isa>
struct WgradWinogradJob {
    static constexpr std::int64_t SIDE = 6, POINTS = 36, TILES = WGRAD_TILES;
    static constexpr std::int64_t tile_size = Isa::rows * Isa::columns;
    using Halves = typename Vectors<Isa::lanes>::Halves;

    const WgradPlan& p;
    const WgradSums& sums;
    std::int64_t across, down, blocks, first_panel, last_panel;  // tiles of a row, rows of tiles; blocks of channels
    std::int64_t begin = 0, units = 0;                           // the chunk's first tile, and how many units it fills
    std::int16_t *inputs, *errors;  // [point][block][unit][row][tile of the unit]; [digit][point][unit][column][tile]
    std::int16_t *window, *unit;    // prepared pixels of a tile; [point][tile of the unit][channel]
    std::int32_t *products, *taps;  // [block][point][row][column] of WGRAD_BLOCKS blocks; [tap][row][column]

    WgradWinogradJob(const WgradPlan& plan, void* scratch, const WgradSums& where) : p(plan), sums(where) {
        across = pieces(p.out_w, 4);
        down = pieces(p.out_h, 4);
        blocks = p.channels / Isa::rows;
        char* free = static_cast<char*>(scratch);
        const auto take = [&](std::int64_t bytes) {
            char* taken = free;
            free += round_up(bytes, 64);
            return taken;
        };
        products = reinterpret_cast<std::int32_t*>(take(WGRAD_BLOCKS * POINTS * tile_size * 4));
        taps = reinterpret_cast<std::int32_t*>(take(9 * tile_size * 4));
        errors = reinterpret_cast<std::int16_t*>(take(2 * POINTS * TILES * Isa::columns * 2));
        unit = reinterpret_cast<std::int16_t*>(take(Isa::unit * POINTS * (p.channels + 2 * Isa::columns) * 2));
        window = reinterpret_cast<std::int16_t*>(take(POINTS * (p.channels + Isa::columns) * 2 + SLACK));
        inputs = reinterpret_cast<std::int16_t*>(take(POINTS * TILES * p.channels * 2));
    }

    static std::int64_t scratch_bytes(const WgradPlan& p) {
        const std::int64_t held = (WGRAD_BLOCKS * POINTS + 9) * tile_size * 4;
        const std::int64_t packed = POINTS * TILES * (p.channels + 2 * Isa::columns) * 2;
        return held + packed + (Isa::unit + 1) * POINTS * (p.channels + 2 * Isa::columns) * 2 + 2 * SLACK;
    }

    struct Place {
        std::int64_t image, y, x;  // of a tile's first error
    };
    Place place_of(std::int64_t index) const {
        return {index / across / down, index / across % down * 4, index % across * 4};
    }

    // Tiles [begin, end) of inputs; what is missing of the last unit is zero.
    void pack_inputs(std::int64_t end) {
        const std::int64_t pitch = p.channels * Isa::unit;
        for (std::int64_t u = 0; u < units; ++u) {
            for (std::int64_t j = 0; j < Isa::unit; ++j) {
                const std::int64_t index = begin + u * Isa::unit + j;
                if (index < end) {
                    transform_input(place_of(index), unit + j * p.channels, pitch);
                } else {
                    for (int i = 0; i < POINTS; ++i) {
                        fill(unit + i * pitch + j * p.channels, p.channels, std::int16_t{0});
                    }
                }
            }
            for (std::int64_t i = 0; i < POINTS; ++i) {
                for (std::int64_t block = 0; block < blocks; ++block) {
                    Isa::interleave(unit + i * pitch + block * Isa::rows, p.channels,
                                    inputs + ((i * blocks + block) * units + u) * Isa::rows * Isa::unit);
                }
            }
        }
    }

    void transform_input(const Place& at, std::int16_t* to, std::int64_t point) {
        const std::int64_t line = SIDE * p.channels;
        for (std::int64_t y = 0; y < SIDE; ++y) {
            prepare_row(p.a, 0, p.channels, p.height, p.width, at.image, at.y - p.pad_y + y, at.x - p.pad_x, SIDE,
                        window + y * line);
        }
        constexpr std::int64_t width = sizeof(Halves) / 2;
        std::int64_t c = 0;
        for (; c + width <= p.channels; c += width) {
            winograd_input<Winograd4, Halves>(window + c, p.channels, line, to + c, point);
        }
        for (; c < p.channels; ++c) {
            winograd_input<Winograd4, std::uint16_t>(window + c, p.channels, line, to + c, point);
        }
    }

    // Tiles [begin, end) of the errors of one panel. Columns that the panel lacks hold what nothing reads, and a tile
    // that the last unit lacks the one before, which meets inputs of zero.
    void pack_errors(std::int64_t end, std::int64_t column, std::int64_t cols) {
        const std::int64_t digit_step = POINTS * units * Isa::unit * Isa::columns;
        for (std::int64_t u = 0; u < units; ++u) {
            for (std::int64_t j = 0; j < Isa::unit; ++j) {
                const std::int64_t index = begin + u * Isa::unit + j, step = POINTS * Isa::columns;
                if (index < end) prepare_errors(place_of(index), column, cols);
                for (int digit = 0; digit < p.b.digits; ++digit) {
                    transform_error(window + digit * 16 * Isa::columns, cols, unit + (digit * Isa::unit + j) * step);
                }
            }
            for (int digit = 0; digit < p.b.digits; ++digit) {
                for (std::int64_t i = 0; i < POINTS; ++i) {
                    zip_units<Isa, 0>(unit + (digit * Isa::unit * POINTS + i) * Isa::columns, POINTS * Isa::columns,
                                      Isa::columns, 0,
                                      errors + digit * digit_step + (i * units + u) * Isa::unit * Isa::columns);
                }
            }
        }
    }

    // The centred errors of a tile, [row][pixel][column], or their two digits one after the other.
    void prepare_errors(const Place& at, std::int64_t column, std::int64_t cols) {
        Operand part = p.b;
        const std::int64_t bytes = part.code == CODE_INT16 ? 2 : 1;
        part.data = static_cast<const char*>(part.data) + column * part.stride[3] * bytes;
        part.recode[0] = {-part.zero, 0, -1};
        for (std::int64_t y = 0; y < 4; ++y) {
            prepare_row(part, 0, cols, p.out_h, p.out_w, at.image, at.y + y, at.x, 4, window + y * 4 * cols);
        }
        if (p.b.digits == 1) return;
        std::int16_t *__restrict low = window, *__restrict high = window + 16 * Isa::columns;
        for (std::int64_t i = 0; i < 16 * cols; ++i) {
            const std::int16_t whole = low[i];
            high[i] = static_cast<std::int16_t>((whole >> 8) + (whole >> 7 & 1));
            low[i] = static_cast<std::int16_t>(whole - high[i] * 256);
        }
    }

    static void transform_error(const std::int16_t* from, std::int64_t pixel, std::int16_t* to) {
        static_assert(sizeof(Halves) == Isa::columns * 2);
        along_both<Halves, 4, SIDE>(
            [&](int y, int x) { return from + (4 * y + x) * pixel; },
            [](const Halves* e, Halves* out) { WinogradTaps::error(e, out); },
            [&](int y, int x, Halves value) {
                __builtin_memcpy(to + (SIDE * y + x) * Isa::columns, &value, sizeof value);
            });
    }

    // Blocks [first, last) of channels: a point's errors stay in the nearest cache for all of them.
    void multiply(std::int64_t first, std::int64_t last, int digit) {
        const Segment all{0, 0, units};
        const std::int64_t block_size = units * Isa::unit * Isa::rows, point_size = units * Isa::unit * Isa::columns;
        for (std::int64_t i = 0; i < POINTS; ++i) {
            const std::int16_t* of_point = errors + (digit * POINTS + i) * point_size;
            for (std::int64_t block = first; block < last; ++block) {
                tile<Isa, Isa::rows, Isa::vectors>(inputs + (i * blocks + block) * block_size, Isa::unit,
                                                   Isa::rows * Isa::unit, of_point, &all, 1,
                                                   products + ((block - first) * POINTS + i) * tile_size, true);
            }
        }
    }

    // The nine taps of a block of channels from its products.
    void transform_products(const std::int32_t* from) {
        using Bits = typename Vectors<Isa::lanes>::Bits;
        using Ints = typename Vectors<Isa::lanes>::Ints;
        for (std::int64_t at = 0; at < tile_size; at += Isa::lanes) {
            along_both<Bits, SIDE, 3>(
                [&](int y, int x) { return from + (SIDE * y + x) * tile_size + at; },
                [](const Bits* m, Bits* out) { WinogradTaps::output(m, out); },
                [&](int y, int x, Bits sum) {
                    const Ints value = Winograd4::quotient<Ints>(sum);
                    __builtin_memcpy(taps + (3 * y + x) * tile_size + at, &value, sizeof value);
                });
        }
    }

    // Adds the taps of a block of channels to the job's sums, whose rows are (tap column, channel).
    void add_taps(std::int64_t local, std::int64_t block, int digit) {
        const std::int64_t digits = p.b.digits, all = pieces(3 * p.channels, Isa::rows);
        for (std::int64_t r = 0; r < 3; ++r) {
            for (std::int64_t s = 0; s < 3; ++s) {
                const std::int64_t place = (local * all + s * blocks + block) * 3 + r;
                const std::int64_t to = (place * digits + digit) * tile_size;
                const std::int32_t* from = taps + (3 * r + s) * tile_size;
                if (p.limit) {
                    for (std::int64_t i = 0; i < tile_size; ++i) sums.wide[to + i] += from[i];
                    continue;
                }
                for (std::int64_t i = 0; i < tile_size; ++i) {  // partial sums may wrap
                    const auto before = static_cast<std::uint32_t>(sums.narrow[to + i]);
                    sums.narrow[to + i] = static_cast<std::int32_t>(before + static_cast<std::uint32_t>(from[i]));
                }
            }
        }
    }

    void panel(std::int64_t index, std::int64_t end) {
        const std::int64_t column = index * Isa::columns, left = p.filters - column;
        pack_errors(end, column, left < Isa::columns ? left : Isa::columns);
        for (int digit = 0; digit < p.b.digits; ++digit) {
            for (std::int64_t first = 0; first < blocks; first += WGRAD_BLOCKS) {
                const std::int64_t last = first + WGRAD_BLOCKS < blocks ? first + WGRAD_BLOCKS : blocks;
                multiply(first, last, digit);
                for (std::int64_t block = first; block < last; ++block) {
                    transform_products(products + (block - first) * POINTS * tile_size);
                    add_taps(index - first_panel, block, digit);
                }
            }
        }
    }

    void run(std::int64_t part) {
        const std::int64_t panels = pieces(p.filters, Isa::columns), tiles = p.images * down * across;
        const std::int64_t i = part / p.parts_panels, j = part % p.parts_panels;
        first_panel = panels * j / p.parts_panels;
        last_panel = panels * (j + 1) / p.parts_panels;
        const std::int64_t last = tiles * (i + 1) / p.parts_rows;
        for (begin = tiles * i / p.parts_rows; begin < last; begin += p.winograd_tiles) {
            const std::int64_t end = begin + p.winograd_tiles < last ? begin + p.winograd_tiles : last;
            units = pieces(end - begin, Isa::unit);
            pack_inputs(end);
            for (std::int64_t index = first_panel; index < last_panel; ++index) panel(index, end);
        }
    }
};

template <class Isa>
void wgrad_winograd_job(const WgradPlan& p, std::int64_t part, void* scratch, const WgradSums& sums) {
    WgradWinogradJob<Isa>(p, scratch, sums).run(part);
}

template <class Isa>
std::int64_t wgrad_winograd_scratch(const WgradPlan& p) {
    return WgradWinogradJob<Isa>::scratch_bytes(p);
}
