// NEON (AArch64): 4 floats. The operations that every vector_*.h offers; see vector_scalar.h for their meaning.
#pragma once

struct Vector {
    static constexpr int WIDTH = 4, SETS = 2, GROUP = 4, BLOCKS = 2, BYTES = 16;
    using F = float32x4_t;
    using I = int32x4_t;
    using M = uint32x4_t;
    struct D {
        float64x2_t low, high;
    };

    static QBENCH_INLINE F load(const float* p) { return vld1q_f32(p); }
    static QBENCH_INLINE void store(float* p, F a) { vst1q_f32(p, a); }
    static QBENCH_INLINE F set(float a) { return vdupq_n_f32(a); }
    static QBENCH_INLINE F add(F a, F b) { return vaddq_f32(a, b); }
    static QBENCH_INLINE F sub(F a, F b) { return vsubq_f32(a, b); }
    static QBENCH_INLINE F mul(F a, F b) { return vmulq_f32(a, b); }
    static QBENCH_INLINE F div(F a, F b) { return vdivq_f32(a, b); }
    static QBENCH_INLINE F sqrt(F a) { return vsqrtq_f32(a); }
    // vminq and vmaxq would give NaN where either is one.
    static QBENCH_INLINE F min(F a, F b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
    static QBENCH_INLINE F max(F a, F b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
    static QBENCH_INLINE I floor(F a) { return vcvtmq_s32_f32(a); }
    static QBENCH_INLINE I nearest(F a) { return vcvtnq_s32_f32(a); }

    struct Upward {
        explicit Upward(const void*) {}
        void begin() const {}
        void end() const {}
    };
    // Rounding the difference of fractions to nearest leaves its sign. A mask is -1 where it holds.
    static QBENCH_INLINE I ceil_less(F a, F random) {
        const F fraction = vsubq_f32(a, vrndmq_f32(a)), over = vfmsq_n_f32(fraction, random, 0x1p-24f);
        return vsubq_s32(vcvtmq_s32_f32(a), vreinterpretq_s32_u32(vcgtzq_f32(over)));
    }

    static QBENCH_INLINE M less(F a, F b) { return vcltq_f32(a, b); }
    static QBENCH_INLINE M at_least(F a, F b) { return vcgeq_f32(a, b); }
    static QBENCH_INLINE M not_at_least(F a, F b) { return vmvnq_u32(vcgeq_f32(a, b)); }
    static QBENCH_INLINE M is_nan(F a) { return vmvnq_u32(vceqq_f32(a, a)); }
    static QBENCH_INLINE M either(M a, M b) { return vorrq_u32(a, b); }
    static QBENCH_INLINE M but_not(M a, M b) { return vbicq_u32(a, b); }
    static QBENCH_INLINE M none() { return vdupq_n_u32(0); }
    static QBENCH_INLINE bool any(M a) { return vmaxvq_u32(a) != 0; }
    static QBENCH_INLINE F select(M m, F a, F b) { return vbslq_f32(m, a, b); }
    static QBENCH_INLINE I select(M m, I a, I b) { return vbslq_s32(m, a, b); }
    static QBENCH_INLINE F keep(M m, F a) {
        return vreinterpretq_f32_u32(vandq_u32(m, vreinterpretq_u32_f32(a)));
    }
    static QBENCH_INLINE I drop(M m, I a) { return vreinterpretq_s32_u32(vbicq_u32(vreinterpretq_u32_s32(a), m)); }
    static QBENCH_INLINE F add_if(M m, F a, F b) { return vaddq_f32(a, keep(m, b)); }
    static QBENCH_INLINE I add_if(M m, I a, I b) { return vaddq_s32(a, vandq_s32(vreinterpretq_s32_u32(m), b)); }
    static QBENCH_INLINE M places(int shift) {
        const u32 bits[4] = {1, 2, 4, 8};
        return vshlq_u32(vld1q_u32(bits), vdupq_n_s32(shift));
    }
    static QBENCH_INLINE void store_bits(u8* bits, i64 i, M m) {
        const u8 four = (u8)vaddvq_u32(vandq_u32(m, places(0)));
        bits[i / 8] = i % 8 ? (u8)(bits[i / 8] | four << 4) : four;
    }
    static QBENCH_INLINE M load_bits(const u8* bits, i64 i) {
        return vtstq_u32(vdupq_n_u32(bits[i / 8]), places((int)(i % 8)));
    }

    static QBENCH_INLINE I set_int(i32 a) { return vdupq_n_s32(a); }
    static QBENCH_INLINE I counting() {
        const i32 numbers[4] = {0, 1, 2, 3};
        return vld1q_s32(numbers);
    }
    static QBENCH_INLINE I add(I a, I b) { return vaddq_s32(a, b); }
    static QBENCH_INLINE I mul(I a, I b) { return vmulq_s32(a, b); }
    static QBENCH_INLINE I mul16(I a, I b) { return vmulq_s32(a, b); }
    static QBENCH_INLINE I exclusive_or(I a, I b) { return veorq_s32(a, b); }
    template <int BITS>
    static QBENCH_INLINE I shift_right(I a) {
        return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), BITS));
    }
    static QBENCH_INLINE M equal(I a, I b) { return vceqq_s32(a, b); }
    static QBENCH_INLINE I min(I a, I b) { return vminq_s32(a, b); }
    static QBENCH_INLINE F to_float(I a) { return vcvtq_f32_s32(a); }

    static QBENCH_INLINE I load(const u8* p) {
        u32 four;
        std::memcpy(&four, p, 4);
        const uint16x8_t words = vmovl_u8(vcreate_u8(four));
        return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words)));
    }
    static QBENCH_INLINE I load(const i8* p) {
        u32 four;
        std::memcpy(&four, p, 4);
        return vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four))));
    }
    static QBENCH_INLINE I load(const i16* p) { return vmovl_s16(vld1_s16(p)); }
    static QBENCH_INLINE I load(const i32* p) { return vld1q_s32(p); }
    static QBENCH_INLINE I load(const u32* p) { return vreinterpretq_s32_u32(vld1q_u32(p)); }
    static QBENCH_INLINE void store(i8* p, I a) {
        const int16x4_t words = vmovn_s32(a);
        const u32 four = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(words, words))), 0);
        std::memcpy(p, &four, 4);
    }
    static QBENCH_INLINE void store(u8* p, I a) { store((i8*)p, a); }
    static QBENCH_INLINE void store(i16* p, I a) { vst1_s16(p, vmovn_s32(a)); }
    static QBENCH_INLINE void store(i32* p, I a) { vst1q_s32(p, a); }
    static QBENCH_INLINE void store(u32* p, I a) { vst1q_u32(p, vreinterpretq_u32_s32(a)); }

    static QBENCH_INLINE int16x8_t words(I a, I b) {
        return vuzp1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
    }
    static QBENCH_INLINE void store_group(i8* p, const I* a) {
        const int8x16_t low = vreinterpretq_s8_s16(words(a[0], a[1])), high = vreinterpretq_s8_s16(words(a[2], a[3]));
        vst1q_s8(p, vuzp1q_s8(low, high));
    }
    static QBENCH_INLINE void store_group(u8* p, const I* a) { store_group((i8*)p, a); }
    static QBENCH_INLINE void store_group(i16* p, const I* a) {
        vst1q_s16(p, words(a[0], a[1]));
        vst1q_s16(p + 8, words(a[2], a[3]));
    }
    static QBENCH_INLINE void store_group(i32* p, const I* a) {
        for (int u = 0; u < GROUP; ++u) store(p + u * WIDTH, a[u]);
    }

    static QBENCH_INLINE D to_double(F a) { return {vcvt_f64_f32(vget_low_f32(a)), vcvt_high_f64_f32(a)}; }
    static QBENCH_INLINE D load(const double* p) { return {vld1q_f64(p), vld1q_f64(p + 2)}; }
    static QBENCH_INLINE void store(double* p, D a) {
        vst1q_f64(p, a.low);
        vst1q_f64(p + 2, a.high);
    }
    static QBENCH_INLINE D add(D a, D b) { return {vaddq_f64(a.low, b.low), vaddq_f64(a.high, b.high)}; }
    static QBENCH_INLINE D sub(D a, D b) { return {vsubq_f64(a.low, b.low), vsubq_f64(a.high, b.high)}; }
    static QBENCH_INLINE D mul(D a, D b) { return {vmulq_f64(a.low, b.low), vmulq_f64(a.high, b.high)}; }
    static QBENCH_INLINE D add_exact(D sum, D a, D b) {
        return {vfmaq_f64(sum.low, a.low, b.low), vfmaq_f64(sum.high, a.high, b.high)};
    }

    // Tables of 16 floats are 64 bytes, looked up byte by byte; a place outside the table leaves what was there.
    static QBENCH_INLINE uint8x16_t byte_places(I index) {
        return vreinterpretq_u8_s32(vaddq_s32(vmulq_s32(index, vdupq_n_s32(0x04040404)), vdupq_n_s32(0x03020100)));
    }
    static QBENCH_INLINE uint8x16_t look_up_bytes(uint8x16_t found, const float* table, int skip, uint8x16_t places) {
        return vqtbx4q_u8(found, vld1q_u8_x4((const u8*)(table + skip)), vsubq_u8(places, vdupq_n_u8((u8)(4 * skip))));
    }
    static QBENCH_INLINE F look_up16(const float* table, I index) {
        return vreinterpretq_f32_u8(look_up_bytes(vdupq_n_u8(0), table, 0, byte_places(index)));
    }
    static QBENCH_INLINE F look_up32(const float* table, I index) {
        const uint8x16_t places = byte_places(index), low = look_up_bytes(vdupq_n_u8(0), table, 0, places);
        return vreinterpretq_f32_u8(look_up_bytes(low, table, 16, places));
    }
    static QBENCH_INLINE F look_up64(const float* table, I index) {
        const uint8x16_t places = byte_places(index);
        uint8x16_t found = vdupq_n_u8(0);
#pragma GCC unroll 4
        for (int skip = 0; skip < 64; skip += 16) found = look_up_bytes(found, table, skip, places);
        return vreinterpretq_f32_u8(found);
    }
    static QBENCH_INLINE F look_up128(const float* table, I index) {
        const I within = vandq_s32(index, vdupq_n_s32(63));
        return vbslq_f32(vtstq_s32(index, vdupq_n_s32(64)), look_up64(table + 64, within), look_up64(table, within));
    }
    static QBENCH_INLINE F look_up256(const float* table, I index) {
        return vbslq_f32(vtstq_s32(index, vdupq_n_s32(128)), look_up128(table + 128, index), look_up128(table, index));
    }

    using P = uint64x2_t;
    static QBENCH_INLINE P word(u32 a) { return vdupq_n_u64(a); }
    static QBENCH_INLINE P block_numbers(i64 first) { return vcombine_u64(vcreate_u64((u64)first), vcreate_u64((u64)first + 1)); }
    static QBENCH_INLINE P add_words(P a, P b) { return vaddq_u64(a, b); }
    static QBENCH_INLINE P exclusive_or(P a, P b) { return veorq_u64(a, b); }
    static QBENCH_INLINE P product(P a, P b) { return vmull_u32(vmovn_u64(a), vmovn_u64(b)); }
    static QBENCH_INLINE P high_word(P a) { return vshrq_n_u64(a, 32); }
    static QBENCH_INLINE P exclusive_or(P a, P b, P c) { return veorq_u64(veorq_u64(a, b), c); }
    static QBENCH_INLINE P upper_word(P a) { return vshlq_n_u64(a, 32); }
    static QBENCH_INLINE void in_order(P c1_c0, P c3_c2, I* words) {
        words[0] = vrev64q_s32(vreinterpretq_s32_u64(vzip1q_u64(c1_c0, c3_c2)));
        words[1] = vrev64q_s32(vreinterpretq_s32_u64(vzip2q_u64(c1_c0, c3_c2)));
    }

    using B = uint8x16_t;
    using BM = uint8x16_t;
    struct Sums {
        uint16x8_t even, odd;
    };
    static QBENCH_INLINE B load_bytes(const u8* p) { return vld1q_u8(p); }
    static QBENCH_INLINE void store_bytes(u8* p, B a) { vst1q_u8(p, a); }
    static QBENCH_INLINE B set_bytes(u8 a) { return vdupq_n_u8(a); }
    static QBENCH_INLINE B min_bytes(B a, B b) { return vminq_u8(a, b); }
    static QBENCH_INLINE B max_bytes(B a, B b) { return vmaxq_u8(a, b); }
    static QBENCH_INLINE B exclusive_or_bytes(B a, B b) { return veorq_u8(a, b); }
    static QBENCH_INLINE BM equal_bytes(B a, B b) { return vceqq_u8(a, b); }
    static QBENCH_INLINE B select_bytes(BM m, B a, B b) { return vbslq_u8(m, a, b); }
    static QBENCH_INLINE Sums no_sums() { return {vdupq_n_u16(0), vdupq_n_u16(0)}; }
    static QBENCH_INLINE void add_bytes(Sums& s, B a) {
        const uint16x8_t words = vreinterpretq_u16_u8(a);
        s.even = vaddq_u16(s.even, vandq_u16(words, vdupq_n_u16(0x00FF)));
        s.odd = vaddq_u16(s.odd, vshrq_n_u16(words, 8));
    }
    static QBENCH_INLINE void store_sums(u16* even, u16* odd, const Sums& s) {
        vst1q_u16(even, s.even);
        vst1q_u16(odd, s.odd);
    }
};
