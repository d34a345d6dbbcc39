// Random words and rounding, as qbench/kernels/random.py defines them. Included inside the namespace of one instruction
// set, after its vector_*.h.
#pragma once

// Philox4x32-7: element i uses word i % 4 of block i / 4.
template <class V>
class Philox {
public:
    explicit Philox(const Key& key) : key_(key) {
        for (int round = 0; round < 7; ++round) {
            k0_[round] = key.seed + (u32)round * 0x9E3779B9u;
            k1_[round] = key.tensor + (u32)round * 0xBB67AE85u;
        }
        set_high(0);
    }

    // The words of elements i, ..., i + GROUP * WIDTH - 1; i is a multiple of that number.
    QBENCH_INLINE void draw(i64 i, typename V::I* words) {
        const u64 block = (u64)i / 4;
        if ((u32)(block >> 32) != high_) set_high((u32)(block >> 32));
        const auto m0 = V::word(M0), m1 = V::word(M1), zero = V::word(0);
        // After round 1, c0 is one value for all blocks because the block's high half is; after round 2, c3 is.
        typename V::P c0[V::SETS], c2[V::SETS], p0[V::SETS], p1[V::SETS];
        for (int s = 0; s < V::SETS; ++s) {
            p0[s] = V::product(V::block_counters((u32)block + (u32)(s * V::BLOCKS)), m0);
            p1[s] = V::product(V::exclusive_or(V::high_word(p0[s]), V::word(k1_[0]), zero), m1);
            c0[s] = V::exclusive_or(V::high_word(p1[s]), V::word(c1_k0_), zero);
            c2[s] = V::exclusive_or(p0[s], V::word(c2_k1_), zero);
        }
        for (int s = 0; s < V::SETS; ++s) {
            const auto q0 = V::product(c0[s], m0), q1 = V::product(c2[s], m1);
            c0[s] = V::exclusive_or(V::high_word(q1), p1[s], V::word(k0_[2]));
            c2[s] = V::exclusive_or(V::high_word(q0), V::word(c3_k1_), zero);
            p0[s] = q0;
            p1[s] = q1;
        }
#pragma GCC unroll 4
        for (int round = 3; round < 7; ++round)
#pragma GCC unroll 2
            for (int s = 0; s < V::SETS; ++s) {
                const auto q0 = V::product(c0[s], m0), q1 = V::product(c2[s], m1);
                c0[s] = V::exclusive_or(V::high_word(q1), p1[s], V::word(k0_[round]));
                c2[s] = V::exclusive_or(V::high_word(q0), p0[s], V::word(k1_[round]));
                p0[s] = q0;
                p1[s] = q1;
            }
        for (int s = 0; s < V::SETS; ++s) V::in_order(c0[s], p1[s], c2[s], p0[s], words + s * (V::GROUP / V::SETS));
    }

private:
    static constexpr u32 M0 = 0xD2511F53u, M1 = 0xCD9E8D57u;
    Key key_;
    u32 k0_[7], k1_[7];
    u32 high_, c1_k0_, c2_k1_, c3_k1_;

    // What rounds 1 and 2 make of the counter's parts that all blocks of a draw share.
    void set_high(u32 high) {
        high_ = high;
        const u64 from_step = (u64)M1 * key_.step;
        const u32 c0 = (u32)(from_step >> 32) ^ high ^ k0_[0];
        const u64 next = (u64)M0 * c0;
        c1_k0_ = (u32)from_step ^ k0_[1];
        c2_k1_ = (u32)(next >> 32) ^ k1_[1];
        c3_k1_ = (u32)next ^ k1_[2];
    }
};

// One mixing function of the element index, offset by a word that depends on the key.
template <class V>
class Hash {
public:
    explicit Hash(const Key& key) {
        i32 words[4];
        Philox<Single>(key).draw(0, words);
        offset_ = (u32)words[0];
    }

    QBENCH_INLINE void draw(i64 i, typename V::I* words) {
        const u32 base = (u32)i * LOW + (u32)((u64)i >> 32) * HIGH + offset_;
        const auto lanes = V::mul(V::counting(), V::set_int((i32)LOW));
        for (int u = 0; u < V::GROUP; ++u) {
            auto h = V::add(lanes, V::set_int((i32)(base + (u32)(u * V::WIDTH) * LOW)));
            h = V::mul(V::exclusive_or(h, V::template shift_right<16>(h)), V::set_int((i32)0x21F0AAADu));
            h = V::mul(V::exclusive_or(h, V::template shift_right<15>(h)), V::set_int((i32)0x735A2D97u));
            words[u] = V::exclusive_or(h, V::template shift_right<15>(h));
        }
    }

private:
    static constexpr u32 LOW = 0x9E3779B1u, HIGH = 0x85EBCA6Bu;
    u32 offset_;
};

// Turns values into codes clip(round(y), low, high) by one of the rules of `Rule`; low and high are integers. draw(i) is
// called before the codes of a group, which starts at element i; u is the vector's place in the group. Where y is NaN
// the code is some integer. The SIGN rules give -1 or +1: the sign of w, or +1 with probability clip((y + 1) / 2, 0, 1).
template <class V, int RULE>
class Rounder {
    static constexpr bool DRAWS_PHILOX = RULE == PHILOX || RULE == SIGN_PHILOX;
    static constexpr bool DRAWS = DRAWS_PHILOX || RULE == HASH || RULE == SIGN_HASH;
    struct Nothing {
        explicit Nothing(const Key&) {}
    };
    using Generator = std::conditional_t<DRAWS_PHILOX, Philox<V>, std::conditional_t<DRAWS, Hash<V>, Nothing>>;
    using F = typename V::F;
    using I = typename V::I;

public:
    explicit Rounder(const Key& key) : generator_(key) {}

    QBENCH_INLINE void draw(i64 i) {
        if constexpr (DRAWS) generator_.draw(i, words_);
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
            if constexpr (RULE == NEAREST) return V::nearest(clipped);
            if constexpr (RULE == HALF_UP) return half_up(clipped);
            return stochastic(clipped, u);
        }
    }

private:
    Generator generator_;
    I words_[V::GROUP];

    QBENCH_INLINE I half_up(F y) const {
        const I floor = V::floor(y);
        return V::add_if(V::at_least(V::sub(y, V::to_float(floor)), V::set(0.5f)), floor, V::set_int(1));
    }

    QBENCH_INLINE I stochastic(F y, int u) const {
        const I floor = V::floor(y);
        const F random = V::to_float(V::template shift_right<8>(words_[u]));
        const F fraction = V::mul(V::sub(y, V::to_float(floor)), V::set(16777216.0f));
        return V::add_if(V::less(random, fraction), floor, V::set_int(1));
    }
};
