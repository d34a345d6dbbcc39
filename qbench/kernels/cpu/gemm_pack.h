// Filters into panels of columns: [unit][column][term of the unit]. Included inside each instruction set's namespace.

using Word __attribute__((may_alias)) = std::uint32_t;

// Elements (code >> SHIFT) + offset, modulo the elements' width.
template <class Isa, int SHIFT, class T>
QBENCH_INLINE void zip_units(const T* __restrict from, std::int64_t term_stride, std::int64_t cols,
                             typename Isa::B offset, typename Isa::B* __restrict to) {
    using B = typename Isa::B;
    if constexpr (Isa::unit == 1) {
        for (std::int64_t c = 0; c < cols; ++c) to[c] = static_cast<B>(static_cast<B>(from[c] >> SHIFT) + offset);
    } else {
        std::int64_t done = 0;
        if constexpr (Isa::raw) {
            for (; done + 16 <= cols; done += 16) {
                Isa::template zip_16<SHIFT>(from + done, term_stride, offset, to + done * Isa::unit);
            }
        }
        // A unit of a column is one word, put together from its terms: compilers do that for many columns at once.
        using Bits = std::make_unsigned_t<B>;
        static_assert(Isa::unit * sizeof(B) == sizeof(Word));
        Word* const __restrict words = reinterpret_cast<Word*>(to);
        for (std::int64_t c = done; c < cols; ++c) {
            Word word = 0;
#pragma GCC unroll 4
            for (std::int64_t j = 0; j < Isa::unit; ++j) {
                const Bits term = static_cast<Bits>(static_cast<Bits>(from[j * term_stride + c] >> SHIFT) + static_cast<Bits>(offset));
                word |= static_cast<Word>(term) << (8 * sizeof(B) * j);
            }
            words[c] = word;
        }
    }
}

// The same with the usual numbers of columns known to the compiler.
template <class Isa, int SHIFT, class T>
QBENCH_INLINE void zip_columns_of(const T* from, std::int64_t term_stride, std::int64_t cols, typename Isa::B offset,
                                  typename Isa::B* to) {
    if (cols == Isa::columns) return zip_units<Isa, SHIFT>(from, term_stride, Isa::columns, offset, to);
    if (cols == Isa::lanes) return zip_units<Isa, SHIFT>(from, term_stride, Isa::lanes, offset, to);
    zip_units<Isa, SHIFT>(from, term_stride, cols, offset, to);
}

// Words of four bytes, `stride` bytes apart, plus an offset of each byte.
inline void copy_units(const void* from, std::int64_t stride, std::int64_t count, std::uint8_t offset, void* to) {
    constexpr Word EACH = 0x01010101, HIGH = 0x80 * EACH;
    const Word add = offset * EACH;
    for (std::int64_t i = 0; i < count; ++i) {
        Word word;
        __builtin_memcpy(&word, static_cast<const char*>(from) + i * stride, sizeof word);
        word = ((word & ~HIGH) + (add & ~HIGH)) ^ ((word ^ add) & HIGH);  // no byte carries into the next one
        __builtin_memcpy(static_cast<char*>(to) + i * sizeof word, &word, sizeof word);
    }
}

// `terms` terms (at most a unit) of `cols` columns that lie next to each other: [column][term], zero where there is none.
template <class Isa, class T>
QBENCH_INLINE void zip_terms(const T* from, std::int64_t term_stride, std::int64_t terms, std::int64_t cols,
                             const Recode& rule, typename Isa::B* to) {
    using B = typename Isa::B;
    if (terms >= Isa::unit && rule.mask == -1) {
        const B offset = static_cast<B>(rule.add);
        if (rule.shift == 0) return zip_columns_of<Isa, 0>(from, term_stride, cols, offset, to);
        if constexpr (sizeof(T) == 2) {
            if (rule.shift == 8 && rule.add == 0) return zip_columns_of<Isa, 8>(from, term_stride, cols, B{0}, to);
        }
    }
    for (std::int64_t c = 0; c < cols; ++c) {
        for (std::int64_t j = 0; j < Isa::unit; ++j) {
            to[c * Isa::unit + j] = j < terms ? static_cast<B>(recoded(from[j * term_stride + c], rule)) : B{0};
        }
    }
}

// The same of columns `column_stride` apart.
template <class Isa, class T>
void zip_columns(const T* from, std::int64_t term_stride, std::int64_t column_stride, std::int64_t terms,
                 std::int64_t cols, const Recode& rule, typename Isa::B* to) {
    if constexpr (Isa::raw && sizeof(T) == 1) {  // a unit of a column is one word there already
        if (terms == Isa::unit && term_stride == 1) {
            return copy_units(from, column_stride, cols, static_cast<std::uint8_t>(rule.add), to);
        }
    }
    for (std::int64_t c = 0; c < cols; ++c, from += column_stride) {
        for (std::int64_t j = 0; j < terms; ++j) {
            to[c * Isa::unit + j] = static_cast<typename Isa::B>(recoded(from[j * term_stride], rule));
        }
    }
}

// One tap of a panel; `start` terms of the run come before it.
template <class Isa, class T>
void pack_tap(const ConvPlan& p, const T* from, std::int64_t start, std::int64_t cols, std::int64_t width,
              const Recode& rule, typename Isa::B* to) {
    const std::int64_t terms = p.in_group, stride = p.contract_stride;
    if (start % Isa::unit) {  // units that two taps share
        for (std::int64_t i = 0; i < terms; ++i) {
            const std::int64_t k = start + i;
            for (std::int64_t c = 0; c < cols; ++c) {
                to[(k / Isa::unit * width + c) * Isa::unit + k % Isa::unit] =
                    static_cast<typename Isa::B>(recoded(from[i * stride + c * p.column_stride], rule));
            }
        }
        return;
    }
    to += start * width;
    for (std::int64_t i = 0; i < terms; i += Isa::unit, to += Isa::unit * width) {
        const std::int64_t left = terms - i < Isa::unit ? terms - i : Isa::unit;
        if (p.column_stride == 1) {
            zip_terms<Isa>(from + i * stride, stride, left, cols, rule, to);
        } else {
            zip_columns<Isa>(from + i * stride, stride, p.column_stride, left, cols, rule, to);
        }
    }
}

// The value of a prepared element.
template <class B>
std::int32_t prepared(std::int32_t code, const Recode& rule, bool is_signed) {
    const std::int32_t element = recoded(code, rule);
    return is_signed ? static_cast<B>(element) : static_cast<std::make_unsigned_t<B>>(element);
}

// Sum of the prepared elements of a column, and of the magnitudes of their true values.
template <class B, class T>
void sum_column(const T* from, std::int64_t stride, std::int64_t terms, std::int32_t zero, const Recode& rule,
                bool is_signed, std::int64_t& sums, std::int64_t& magnitudes) {
    std::int32_t sum = 0;
    std::int64_t magnitude = 0;
    for (std::int64_t i = 0; i < terms; ++i) {
        const std::int32_t code = from[i * stride], value = code - zero;
        sum += prepared<B>(code, rule, is_signed);
        magnitude += value < 0 ? -value : value;
    }
    sums += sum;
    magnitudes += magnitude;
}

// The same of all columns of a panel.
template <class Isa, class T>
void sum_columns(const ConvPlan& p, const T* from, std::int64_t cols, int digit, std::int64_t* sums,
                 std::int64_t* magnitudes) {
    using B = typename Isa::B;
    const Recode rule = p.b.recode[digit];
    const bool is_signed = p.b.digit_signed[digit] || !Isa::raw;
    constexpr std::int64_t MOST = 4096;  // terms of which an int32 takes the magnitudes, 2^17 at most
    if (p.column_stride != 1) {
        for (std::int64_t c = 0; c < cols; ++c, from += p.column_stride) {
            if (p.contract_stride == 1) {
                sum_column<B>(from, 1, p.in_group, p.b.zero, rule, is_signed, sums[c], magnitudes[c]);
            } else {
                sum_column<B>(from, p.contract_stride, p.in_group, p.b.zero, rule, is_signed, sums[c], magnitudes[c]);
            }
        }
        return;
    }
    for (std::int64_t begin = 0; begin < p.in_group; begin += MOST) {
        std::int32_t sum[Isa::columns] = {}, magnitude[Isa::columns] = {};
        const std::int64_t end = begin + MOST < p.in_group ? begin + MOST : p.in_group;
        for (std::int64_t i = begin; i < end; ++i) {
            const T* term = from + i * p.contract_stride;
            for (std::int64_t c = 0; c < cols; ++c) {
                const std::int32_t code = term[c], value = code - p.b.zero;
                sum[c] += prepared<B>(code, rule, is_signed);
                magnitude[c] += value < 0 ? -value : value;
            }
        }
        for (std::int64_t c = 0; c < cols; ++c) {
            sums[c] += sum[c];
            magnitudes[c] += magnitude[c];
        }
    }
}

// One panel of one digit of one group of one phase.
template <class Isa>
void pack_panel(const ConvPlan& p, const Phase& phase, std::int64_t group, int digit, std::int64_t panel) {
    using B = typename Isa::B;
    const std::int64_t column = panel * Isa::columns;
    const std::int64_t cols = p.out_group - column < Isa::columns ? p.out_group - column : Isa::columns;
    const std::int64_t width = round_up(cols, Isa::lanes), digits = p.b.digits;
    const std::int64_t place = (group * digits + digit) * p.padded_columns + column;
    B* to = static_cast<B*>(p.packed) + phase.packed + place * phase.units * Isa::unit;
    std::int64_t *sums = p.column_sums + phase.sums + place, *magnitudes = p.column_magnitudes + phase.sums + place;
    fill(sums, width, std::int64_t{0});
    fill(magnitudes, width, std::int64_t{0});
    fill(to, phase.units * width * Isa::unit, B{0});
    const Recode rule = p.b.recode[digit];
    with_codes(p.b, [&](auto* codes) {
        for (std::int64_t r = 0; r < phase.run_count; ++r) {
            const Run& run = phase.runs[r];
            for (std::int64_t t = 0; t < run.taps; ++t) {
                const auto* from = codes + p.tap_offset[run.tap + t] + group * p.group_stride + column * p.column_stride;
                pack_tap<Isa>(p, from, t * p.in_group, cols, width, rule, to);
                sum_columns<Isa>(p, from, cols, digit, sums, magnitudes);
            }
            to += run.units * width * Isa::unit;
        }
    });
}

// Task: phase, group, digit and panel, the panel running fastest.
template <class Isa>
void pack_task(const ConvPlan& p, std::int64_t task) {
    const std::int64_t panels = pieces(p.out_group, Isa::columns);
    const std::int64_t panel = task % panels, digit = task / panels % p.b.digits;
    const std::int64_t group = task / panels / p.b.digits % p.groups, phase = task / panels / p.b.digits / p.groups;
    pack_panel<Isa>(p, p.phases[phase], group, static_cast<int>(digit), panel);
}
