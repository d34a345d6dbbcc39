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

// Adds a range of elements to the sums and extremes of their places. NaN shows in the sums alone.
void moments(const SumsJob& job, Range range) {
    using V = Vector;
    Place<V> place(job.period);
    place.seek(range.begin);
    for_each_vector<V>(range, [&](i64 i, int) __attribute__((always_inline)) {
        const i64 c = place.next();
        const auto x = V::load(job.x + i);
        const auto d = V::sub(V::to_double(x), V::to_double(V::load(job.shift + c)));
        V::store(job.first + c, V::add(V::load(job.first + c), d));
        V::store(job.second + c, V::add(V::load(job.second + c), V::mul(d, d)));
        V::store(job.lows + c, V::min(x, V::load(job.lows + c)));
        V::store(job.highs + c, V::max(x, V::load(job.highs + c)));
    });
}

template <int ENTRIES>
void gradient_sums_range(const GradientJob& job, const SumsJob& sums, Range range) {
    using V = Vector;
    Place<V> place(job.view.period);
    place.seek(range.begin);
    for_each_vector<V>(range, [&](i64 i, int) __attribute__((always_inline)) {
        const i64 c = place.next();
        const Masked<V, ENTRIES> masked(job, i, c);
        const auto m = V::to_double(masked.m);
        V::store(sums.first + c, V::add(V::load(sums.first + c), m));
        const auto product = V::mul(m, V::to_double(masked.q));
        V::store(sums.second + c, V::add(V::load(sums.second + c), product));
    });
}

void gradient_sums(const GradientJob& job, const SumsJob& sums, Range range) {
    if (job.view.entries <= 16) return gradient_sums_range<16>(job, sums, range);
    if (job.view.entries <= 32) return gradient_sums_range<32>(job, sums, range);
    gradient_sums_range<256>(job, sums, range);
}
