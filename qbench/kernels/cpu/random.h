// Random words and rounding, as qbench/kernels/random.py defines them. Included inside the namespace of one instruction
// set, after its vector_*.h.
#pragma once

// Philox4x32-7: element i uses word i % 4 of block i / 4.
template <class V>
class Philox {
    using P = typename V::P;

public:
    explicit Philox(const Key& key) : key_(key) {
        for (int round = 0; round < 7; ++round) {
            k0_[round] = V::word(key0(round));
            k1_[round] = V::word(key1(round));
        }
        upper_k0_ = V::upper_word(k0_[6]);
        upper_k1_ = V::upper_word(k1_[6]);
        set_high(0);
    }

    // The words of elements i, ..., i + GROUP * WIDTH - 1; i is a multiple of that number. Between the rounds, which
    // wait for each other, beside(u) does work of its own for each vector u of the group.
    template <class Beside>
    QBENCH_INLINE void draw(i64 i, typename V::I* words, const Beside& beside) {
        const u64 block = (u64)i / 4;
        if ((u32)(block >> 32) != high_) set_high((u32)(block >> 32));
        const P m0 = V::word(M0), m1 = V::word(M1), first = V::word((u32)block);
        // After round 1, c0 is one value for all blocks because the block's high half is; after round 2, c3 is.
        P c0[V::SETS], c2[V::SETS], p0[V::SETS], p1[V::SETS];
        for (int s = 0; s < V::SETS; ++s) {
            p0[s] = V::product(V::add_words(first, V::block_numbers(s * V::BLOCKS)), m0);
            p1[s] = V::product(V::exclusive_or(V::high_word(p0[s]), k1_[0]), m1);
            c0[s] = V::exclusive_or(V::high_word(p1[s]), c1_k0_);
            c2[s] = V::exclusive_or(p0[s], c2_k1_);
        }
        beside(0);
        for (int s = 0; s < V::SETS; ++s) {
            const P q0 = V::product(c0[s], m0), q1 = V::product(c2[s], m1);
            c0[s] = V::exclusive_or(p1[s], k0_[2], V::high_word(q1));
            c2[s] = V::exclusive_or(V::high_word(q0), c3_k1_);
            p0[s] = q0;
            p1[s] = q1;
        }
#pragma GCC unroll 4
        for (int round = 3; round < 6; ++round) {
            beside(round - 2);
#pragma GCC unroll 2
            for (int s = 0; s < V::SETS; ++s) {
                const P q0 = V::product(c0[s], m0), q1 = V::product(c2[s], m1);
                c0[s] = V::exclusive_or(p1[s], k0_[round], V::high_word(q1));
                c2[s] = V::exclusive_or(p0[s], k1_[round], V::high_word(q0));
                p0[s] = q0;
                p1[s] = q1;
            }
        }
        // The last products hold two of the words in their lower halves, where they stay; the others go above them.
        for (int s = 0; s < V::SETS; ++s) {
            const P c1_c0 = V::exclusive_or(V::upper_word(p1[s]), upper_k0_, V::product(c2[s], m1));
            const P c3_c2 = V::exclusive_or(V::upper_word(p0[s]), upper_k1_, V::product(c0[s], m0));
            V::in_order(c1_c0, c3_c2, words + s * (V::GROUP / V::SETS));
        }
    }

private:
    static constexpr u32 M0 = 0xD2511F53u, M1 = 0xCD9E8D57u;
    static_assert(V::GROUP == 4, "draw calls beside four times");
    Key key_;
    u32 high_;
    // As vectors: a word would have to be repeated anew for every draw.
    P k0_[7], k1_[7], upper_k0_, upper_k1_, c1_k0_, c2_k1_, c3_k1_;

    u32 key0(int round) const { return key_.seed + (u32)round * 0x9E3779B9u; }
    u32 key1(int round) const { return key_.tensor + (u32)round * 0xBB67AE85u; }

    // What rounds 1 and 2 make of the counter's parts that all blocks of a draw share.
    void set_high(u32 high) {
        high_ = high;
        const u64 from_step = (u64)M1 * key_.step;
        const u32 c0 = (u32)(from_step >> 32) ^ high ^ key0(0);
        const u64 next = (u64)M0 * c0;
        c1_k0_ = V::word((u32)from_step ^ key0(1));
        c2_k1_ = V::word((u32)(next >> 32) ^ key1(1));
        c3_k1_ = V::word((u32)next ^ key1(2));
    }
};

// One mixing function of the element index, offset by a word that depends on the key.
template <class V>
class Hash {
public:
    explicit Hash(const Key& key) {
        i32 words[4];
        Philox<Single>(key).draw(0, words, [](int) {});
        offset_ = (u32)words[0];
    }

    template <class Beside>
    QBENCH_INLINE void draw(i64 i, typename V::I* words, const Beside& beside) {
        const u32 base = (u32)i * LOW + (u32)((u64)i >> 32) * HIGH + offset_;
        const auto first = V::add(V::mul(V::counting(), V::set_int((i32)LOW)), V::set_int((i32)base));
        for (int u = 0; u < V::GROUP; ++u) {
            beside(u);
            auto h = V::add(first, V::set_int((i32)((u32)(u * V::WIDTH) * LOW)));
            h = V::mul(V::exclusive_or(h, V::template shift_right<16>(h)), V::set_int((i32)0x21F0AAADu));
            h = V::mul(V::exclusive_or(h, V::template shift_right<15>(h)), V::set_int((i32)0x735A2D97u));
            words[u] = V::exclusive_or(h, V::template shift_right<15>(h));
        }
    }

private:
    static constexpr u32 LOW = 0x9E3779B1u, HIGH = 0x85EBCA6Bu;
    u32 offset_;
};

template <class V, int RULE>
using Generator = std::conditional_t<RULE == HASH || RULE == SIGN_HASH, Hash<V>, Philox<V>>;

// Turns values into codes clip(round(y), low, high) by one of the rules of `Rule`; low and high are integers. draw(i) is
// called before the codes of a group, which starts at element i; u is the vector's place in the group. Where y is NaN
// the code is some integer. The SIGN rules give -1 or +1: the sign of w, or +1 with probability clip((y + 1) / 2, 0, 1).
template <class V, int RULE>
class Rounder {
    static constexpr bool DRAWS = RULE == PHILOX || RULE == SIGN_PHILOX || RULE == HASH || RULE == SIGN_HASH;
    struct Nothing {
        explicit Nothing(const Key&) {}
    };
    using F = typename V::F;
    using I = typename V::I;

public:
    explicit Rounder(const Key& key) : generator_(key) {}

    QBENCH_INLINE void draw(i64 i) {
        if constexpr (DRAWS) generator_.draw(i, words_, [](int) {});
    }

    // Clipped before rounding, which gives the same codes and keeps the integers in range. max gives `low` for NaN.
    QBENCH_INLINE I code(F y, [[maybe_unused]] F w, [[maybe_unused]] int u, F low, F high) const {
        if constexpr (RULE == SIGN) {
            return V::select(V::at_least(w, V::set(0.0f)), V::set_int(1), V::set_int(-1));
        } else if constexpr (RULE == SIGN_PHILOX || RULE == SIGN_HASH) {
            const F probability = V::mul(V::add(y, V::set(1.0f)), V::set(0.5f));
            const I drawn = stochastic(V::min(V::max(probability, V::set(0.0f)), V::set(1.0f)), u);
            return V::add(V::add(drawn, drawn), V::set_int(-1));
        } else {
            const F clipped = V::min(V::max(y, low), high);
            if constexpr (DRAWS) return stochastic(clipped, u);
            return fixed(clipped);
        }
    }

    // The rules NEAREST and HALF_UP.
    static QBENCH_INLINE I fixed(F y) {
        if constexpr (RULE != HALF_UP) return V::nearest(y);
        const I floor = V::floor(y);
        return V::add_if(V::at_least(V::sub(y, V::to_float(floor)), V::set(0.5f)), floor, V::set_int(1));
    }

private:
    std::conditional_t<DRAWS, Generator<V, RULE>, Nothing> generator_;
    I words_[V::GROUP];

    QBENCH_INLINE I stochastic(F y, int u) const {
        const I floor = V::floor(y);
        const F random = V::to_float(V::template shift_right<8>(words_[u]));
        const F fraction = V::mul(V::sub(y, V::to_float(floor)), V::set(16777216.0f));
        return V::add_if(V::less(random, fraction), floor, V::set_int(1));
    }
};

// Stochastic rounding of a range, a piece at a time in two steps: values and random numbers, then codes. Since
//     floor(y) + [r < frac(y) * 2^24] = ceil(y - r / 2^24),
// a code takes few operations where floats are rounded up, but the values have to be rounded to nearest. Apart, the
// steps also wait less for each other.
template <class V, int RULE>
class Drawing {
public:
    explicit Drawing(const Key& key) : generator_(key) {}

    // Arguments as those of encode_by_rule.
    template <class Value, class Store, class Finish>
    QBENCH_INLINE void encode(Range range, const Value& value, const Store& store, const Finish& finish) {
        const typename V::Upward upward(this);
        for (i64 begin = range.begin; begin < range.end; begin += PIECE) {
            const Range piece{begin, begin + PIECE < range.end ? begin + PIECE : range.end};
            draw(piece, value);
            upward.begin();
            round(piece, store);
            upward.end();
            finish(piece);
        }
    }

private:
    using I = typename V::I;
    static constexpr i64 PIECE = 512;  // elements: few for the nearest cache, many for what starting a loop costs
    Generator<V, RULE> generator_;
    alignas(64) float y_[PIECE], random_[PIECE];

    template <class Value>
    QBENCH_INLINE void draw(Range piece, const Value& value) {
        for_each_group<V>(piece, [&](i64 i, int vectors) __attribute__((always_inline)) {
            float* const y = y_ + (i - piece.begin);
            float* const random = random_ + (i - piece.begin);
            I words[V::GROUP];
            generator_.draw(i, words, [&](int u) __attribute__((always_inline)) {
                if (V::WIDTH > 1 || u < vectors) V::store(y + u * V::WIDTH, value(i + u * V::WIDTH));
            });
#pragma GCC unroll 4
            for (int u = 0; u < vectors; ++u)
                V::store(random + u * V::WIDTH, V::to_float(V::template shift_right<8>(words[u])));
        });
    }

    template <class Store>
    QBENCH_INLINE void round(Range piece, const Store& store) const {
        for_each_group<V>(piece, [&](i64 i, int vectors) __attribute__((always_inline)) {
            const float* const y = y_ + (i - piece.begin);
            const float* const random = random_ + (i - piece.begin);
            I codes[V::GROUP];
#pragma GCC unroll 4
            for (int u = 0; u < vectors; ++u)
                codes[u] = V::ceil_less(V::load(y + u * V::WIDTH), V::load(random + u * V::WIDTH));
            store(i, codes, vectors);
        });
    }
};

// Codes of a range by any rule but the SIGN ones: value(i) gives the clipped values of the vectors one after the other,
// store(i, codes, vectors) takes the codes of the group that starts at element i, perhaps where floats are rounded up;
// finish(piece), behind it, comes where they are rounded to nearest.
template <class V, int RULE, class Value, class Store, class Finish>
QBENCH_INLINE void encode_by_rule(
    const Key& key, Range range, const Value& value, const Store& store, const Finish& finish) {
    if constexpr (RULE == PHILOX || RULE == HASH) {
        Drawing<V, RULE>(key).encode(range, value, store, finish);
    } else {
        for_each_group<V>(range, [&](i64 i, int vectors) __attribute__((always_inline)) {
            typename V::I codes[V::GROUP];
#pragma GCC unroll 4
            for (int u = 0; u < vectors; ++u) codes[u] = Rounder<V, RULE>::fixed(value(i + u * V::WIDTH));
            store(i, codes, vectors);
            finish(Range{i, i + vectors * V::WIDTH});
        });
    }
}

template <class V, int RULE, class Value, class Store>
QBENCH_INLINE void encode_by_rule(const Key& key, Range range, const Value& value, const Store& store) {
    encode_by_rule<V, RULE>(key, range, value, store, [](Range) {});
}
