// Filters into panels of columns: [unit][column][term of the unit]. Included inside each instruction set's namespace.

// Where the panel's columns lie next to each other in memory: a term of all columns at a time.
template <class Isa, class T>
void pack_terms(const T* from, std::int64_t contract_stride, std::int64_t terms, std::int64_t cols, std::int64_t width,
                std::int64_t start, const Recode& rule, typename Isa::B* to) {
    for (std::int64_t i = 0; i < terms; ++i, from += contract_stride) {
        const std::int64_t k = start + i;
        typename Isa::B* row = to + k / Isa::unit * width * Isa::unit + k % Isa::unit;
        for (std::int64_t c = 0; c < cols; ++c) row[c * Isa::unit] = static_cast<typename Isa::B>(recoded(from[c], rule));
    }
}

// Otherwise: all terms of a column at a time.
template <class Isa, class T>
void pack_columns(const T* from, std::int64_t contract_stride, std::int64_t column_stride, std::int64_t terms,
                  std::int64_t cols, std::int64_t width, std::int64_t start, const Recode& rule, typename Isa::B* to) {
    for (std::int64_t c = 0; c < cols; ++c, from += column_stride) {
        for (std::int64_t i = 0; i < terms; ++i) {
            const std::int64_t k = start + i;
            to[(k / Isa::unit * width + c) * Isa::unit + k % Isa::unit] =
                static_cast<typename Isa::B>(recoded(from[i * contract_stride], rule));
        }
    }
}

// Sums of the prepared elements of each column and of the magnitudes of their true values.
template <class B, class T>
void sum_columns(const T* from, std::int64_t contract_stride, std::int64_t column_stride, std::int64_t terms,
                 std::int64_t cols, std::int32_t zero, const Recode& rule, std::int64_t* sums,
                 std::int64_t* magnitudes) {
    for (std::int64_t c = 0; c < cols; ++c) {
        const T* column = from + c * column_stride;
        std::int64_t sum = 0, magnitude = 0;
        for (std::int64_t i = 0; i < terms; ++i) {
            const std::int32_t code = column[i * contract_stride], value = code - zero;
            sum += static_cast<B>(recoded(code, rule));
            magnitude += value < 0 ? -value : value;
        }
        sums[c] += sum;
        magnitudes[c] += magnitude;
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
                const std::int64_t start = t * p.in_group;
                if (p.column_stride == 1) {
                    pack_terms<Isa>(from, p.contract_stride, p.in_group, cols, width, start, rule, to);
                } else {
                    pack_columns<Isa>(from, p.contract_stride, p.column_stride, p.in_group, cols, width, start, rule, to);
                }
                sum_columns<B>(from, p.contract_stride, p.column_stride, p.in_group, cols, p.b.zero, rule, sums, magnitudes);
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
