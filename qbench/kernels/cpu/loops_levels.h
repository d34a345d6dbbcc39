// Loops over grids of levels. Included inside the namespace of one instruction set.
#pragma once

// How many of 2^BITS - 1 ascending thresholds lie below x; all for NaN. They form a binary tree, and tree[TREE_LEVEL * k ...]
// holds its level k from left to right, so the bits found so far are the index of the next threshold.
template <class V, int BITS>
QBENCH_INLINE typename V::I levels_below(typename V::F x, const float* tree) {
    auto found = V::set_int(0);
#pragma GCC unroll 8
    for (int level = 0; level < BITS; ++level) {
        const float* const table = tree + TREE_LEVEL * level;
        const auto threshold = level <= 4   ? V::look_up16(table, found)
                               : level == 5 ? V::look_up32(table, found)
                               : level == 6 ? V::look_up64(table, found)
                                            : V::look_up128(table, found);
        const auto doubled = V::add(found, found);
        found = V::add_if(V::not_at_least(threshold, x), doubled, V::set_int(1));
    }
    return found;
}

template <int BITS, bool NORMALISED>
void encode_levels_range(const LevelsJob& job, Range range) {
    using V = Vector;
    Place<V> place(job.period);
    place.seek(range.begin);
    for_each_vector<V>(range, [&](i64 i, int) __attribute__((always_inline)) {
        auto x = V::load(job.x + i);
        if constexpr (NORMALISED) {
            const i64 c = place.next();
            x = V::mul(V::sub(x, V::load(job.mean + c)), V::load(job.inverse + c));
        }
        const auto code = levels_below<V, BITS>(x, job.tree);
        V::store(job.out + i, V::min(code, V::set_int(job.count)));
    });
}

template <bool NORMALISED>
void encode_levels_by_bits(const LevelsJob& job, Range range) {
    switch (job.bits) {
        case 1: return encode_levels_range<1, NORMALISED>(job, range);
        case 2: return encode_levels_range<2, NORMALISED>(job, range);
        case 3: return encode_levels_range<3, NORMALISED>(job, range);
        case 4: return encode_levels_range<4, NORMALISED>(job, range);
        case 5: return encode_levels_range<5, NORMALISED>(job, range);
        case 6: return encode_levels_range<6, NORMALISED>(job, range);
        case 7: return encode_levels_range<7, NORMALISED>(job, range);
        default: return encode_levels_range<8, NORMALISED>(job, range);
    }
}

// Codes of x, or of (x - mean[c]) * inverse[c].
void encode_levels(const LevelsJob& job, Range range) {
    if (job.mean) return encode_levels_by_bits<true>(job, range);
    encode_levels_by_bits<false>(job, range);
}

template <int ENTRIES>
void look_up_range(const u8* codes, const float* table, float* out, Range range) {
    using V = Vector;
    for_each_vector<V>(range, [&](i64 i, int) __attribute__((always_inline)) {
        V::store(out + i, read_code<V, ENTRIES>(codes + i, table));
    });
}

// table[code]; the table has 256 entries, of which the first `entries` are in use.
void look_up(const u8* codes, const float* table, int entries, float* out, Range range) {
    if (entries <= 16) return look_up_range<16>(codes, table, out, range);
    if (entries <= 32) return look_up_range<32>(codes, table, out, range);
    look_up_range<256>(codes, table, out, range);
}
