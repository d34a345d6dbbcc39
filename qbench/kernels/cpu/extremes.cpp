// Extremes of codes seen through a view. The view rises or falls with the code in each channel, so the extremes of the
// channel's codes are enough, and one byte per element is read. They are with a slope or an offset that is not finite
// too: a product overflows at the highest code first, and an infinite slope gives NaN at code 0 alone.
#include "encode.h"

namespace qbench {
namespace {

constexpr i64 VECTOR_BYTES = 64, ROWS = 32;

std::size_t size(i64 count) { return static_cast<std::size_t>(count); }

// Lowest and highest codes of columns; lowest above highest where there is none.
struct ColumnEnds {
    std::vector<u8> lows, highs;

    explicit ColumnEnds(i64 columns) : lows(size(columns), 255), highs(size(columns), 0) {}

    void take(i64 c, u8 low, u8 high) {
        if (low < lows[size(c)]) lows[size(c)] = low;
        if (high > highs[size(c)]) highs[size(c)] = high;
    }
};

// Codes as rows of at least one vector (several of the tensor's rows side by side), in blocks of ROWS rows; what is left
// over at the end forms the last block, which is no rectangle.
struct Blocks {
    const u8* codes;
    i64 columns, length, whole, total;  // elements of a block, blocks of full length, elements

    Blocks(const u8* codes, i64 n, i64 channels)
        : codes(codes), columns(period_of(channels, VECTOR_BYTES)), length(ROWS * columns), whole(n / length), total(n) {}
    i64 count() const { return whole + (whole * length < total); }
    i64 start(i64 block) const { return block * length; }
    i64 size_of(i64 block) const { return block < whole ? length : total - start(block); }
};

// The elements left out, sorted by block.
class LeftOut {
public:
    struct Place {
        u32 row, column;  // within the block
    };

    LeftOut(const Blocks& blocks, const i64* at, i64 count) : first_(size(blocks.count() + 1)), places_(size(count)) {
        std::vector<i64> rows(size(count));  // a division takes longer than all else here
        for (i64 p = 0; p < count; ++p) ++first_[size((rows[size(p)] = at[p] / blocks.columns) / ROWS)];
        i64 before = 0;
        for (i64& first : first_) before += std::exchange(first, before);
        std::vector<i64> next = first_;
        for (i64 p = 0; p < count; ++p) {
            const i64 row = rows[size(p)], column = at[p] - row * blocks.columns;
            places_[size(next[size(row / ROWS)]++)] = {static_cast<u32>(row % ROWS), static_cast<u32>(column)};
        }
    }
    const Place* begin(i64 block) const { return places_.data() + first_[size(block)]; }
    const Place* end(i64 block) const { return places_.data() + first_[size(block + 1)]; }

private:
    std::vector<i64> first_;
    std::vector<Place> places_;
};

// Ends of blocks some of whose elements are left out.
class WithoutSome {
public:
    explicit WithoutSome(const Blocks& blocks) : blocks_(blocks), rows_out_(size(blocks.columns)) {}

    void take(i64 block, const LeftOut& left_out, ColumnEnds& ends, const Loops& loops) {
        const u8* const codes = blocks_.codes + blocks_.start(block);
        const Place *const begin = left_out.begin(block), *const end = left_out.end(block);
        for (const Place* place = begin; place < end; ++place) rows_out_[place->column] |= 1u << place->row;
        if (block < blocks_.whole && replace(codes, begin, end)) {
            loops.column_ends(replaced_.data(), blocks_.columns, {0, ROWS}, ends.lows.data(), ends.highs.data());
        } else {
            take_singly(codes, blocks_.size_of(block), ends);
        }
        for (const Place* place = begin; place < end; ++place) rows_out_[place->column] = 0;
    }

private:
    using Place = LeftOut::Place;
    const Blocks& blocks_;
    std::vector<u32> rows_out_;  // of each column, a bit per row
    std::vector<u8> replaced_;
    static_assert(ROWS == 32);

    // Puts another code of its column in the place of each element left out; false where a column has no other.
    bool replace(const u8* codes, const Place* begin, const Place* end) {
        replaced_.assign(codes, codes + blocks_.length);
        for (const Place* place = begin; place < end; ++place) {
            const u32 column = place->column, rows_in = ~rows_out_[column];
            if (!rows_in) return false;
            replaced_[size(place->row * blocks_.columns + column)] =
                codes[__builtin_ctz(rows_in) * blocks_.columns + column];
        }
        return true;
    }

    void take_singly(const u8* codes, i64 count, ColumnEnds& ends) const {
        for (i64 i = 0, c = 0, row = 0; i < count; ++i) {
            if (!(rows_out_[size(c)] >> row & 1)) ends.take(c, codes[i], codes[i]);
            if (++c == blocks_.columns) c = 0, ++row;
        }
    }
};

ColumnEnds column_ends(const Blocks& blocks, const i64* at, i64 count, int threads, const Loops& loops) {
    const LeftOut left_out(blocks, at, count);
    ColumnEnds all(blocks.columns);
    in_parts(useful_threads(threads, blocks.total), blocks.count(), 1, [&](int, Range share) {
        ColumnEnds mine(blocks.columns);
        WithoutSome without_some(blocks);
        for (i64 block = share.begin; block < share.end; ++block) {
            const u8* const codes = blocks.codes + blocks.start(block);
            if (block < blocks.whole && left_out.begin(block) == left_out.end(block)) {
                loops.column_ends(codes, blocks.columns, {0, ROWS}, mine.lows.data(), mine.highs.data());
            } else {
                without_some.take(block, left_out, mine, loops);
            }
        }
#pragma omp critical(qbench_column_ends)
        for (i64 c = 0; c < blocks.columns; ++c) all.take(c, mine.lows[size(c)], mine.highs[size(c)]);
    });
    return all;
}

}  // namespace
}  // namespace qbench

using namespace qbench;

QBENCH_EXPORT void qbench_view_extremes(
    const u8* codes, i64 n, i64 channels, const float* slope, const float* offset, int relu, const i64* at,
    const float* values, i64 count, float* out, int threads, int isa) {
    if (!n) return finish_extremes(no_extremes(), 0, out);
    Extremes all = no_extremes();
    const Blocks blocks(codes, n, channels);
    const ColumnEnds ends = column_ends(blocks, at, count, threads, loops_for(isa));
    for (i64 p = 0; p < blocks.columns; ++p) {
        if (ends.lows[size(p)] > ends.highs[size(p)]) continue;
        for (const u8 code : {ends.lows[size(p)], ends.highs[size(p)]}) {
            const float product = slope[p % channels] * static_cast<float>(code);
            float value = product + offset[p % channels];
            if (relu && value < 0) value = 0;
            all = joined(all, {value, value, std::isnan(value)});
        }
    }
    for (i64 p = 0; p < count; ++p) all = joined(all, {values[p], values[p], std::isnan(values[p])});
    finish_extremes(all, n, out);
}
