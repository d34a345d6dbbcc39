// What becomes of a tile's sums: corrections, int64 totals, results. Included inside each instruction set's namespace.

// What sums of raw bytes lack: a part for each row, or null where all are 0, and one for each column.
template <class Part>
struct Lack {
    const Part *rows, *columns;
};

template <class Total, class Part>
void correct(Total* totals, std::int64_t rows, std::int64_t cols, std::int64_t pitch, const Lack<Part>& lack) {
    // Unsigned, because int32 sums may pass through values that wrap.
    using Bits = std::make_unsigned_t<Part>;
    static_assert(sizeof(Total) == sizeof(Part));
    for (std::int64_t m = 0; m < rows; ++m) {
        const Bits row = static_cast<Bits>(lack.rows ? lack.rows[m] : 0);
        for (std::int64_t n = 0; n < cols; ++n) {
            const Bits total = static_cast<Bits>(totals[m * pitch + n]);
            totals[m * pitch + n] = static_cast<Total>(total + row + static_cast<Bits>(lack.columns[n]));
        }
    }
}

inline void widen(const std::int32_t* sums, std::int64_t rows, std::int64_t cols, std::int64_t pitch, int shift,
                  std::int64_t* totals, std::int64_t totals_pitch) {
    for (std::int64_t m = 0; m < rows; ++m) {
        for (std::int64_t n = 0; n < cols; ++n) {
            totals[m * totals_pitch + n] += static_cast<std::int64_t>(sums[m * pitch + n]) * (std::int64_t{1} << shift);
        }
    }
}

// Smallest and largest result of each column so far.
template <std::int64_t columns>
struct Range {
    float low[columns], high[columns];
    std::int32_t nan[columns];

    void clear() {
        for (std::int64_t n = 0; n < columns; ++n) {
            low[n] = __builtin_inff();
            high[n] = -__builtin_inff();
            nan[n] = 0;
        }
    }

    void take(const float* values, std::int64_t cols) {
        for (std::int64_t n = 0; n < cols; ++n) {
            const float value = values[n];
            low[n] = value < low[n] ? value : low[n];
            high[n] = value > high[n] ? value : high[n];
            nan[n] |= value != value;
        }
    }

    void give(Extremes& all) const {
        for (std::int64_t n = 0; n < columns; ++n) {
            all.low = low[n] < all.low ? low[n] : all.low;
            all.high = high[n] > all.high ? high[n] : all.high;
            all.nan |= nan[n] != 0;
        }
    }
};

// Code of a result: clipped, which takes NaN to 0, and then rounded to even by what float32 can hold at 2^23.
constexpr float WHOLE = 8388608.0f;

inline std::uint8_t code_of(const Target& target, float value) {
    float code = value / target.code_scale + target.code_zero;
    code = code > 0 ? code : 0;
    code = code < target.code_top ? code : target.code_top;
    return static_cast<std::uint8_t>(static_cast<std::int32_t>(code + WHOLE - WHOLE));
}

// One row of results; `column` is the target's first channel.
template <class Total, std::int64_t columns>
void put(const Target& target, std::int64_t place, std::int64_t column, const Total* totals, std::int64_t cols,
         Range<columns>* range) {
    place += column;
    if (target.kind == RESULT_INT32) {
        std::int32_t* to = static_cast<std::int32_t*>(target.data) + place;
        for (std::int64_t n = 0; n < cols; ++n) to[n] = static_cast<std::int32_t>(totals[n]);
        return;
    }
    if (target.kind == RESULT_INT64) {
        std::int64_t* to = static_cast<std::int64_t*>(target.data) + place;
        for (std::int64_t n = 0; n < cols; ++n) to[n] = totals[n];
        return;
    }
    float values[columns];
    float* const data = target.kind == RESULT_UINT8 ? nullptr : static_cast<float*>(target.data) + place;
    float* const to = data && !target.adds ? data : values;
    const float first = target.first_scale;
    const float* second = target.second_scale + column * target.second_step;
    if (target.second_step) {
        for (std::int64_t n = 0; n < cols; ++n) to[n] = static_cast<float>(totals[n]) * first * second[n];
    } else {
        const float all = *second;
        for (std::int64_t n = 0; n < cols; ++n) to[n] = static_cast<float>(totals[n]) * first * all;
    }
    if (target.bias) {
        for (std::int64_t n = 0; n < cols; ++n) to[n] += target.bias[column + n];
    }
    if (range) range->take(to, cols);
    if (target.adds) {
        for (std::int64_t n = 0; n < cols; ++n) data[n] += to[n];
    }
    if (target.kind == RESULT_UINT8) {
        std::uint8_t* const codes = static_cast<std::uint8_t*>(target.data) + place;
        for (std::int64_t n = 0; n < cols; ++n) codes[n] = code_of(target, to[n]);
    }
}

// Vectors of so many 32-bit lanes, which every compiler that knows vector_size turns into what the target has.
template <std::int64_t lanes>
struct Vectors;
template <>
struct Vectors<4> {
    typedef std::int32_t Ints __attribute__((vector_size(16)));
    typedef std::uint32_t Bits __attribute__((vector_size(16)));
    typedef std::uint16_t Halves __attribute__((vector_size(16)));
    typedef float Floats __attribute__((vector_size(16)));
    typedef std::uint8_t Codes __attribute__((vector_size(4)));
};
template <>
struct Vectors<8> {
    typedef std::int32_t Ints __attribute__((vector_size(32)));
    typedef std::uint32_t Bits __attribute__((vector_size(32)));
    typedef std::uint16_t Halves __attribute__((vector_size(32)));
    typedef float Floats __attribute__((vector_size(32)));
    typedef std::uint8_t Codes __attribute__((vector_size(8)));
};
template <>
struct Vectors<16> {
    typedef std::int32_t Ints __attribute__((vector_size(64)));
    typedef std::uint32_t Bits __attribute__((vector_size(64)));
    typedef std::uint16_t Halves __attribute__((vector_size(64)));
    typedef float Floats __attribute__((vector_size(64)));
    typedef std::uint8_t Codes __attribute__((vector_size(16)));
};

// What becomes of scaled results: they are stored, or added to what is there, or stored as codes.
enum class End { STORE, ADD, ENCODE };

// The same for whole vectors of int32 sums of several outputs, `step` elements apart, in registers.
template <class Isa, End end, bool with_bias>
void put_float_vectors(const Target& target, std::int64_t place, std::int64_t step, std::int64_t column,
                       const std::int32_t* sums, std::int64_t rows, std::int64_t offset, Range<Isa::columns>* range,
                       const Lack<std::uint32_t>& lack) {
    constexpr std::int64_t bytes = Isa::lanes * 4;
    using Ints = typename Vectors<Isa::lanes>::Ints;
    using Bits = typename Vectors<Isa::lanes>::Bits;
    using Floats = typename Vectors<Isa::lanes>::Floats;
    using Codes = typename Vectors<Isa::lanes>::Codes;
    Floats first, second, bias{};
    for (std::int64_t i = 0; i < Isa::lanes; ++i) {
        first[i] = target.first_scale;
        second[i] = *target.second_scale;
    }
    const Floats none{}, code_scale = none + target.code_scale, top = none + target.code_top;
    if (target.second_step) __builtin_memcpy(&second, target.second_scale + column, bytes);
    if constexpr (with_bias) __builtin_memcpy(&bias, target.bias + column, bytes);
    Bits of_columns{};
    if constexpr (Isa::raw) __builtin_memcpy(&of_columns, lack.columns + offset, bytes);
    Floats low{}, high{};
    Ints nan{};
    if (range) {
        __builtin_memcpy(&low, range->low + offset, bytes);
        __builtin_memcpy(&high, range->high + offset, bytes);
        __builtin_memcpy(&nan, range->nan + offset, bytes);
    }
    place += column;
    for (std::int64_t m = 0; m < rows; ++m, place += step, sums += Isa::columns) {
        Ints total;
        __builtin_memcpy(&total, sums, bytes);
        if constexpr (Isa::raw) {  // modulo 2^32, as the sums are
            const std::uint32_t of_row = lack.rows ? lack.rows[m] : 0;
            total = reinterpret_cast<Ints>(reinterpret_cast<Bits>(total) + of_columns + of_row);
        }
        Floats value = __builtin_convertvector(total, Floats) * first * second;
        if constexpr (with_bias) value += bias;
        if constexpr (end == End::ENCODE) {
            Floats code = value / code_scale + target.code_zero;
            code = code > none ? code : none;
            code = (code < top ? code : top) + WHOLE - WHOLE;
            const Codes codes = __builtin_convertvector(__builtin_convertvector(code, Ints), Codes);
            __builtin_memcpy(static_cast<std::uint8_t*>(target.data) + place, &codes, Isa::lanes);
            continue;
        }
        float* const data = static_cast<float*>(target.data) + place;
        if constexpr (end == End::ADD) {
            Floats before;
            __builtin_memcpy(&before, data, bytes);
            value = before + value;
            __builtin_memcpy(data, &value, bytes);
            continue;
        }
        __builtin_memcpy(data, &value, bytes);
        low = value < low ? value : low;
        high = value > high ? value : high;
        nan |= value != value;
    }
    if (range) {
        __builtin_memcpy(range->low + offset, &low, bytes);
        __builtin_memcpy(range->high + offset, &high, bytes);
        __builtin_memcpy(range->nan + offset, &nan, bytes);
    }
}

// Results of a tile of int32 sums: `rows` outputs, `step` elements apart, of `cols` channels. `lack`: of raw bytes. The
// sums may be changed.
template <class Isa>
void put_tile(const Target& target, std::int64_t place, std::int64_t step, std::int64_t column,
              std::int32_t* sums, std::int64_t rows, std::int64_t cols, Range<Isa::columns>* range,
              const Lack<std::uint32_t>& lack) {
    std::int64_t done = 0;
    if (target.kind == RESULT_FLOAT32 || target.kind == RESULT_UINT8) {
        const auto put_vectors =
            target.kind == RESULT_UINT8
                ? (target.bias ? put_float_vectors<Isa, End::ENCODE, true> : put_float_vectors<Isa, End::ENCODE, false>)
            : target.adds ? put_float_vectors<Isa, End::ADD, false>
            : target.bias ? put_float_vectors<Isa, End::STORE, true>
                          : put_float_vectors<Isa, End::STORE, false>;
        for (; done + Isa::lanes <= cols; done += Isa::lanes)
            put_vectors(target, place, step, column + done, sums + done, rows, done, range, lack);
    }
    if (done == cols) return;
    if constexpr (Isa::raw) {
        correct(sums + done, rows, cols - done, Isa::columns, Lack<std::uint32_t>{lack.rows, lack.columns + done});
    }
    for (std::int64_t m = 0; m < rows; ++m, place += step) {
        put<std::int32_t, Isa::columns>(target, place, column + done, sums + m * Isa::columns + done, cols - done, range);
    }
}
