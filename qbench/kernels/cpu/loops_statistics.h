// Loops that reduce columns. Included inside the namespace of one instruction set.
#pragma once

constexpr i64 ROWS_AT_ONCE = 256;  // a byte holds a row's place, 16 bits the sum of its codes

// Calls body(first column, columns to skip) for every vector of bytes. The last one overlaps the one before where the
// columns (at least one vector of them) are no multiple of a vector.
template <class Body>
QBENCH_INLINE void for_each_column(i64 columns, const Body& body) {
    i64 c = 0;
    for (; c + Vector::BYTES <= columns; c += Vector::BYTES) body(c, i64{0});
    if (c < columns) body(columns - Vector::BYTES, c - (columns - Vector::BYTES));
}

// Lowest and highest code of each column, joined with what `lows` and `highs` hold. columns >= 64.
void column_ends(const u8* codes, i64 columns, Range rows, u8* lows, u8* highs) {
    for (i64 start = rows.begin; start < rows.end; start += ROWS_AT_ONCE) {
        const i64 end = start + ROWS_AT_ONCE < rows.end ? start + ROWS_AT_ONCE : rows.end;
        for_each_column(columns, [&](i64 c, i64) __attribute__((always_inline)) {
            auto low = Vector::load_bytes(lows + c), high = Vector::load_bytes(highs + c);
            for (i64 row = start; row < end; ++row) {
                const auto here = Vector::load_bytes(codes + row * columns + c);
                low = Vector::min_bytes(low, here);
                high = Vector::max_bytes(high, here);
            }
            Vector::store_bytes(lows + c, low);
            Vector::store_bytes(highs + c, high);
        });
    }
}

// The ends of one vector of columns within a block of rows, and the rows that have them first.
struct BlockEnds {
    u8 lows[Vector::BYTES], highs[Vector::BYTES], low_rows[Vector::BYTES], high_rows[Vector::BYTES];
    u16 even[Vector::BYTES / 2], odd[Vector::BYTES / 2];
};

QBENCH_INLINE void find_ends(const u8* codes, i64 stride, i64 rows, BlockEnds& ends) {
    auto low = Vector::load_bytes(codes), high = low;
    auto low_row = Vector::set_bytes(0), high_row = low_row;
    auto sums = Vector::no_sums();
    for (i64 row = 0; row < rows; ++row) {
        const auto here = Vector::load_bytes(codes + row * stride), place = Vector::set_bytes((u8)row);
        const auto lower = Vector::min_bytes(low, here), higher = Vector::max_bytes(high, here);
        low_row = Vector::select_bytes(Vector::equal_bytes(lower, low), low_row, place);
        high_row = Vector::select_bytes(Vector::equal_bytes(higher, high), high_row, place);
        low = lower;
        high = higher;
        Vector::add_bytes(sums, here);
    }
    Vector::store_bytes(ends.lows, low);
    Vector::store_bytes(ends.highs, high);
    Vector::store_bytes(ends.low_rows, low_row);
    Vector::store_bytes(ends.high_rows, high_row);
    Vector::store_sums(ends.even, ends.odd, sums);
}

// Ends, their first rows and sums of each column. rows >= 1, columns >= 64; the results need no preparation.
void column_statistics(const ColumnsJob& job) {
    std::memcpy(job.lows, job.codes, (std::size_t)job.columns);
    std::memcpy(job.highs, job.codes, (std::size_t)job.columns);
    std::memset(job.low_at, 0, (std::size_t)job.columns * sizeof(i64));
    std::memset(job.high_at, 0, (std::size_t)job.columns * sizeof(i64));
    std::memset(job.sums, 0, (std::size_t)job.columns * sizeof(i64));
    BlockEnds ends;
    for (i64 start = 0; start < job.rows; start += ROWS_AT_ONCE) {
        const i64 rows = job.rows - start < ROWS_AT_ONCE ? job.rows - start : ROWS_AT_ONCE;
        for_each_column(job.columns, [&](i64 first, i64 skip) __attribute__((always_inline)) {
            find_ends(job.codes + start * job.columns + first, job.columns, rows, ends);
            for (i64 i = skip; i < Vector::BYTES; ++i) {
                const i64 c = first + i;
                job.sums[c] += i & 1 ? ends.odd[i / 2] : ends.even[i / 2];
                if (ends.lows[i] < job.lows[c]) {
                    job.lows[c] = ends.lows[i];
                    job.low_at[c] = start + ends.low_rows[i];
                }
                if (ends.highs[i] > job.highs[c]) {
                    job.highs[c] = ends.highs[i];
                    job.high_at[c] = start + ends.high_rows[i];
                }
            }
        });
    }
}

// Sums of an element's two terms and, for some, its extremes: in registers for the places of one vector.
struct MomentsAt {
    using V = Vector;
    V::F low, high;
    V::D shift, first, second;

    QBENCH_INLINE MomentsAt(const SumsJob& job, i64 c)
        : low(V::load(job.lows + c)), high(V::load(job.highs + c)), shift(V::to_double(V::load(job.shift + c))),
          first(V::load(job.first + c)), second(V::load(job.second + c)) {}
    QBENCH_INLINE void add(const SumsJob& job, i64 i, i64) {
        const auto x = V::load(job.x + i);
        const auto d = V::sub(V::to_double(x), shift);
        first = V::add(first, d);
        second = V::add(second, V::mul(d, d));
        low = V::min(x, low);
        high = V::max(x, high);
    }
    QBENCH_INLINE void store(const SumsJob& job, i64 c) const {
        V::store(job.lows + c, low);
        V::store(job.highs + c, high);
        V::store(job.first + c, first);
        V::store(job.second + c, second);
    }
};

template <int ENTRIES>
struct GradientSumsAt {
    using V = Vector;
    V::D first, second;

    QBENCH_INLINE GradientSumsAt(const SumsJob& job, i64 c) : first(V::load(job.first + c)), second(V::load(job.second + c)) {}
    QBENCH_INLINE void add(const SumsJob& job, i64 i, i64 c) {
        const Masked<V, ENTRIES> masked(*job.gradient, i, c);
        const auto m = V::to_double(masked.m);
        first = V::add(first, m);
        second = V::add_exact(second, m, V::to_double(masked.q));
    }
    QBENCH_INLINE void store(const SumsJob& job, i64 c) const {
        V::store(job.first + c, first);
        V::store(job.second + c, second);
    }
};

// Adds a range of elements to the sums of their places. Where the table's period is a multiple of two vectors, a pair of
// vectors stays in registers for some rows; each place meets its elements in the same order either way.
template <class At>
QBENCH_INLINE void add_range(const SumsJob& job, Range range) {
    using V = Vector;
    constexpr i64 PAIR = 2 * V::WIDTH, ROWS = 32;
    i64 start = range.begin;
    if (V::WIDTH > 1 && start % job.period == 0 && job.period % PAIR == 0) {
        for (i64 rows; (rows = (range.end - start) / job.period) > 0; start += rows * job.period) {
            if (rows > ROWS) rows = ROWS;
            for (i64 c = 0; c < job.period; c += PAIR) {
                At one(job, c), other(job, c + V::WIDTH);
                for (i64 i = start + c, end = i + rows * job.period; i < end; i += job.period) {
                    one.add(job, i, c);
                    other.add(job, i + V::WIDTH, c + V::WIDTH);
                }
                one.store(job, c);
                other.store(job, c + V::WIDTH);
            }
        }
    }
    Place<V> place(job.period);
    place.seek(start);
    for (i64 i = start; i < range.end; i += V::WIDTH) {  // whole vectors, which need not be whole groups behind the rows
        const i64 c = place.next();
        At at(job, c);
        at.add(job, i, c);
        at.store(job, c);
    }
}

// Of x - shift and its square, with the extremes. NaN shows in the sums alone.
void moments(const SumsJob& job, Range range) { add_range<MomentsAt>(job, range); }

// Of the masked gradient m and m * q.
void gradient_sums(const SumsJob& job, Range range) {
    const int entries = job.gradient->view.entries;
    if (entries <= 16) return add_range<GradientSumsAt<16>>(job, range);
    if (entries <= 32) return add_range<GradientSumsAt<32>>(job, range);
    add_range<GradientSumsAt<256>>(job, range);
}
