// AVX-512 (F, BW, DQ, VL): 16 floats. The operations that every vector_*.h offers; see vector_scalar.h for their meaning.
#pragma once

struct Vector {
    static constexpr int WIDTH = 16, SETS = 2, GROUP = 4, BLOCKS = 8, BYTES = 64;
    using F = __m512;
    using I = __m512i;
    using M = __mmask16;
    struct D {
        __m512d low, high;
    };

    static QBENCH_INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
    static QBENCH_INLINE void store(float* p, F a) { _mm512_storeu_ps(p, a); }
    static QBENCH_INLINE F set(float a) { return _mm512_set1_ps(a); }
    static QBENCH_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
    static QBENCH_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
    static QBENCH_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
    static QBENCH_INLINE F div(F a, F b) { return _mm512_div_ps(a, b); }
    static QBENCH_INLINE F sqrt(F a) { return _mm512_sqrt_ps(a); }
    static QBENCH_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
    static QBENCH_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
    static QBENCH_INLINE I floor(F a) {
        return _mm512_cvt_roundps_epi32(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    }
    static QBENCH_INLINE I nearest(F a) {
        return _mm512_cvt_roundps_epi32(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    }

    struct Upward {
        explicit Upward(const void*) {}
        void begin() const {}
        void end() const {}
    };
    // The difference rounded up passes no integer.
    static QBENCH_INLINE I ceil_less(F a, F random) {
        constexpr int UP = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC;
        return _mm512_cvt_roundps_epi32(_mm512_fnmadd_round_ps(random, _mm512_set1_ps(0x1p-24f), a, UP), UP);
    }

    static QBENCH_INLINE M less(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
    static QBENCH_INLINE M at_least(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
    static QBENCH_INLINE M not_at_least(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_NGE_UQ); }
    static QBENCH_INLINE M is_nan(F a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
    static QBENCH_INLINE M either(M a, M b) { return _kor_mask16(a, b); }
    static QBENCH_INLINE M but_not(M a, M b) { return _kandn_mask16(b, a); }
    static QBENCH_INLINE M none() { return 0; }
    static QBENCH_INLINE bool any(M a) { return a != 0; }
    static QBENCH_INLINE F select(M m, F a, F b) { return _mm512_mask_blend_ps(m, b, a); }
    static QBENCH_INLINE F keep(M m, F a) { return _mm512_maskz_mov_ps(m, a); }
    static QBENCH_INLINE I drop(M m, I a) { return _mm512_maskz_mov_epi32(_knot_mask16(m), a); }
    static QBENCH_INLINE F add_if(M m, F a, F b) { return _mm512_mask_add_ps(a, m, a, b); }
    static QBENCH_INLINE I add_if(M m, I a, I b) { return _mm512_mask_add_epi32(a, m, a, b); }
    static QBENCH_INLINE void store_bits(u8* bits, i64 i, M m) {
        const u16 word = m;
        std::memcpy(bits + i / 8, &word, 2);
    }
    static QBENCH_INLINE M load_bits(const u8* bits, i64 i) {
        u16 word;
        std::memcpy(&word, bits + i / 8, 2);
        return word;
    }

    static QBENCH_INLINE I set_int(i32 a) { return _mm512_set1_epi32(a); }
    static QBENCH_INLINE I counting() { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
    static QBENCH_INLINE I add(I a, I b) { return _mm512_add_epi32(a, b); }
    static QBENCH_INLINE I mul(I a, I b) { return _mm512_mullo_epi32(a, b); }
    static QBENCH_INLINE I mul16(I a, I b) { return _mm512_madd_epi16(a, b); }
    static QBENCH_INLINE I exclusive_or(I a, I b) { return _mm512_xor_si512(a, b); }
    template <int BITS>
    static QBENCH_INLINE I shift_right(I a) { return _mm512_srli_epi32(a, BITS); }
    static QBENCH_INLINE M equal(I a, I b) { return _mm512_cmpeq_epi32_mask(a, b); }
    static QBENCH_INLINE I select(M m, I a, I b) { return _mm512_mask_blend_epi32(m, b, a); }
    static QBENCH_INLINE I min(I a, I b) { return _mm512_min_epi32(a, b); }
    static QBENCH_INLINE F to_float(I a) { return _mm512_cvtepi32_ps(a); }

    static QBENCH_INLINE I load(const u8* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)); }
    static QBENCH_INLINE I load(const i8* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)); }
    static QBENCH_INLINE I load(const i16* p) { return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i*)p)); }
    static QBENCH_INLINE I load(const i32* p) { return _mm512_loadu_si512(p); }
    static QBENCH_INLINE I load(const u32* p) { return _mm512_loadu_si512(p); }
    static QBENCH_INLINE void store(u8* p, I a) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(a)); }
    static QBENCH_INLINE void store(i8* p, I a) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(a)); }
    static QBENCH_INLINE void store(i16* p, I a) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(a)); }
    static QBENCH_INLINE void store(i32* p, I a) { _mm512_storeu_si512(p, a); }
    static QBENCH_INLINE void store(u32* p, I a) { _mm512_storeu_si512(p, a); }

    template <class T>
    static QBENCH_INLINE void store_group(T* p, const I* a) {
        for (int u = 0; u < GROUP; ++u) store(p + u * WIDTH, a[u]);
    }

    static QBENCH_INLINE D to_double(F a) {
        return {_mm512_cvtps_pd(_mm512_castps512_ps256(a)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1))};
    }
    static QBENCH_INLINE D load(const double* p) { return {_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)}; }
    static QBENCH_INLINE void store(double* p, D a) {
        _mm512_storeu_pd(p, a.low);
        _mm512_storeu_pd(p + 8, a.high);
    }
    static QBENCH_INLINE D add(D a, D b) { return {_mm512_add_pd(a.low, b.low), _mm512_add_pd(a.high, b.high)}; }
    static QBENCH_INLINE D sub(D a, D b) { return {_mm512_sub_pd(a.low, b.low), _mm512_sub_pd(a.high, b.high)}; }
    static QBENCH_INLINE D mul(D a, D b) { return {_mm512_mul_pd(a.low, b.low), _mm512_mul_pd(a.high, b.high)}; }
    static QBENCH_INLINE D add_exact(D sum, D a, D b) {
        return {_mm512_fmadd_pd(a.low, b.low, sum.low), _mm512_fmadd_pd(a.high, b.high, sum.high)};
    }

    static QBENCH_INLINE F look_up16(const float* table, I index) {
        return _mm512_permutexvar_ps(index, _mm512_loadu_ps(table));
    }
    static QBENCH_INLINE F look_up32(const float* table, I index) {
        return _mm512_permutex2var_ps(_mm512_loadu_ps(table), index, _mm512_loadu_ps(table + 16));
    }
    static QBENCH_INLINE F look_up64(const float* table, I index) {
        const M upper = _mm512_test_epi32_mask(index, _mm512_set1_epi32(32));
        return _mm512_mask_blend_ps(upper, look_up32(table, index), look_up32(table + 32, index));
    }
    static QBENCH_INLINE F look_up128(const float* table, I index) {
        const M upper = _mm512_test_epi32_mask(index, _mm512_set1_epi32(64));
        return _mm512_mask_blend_ps(upper, look_up64(table, index), look_up64(table + 64, index));
    }
    static QBENCH_INLINE F look_up256(const float* table, I index) {
        const M upper = _mm512_test_epi32_mask(index, _mm512_set1_epi32(128));
        return _mm512_mask_blend_ps(upper, look_up128(table, index), look_up128(table + 128, index));
    }

    // Philox: 32-bit words in the low halves of 64-bit lanes; what stands in the high halves does not matter.
    using P = __m512i;
    static QBENCH_INLINE P word(u32 a) { return _mm512_set1_epi64(a); }
    static QBENCH_INLINE P block_numbers(i64 first) {
        return _mm512_setr_epi64(first, first + 4, first + 1, first + 5, first + 2, first + 6, first + 3, first + 7);
    }
    static QBENCH_INLINE P add_words(P a, P b) { return _mm512_add_epi32(a, b); }
    static QBENCH_INLINE P product(P a, P b) { return _mm512_mul_epu32(a, b); }
    static QBENCH_INLINE P high_word(P a) { return _mm512_srli_epi64(a, 32); }
    static QBENCH_INLINE P exclusive_or(P a, P b, P c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
    static QBENCH_INLINE P upper_word(P a) { return _mm512_slli_epi64(a, 32); }
    static QBENCH_INLINE void in_order(P c1_c0, P c3_c2, I* words) {
        const __m512 low = _mm512_castsi512_ps(c1_c0), high = _mm512_castsi512_ps(c3_c2);
        words[0] = _mm512_castps_si512(_mm512_shuffle_ps(low, high, _MM_SHUFFLE(0, 1, 0, 1)));
        words[1] = _mm512_castps_si512(_mm512_shuffle_ps(low, high, _MM_SHUFFLE(2, 3, 2, 3)));
    }

    // Bytes: codes of a row, and sums of their even and odd places in 16 bits.
    using B = __m512i;
    using BM = __mmask64;
    struct Sums {
        __m512i even, odd;
    };
    static QBENCH_INLINE B load_bytes(const u8* p) { return _mm512_loadu_si512(p); }
    static QBENCH_INLINE void store_bytes(u8* p, B a) { _mm512_storeu_si512(p, a); }
    static QBENCH_INLINE B set_bytes(u8 a) { return _mm512_set1_epi8((char)a); }
    static QBENCH_INLINE B min_bytes(B a, B b) { return _mm512_min_epu8(a, b); }
    static QBENCH_INLINE B max_bytes(B a, B b) { return _mm512_max_epu8(a, b); }
    static QBENCH_INLINE B exclusive_or_bytes(B a, B b) { return _mm512_xor_si512(a, b); }
    static QBENCH_INLINE BM equal_bytes(B a, B b) { return _mm512_cmpeq_epi8_mask(a, b); }
    static QBENCH_INLINE B select_bytes(BM m, B a, B b) { return _mm512_mask_blend_epi8(m, b, a); }
    static QBENCH_INLINE Sums no_sums() { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
    static QBENCH_INLINE void add_bytes(Sums& s, B a) {
        s.even = _mm512_add_epi16(s.even, _mm512_and_si512(a, _mm512_set1_epi16(0x00FF)));
        s.odd = _mm512_add_epi16(s.odd, _mm512_srli_epi16(a, 8));
    }
    static QBENCH_INLINE void store_sums(u16* even, u16* odd, const Sums& s) {
        _mm512_storeu_si512(even, s.even);
        _mm512_storeu_si512(odd, s.odd);
    }
};
