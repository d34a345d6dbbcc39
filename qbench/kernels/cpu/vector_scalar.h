// One element at a time: what handles the ends of arrays, and processors without a vector_*.h of their own.
//
// Every vector_*.h defines a struct with these operations for its registers. WIDTH: floats of a vector. GROUP: vectors
// that are worked on together and for which one draw of random words is enough. BLOCKS: Philox blocks of a P. SETS: how
// many P a draw takes, side by side because one waits for its own last result most of the time. BYTES: codes of a vector
// of bytes. F floats, I 32-bit integers, M a mask of floats, D the floats of an F as doubles.
#pragma once

struct Single {
    static constexpr int WIDTH = 1, SETS = 1, GROUP = 4, BLOCKS = 1, BYTES = 16;
    using F = float;
    using I = i32;
    using M = bool;
    using D = double;

    static QBENCH_INLINE F load(const float* p) { return *p; }
    static QBENCH_INLINE void store(float* p, F a) { *p = a; }
    static QBENCH_INLINE F set(float a) { return a; }
    static QBENCH_INLINE F add(F a, F b) { return a + b; }
    static QBENCH_INLINE F sub(F a, F b) { return a - b; }
    static QBENCH_INLINE F mul(F a, F b) { return a * b; }
    static QBENCH_INLINE F div(F a, F b) { return a / b; }
    static QBENCH_INLINE F sqrt(F a) { return __builtin_sqrtf(a); }
    // b where a or b is NaN.
    static QBENCH_INLINE F min(F a, F b) { return a < b ? a : b; }
    static QBENCH_INLINE F max(F a, F b) { return a > b ? a : b; }
    // For |a| <= 2^24. Nearest is half to even: the rounding mode is the default one.
    static QBENCH_INLINE I floor(F a) {
        const i32 whole = (i32)a;
        return whole - ((float)whole > a);
    }
    static QBENCH_INLINE I nearest(F a) { return (i32)__builtin_rintf(a); }
    // Between begin and end float operations may round up; it is given the memory that those operations read.
    struct Upward {
        explicit Upward(const void*) {}
        void begin() const {}
        void end() const {}
    };
    // There: ceil(a - random / 2^24) for integers 0 <= random < 2^24 and |a| <= 2^24.
    static QBENCH_INLINE I ceil_less(F a, F random) {
        const I whole = floor(a);
        return whole + (random < (a - (float)whole) * 16777216.0f);
    }

    // Comparisons with NaN are false, but for not_at_least.
    static QBENCH_INLINE M less(F a, F b) { return a < b; }
    static QBENCH_INLINE M at_least(F a, F b) { return a >= b; }
    static QBENCH_INLINE M not_at_least(F a, F b) { return !(a >= b); }
    static QBENCH_INLINE M is_nan(F a) { return a != a; }
    static QBENCH_INLINE M either(M a, M b) { return a || b; }
    static QBENCH_INLINE M but_not(M a, M b) { return a && !b; }
    static QBENCH_INLINE M none() { return false; }
    static QBENCH_INLINE bool any(M a) { return a; }
    static QBENCH_INLINE F select(M m, F a, F b) { return m ? a : b; }
    static QBENCH_INLINE F keep(M m, F a) { return m ? a : 0.0f; }
    static QBENCH_INLINE I drop(M m, I a) { return m ? 0 : a; }
    // a + b where m, else a.
    static QBENCH_INLINE F add_if(M m, F a, F b) { return m ? a + b : a; }
    static QBENCH_INLINE I add_if(M m, I a, I b) { return m ? a + b : a; }
    // Bits i, i + 1, ... of a bit string, lowest bit of a byte first. The bits after them in a byte become 0.
    static QBENCH_INLINE void store_bits(u8* bits, i64 i, M m) {
        const u8 before = i % 8 ? bits[i / 8] : 0;
        bits[i / 8] = (u8)(before | (m ? 1 : 0) << i % 8);
    }
    static QBENCH_INLINE M load_bits(const u8* bits, i64 i) { return bits[i / 8] >> i % 8 & 1; }

    static QBENCH_INLINE I set_int(i32 a) { return a; }
    // 0, 1, 2, ...
    static QBENCH_INLINE I counting() { return 0; }
    static QBENCH_INLINE I add(I a, I b) { return (I)((u32)a + (u32)b); }
    static QBENCH_INLINE I mul(I a, I b) { return (I)((u32)a * (u32)b); }
    // For factors in [0, 2^15).
    static QBENCH_INLINE I mul16(I a, I b) { return a * b; }
    static QBENCH_INLINE I exclusive_or(I a, I b) { return a ^ b; }
    // Zeros come in from the left.
    template <int BITS>
    static QBENCH_INLINE I shift_right(I a) { return (I)((u32)a >> BITS); }
    static QBENCH_INLINE M equal(I a, I b) { return a == b; }
    static QBENCH_INLINE I min(I a, I b) { return a < b ? a : b; }
    static QBENCH_INLINE F to_float(I a) { return (float)a; }

    template <class T>
    static QBENCH_INLINE I load(const T* p) { return (I)*p; }
    // The values fit the type.
    template <class T>
    static QBENCH_INLINE void store(T* p, I a) { *p = (T)a; }
    // The vectors of a group.
    template <class T>
    static QBENCH_INLINE void store_group(T* p, const I* a) {
        for (int u = 0; u < GROUP; ++u) p[u] = (T)a[u];
    }

    static QBENCH_INLINE D to_double(F a) { return a; }
    static QBENCH_INLINE D load(const double* p) { return *p; }
    static QBENCH_INLINE void store(double* p, D a) { *p = a; }
    static QBENCH_INLINE D add(D a, D b) { return a + b; }
    static QBENCH_INLINE D sub(D a, D b) { return a - b; }
    static QBENCH_INLINE D mul(D a, D b) { return a * b; }
    // sum + a * b, where the product is exact, as that of two floats is: so nothing tells whether it is rounded.
    static QBENCH_INLINE D add_exact(D sum, D a, D b) { return sum + a * b; }

    // table[index], by the number of entries of the table.
    static QBENCH_INLINE F look_up16(const float* table, I index) { return table[index]; }
    static QBENCH_INLINE F look_up32(const float* table, I index) { return table[index]; }
    static QBENCH_INLINE F look_up64(const float* table, I index) { return table[index]; }
    static QBENCH_INLINE F look_up128(const float* table, I index) { return table[index]; }
    static QBENCH_INLINE F look_up256(const float* table, I index) { return table[index]; }

    // Philox: 32-bit words in the low halves of 64-bit lanes, one lane per block; what stands in the high halves does
    // not matter. block_numbers orders the blocks so that in_order is cheap.
    using P = u64;
    static QBENCH_INLINE P word(u32 a) { return a; }
    static QBENCH_INLINE P block_numbers(i64 first) { return (u64)first; }
    static QBENCH_INLINE P add_words(P a, P b) { return a + b; }
    static QBENCH_INLINE P product(P a, P b) { return (u64)(u32)a * (u32)b; }
    static QBENCH_INLINE P high_word(P a) { return a >> 32; }
    static QBENCH_INLINE P exclusive_or(P a, P b) { return a ^ b; }
    static QBENCH_INLINE P exclusive_or(P a, P b, P c) { return a ^ b ^ c; }
    static QBENCH_INLINE P upper_word(P a) { return a << 32; }
    // The words of all blocks, element by element; given are pairs with the second word in the low half.
    static QBENCH_INLINE void in_order(P c1_c0, P c3_c2, I* words) {
        words[0] = (I)(u32)(c1_c0 >> 32);
        words[1] = (I)(u32)c1_c0;
        words[2] = (I)(u32)(c3_c2 >> 32);
        words[3] = (I)(u32)c3_c2;
    }

    // Bytes: arrays that the compiler turns into whatever vectors the processor has.
    struct B {
        u8 v[BYTES];
    };
    using BM = B;
    struct Sums {
        u16 even[BYTES / 2], odd[BYTES / 2];
    };
    static QBENCH_INLINE B load_bytes(const u8* p) {
        B a;
        std::memcpy(a.v, p, BYTES);
        return a;
    }
    static QBENCH_INLINE void store_bytes(u8* p, B a) { std::memcpy(p, a.v, BYTES); }
    static QBENCH_INLINE B set_bytes(u8 value) {
        B a;
        std::memset(a.v, value, BYTES);
        return a;
    }
    static QBENCH_INLINE B min_bytes(B a, B b) {
        for (int i = 0; i < BYTES; ++i) a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
        return a;
    }
    static QBENCH_INLINE B max_bytes(B a, B b) {
        for (int i = 0; i < BYTES; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
        return a;
    }
    static QBENCH_INLINE B exclusive_or_bytes(B a, B b) {
        for (int i = 0; i < BYTES; ++i) a.v[i] = (u8)(a.v[i] ^ b.v[i]);
        return a;
    }
    static QBENCH_INLINE BM equal_bytes(B a, B b) {
        for (int i = 0; i < BYTES; ++i) a.v[i] = a.v[i] == b.v[i] ? 0xFF : 0;
        return a;
    }
    static QBENCH_INLINE B select_bytes(BM m, B a, B b) {
        for (int i = 0; i < BYTES; ++i) a.v[i] = (u8)((a.v[i] & m.v[i]) | (b.v[i] & ~m.v[i]));
        return a;
    }
    static QBENCH_INLINE Sums no_sums() { return {}; }
    static QBENCH_INLINE void add_bytes(Sums& s, B a) {
        for (int i = 0; i < BYTES / 2; ++i) {
            s.even[i] = (u16)(s.even[i] + a.v[2 * i]);
            s.odd[i] = (u16)(s.odd[i] + a.v[2 * i + 1]);
        }
    }
    static QBENCH_INLINE void store_sums(u16* even, u16* odd, const Sums& s) {
        std::memcpy(even, s.even, BYTES);
        std::memcpy(odd, s.odd, BYTES);
    }
};
