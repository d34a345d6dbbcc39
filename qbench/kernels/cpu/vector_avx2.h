// AVX2: 8 floats. The operations that every vector_*.h offers; see vector_scalar.h for their meaning.
#pragma once

struct Vector {
    static constexpr int WIDTH = 8, SETS = 2, GROUP = 4, BLOCKS = 4, BYTES = 32;
    using F = __m256;
    using I = __m256i;
    using M = __m256;
    struct D {
        __m256d low, high;
    };

    static QBENCH_INLINE F load(const float* p) { return _mm256_loadu_ps(p); }
    static QBENCH_INLINE void store(float* p, F a) { _mm256_storeu_ps(p, a); }
    static QBENCH_INLINE F set(float a) { return _mm256_set1_ps(a); }
    static QBENCH_INLINE F add(F a, F b) { return _mm256_add_ps(a, b); }
    static QBENCH_INLINE F sub(F a, F b) { return _mm256_sub_ps(a, b); }
    static QBENCH_INLINE F mul(F a, F b) { return _mm256_mul_ps(a, b); }
    static QBENCH_INLINE F div(F a, F b) { return _mm256_div_ps(a, b); }
    static QBENCH_INLINE F sqrt(F a) { return _mm256_sqrt_ps(a); }
    static QBENCH_INLINE F min(F a, F b) { return _mm256_min_ps(a, b); }
    static QBENCH_INLINE F max(F a, F b) { return _mm256_max_ps(a, b); }
    static QBENCH_INLINE I floor(F a) { return _mm256_cvttps_epi32(_mm256_floor_ps(a)); }
    static QBENCH_INLINE I nearest(F a) { return _mm256_cvtps_epi32(a); }
    class Upward {
    public:
        explicit Upward(const void* memory) : memory_(memory), nearest_(_mm_getcsr()), up_(nearest_ | _MM_ROUND_UP) {}
        QBENCH_INLINE void begin() const { set(up_); }
        QBENCH_INLINE void end() const { set(nearest_); }

    private:
        const void* memory_;
        u32 nearest_, up_;

        // As far as the compiler knows this changes memory, so that what reads memory and writes it stays on its side.
        QBENCH_INLINE void set(const u32& mode) const {
            asm volatile("ldmxcsr %0" : : "m"(mode), "r"(memory_) : "memory");
        }
    };
    // The difference rounded up passes no integer.
    static QBENCH_INLINE I ceil_less(F a, F random) {
        return _mm256_cvtps_epi32(_mm256_fnmadd_ps(random, _mm256_set1_ps(0x1p-24f), a));
    }

    static QBENCH_INLINE M less(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
    static QBENCH_INLINE M at_least(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
    static QBENCH_INLINE M not_at_least(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_NGE_UQ); }
    static QBENCH_INLINE M is_nan(F a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
    static QBENCH_INLINE M either(M a, M b) { return _mm256_or_ps(a, b); }
    static QBENCH_INLINE M but_not(M a, M b) { return _mm256_andnot_ps(b, a); }
    static QBENCH_INLINE M none() { return _mm256_setzero_ps(); }
    static QBENCH_INLINE bool any(M a) { return _mm256_movemask_ps(a) != 0; }
    static QBENCH_INLINE F select(M m, F a, F b) { return _mm256_blendv_ps(b, a, m); }
    static QBENCH_INLINE F keep(M m, F a) { return _mm256_and_ps(m, a); }
    static QBENCH_INLINE I drop(M m, I a) { return _mm256_andnot_si256(_mm256_castps_si256(m), a); }
    static QBENCH_INLINE F add_if(M m, F a, F b) { return _mm256_add_ps(a, _mm256_and_ps(m, b)); }
    static QBENCH_INLINE I add_if(M m, I a, I b) {
        return _mm256_add_epi32(a, _mm256_and_si256(_mm256_castps_si256(m), b));
    }
    static QBENCH_INLINE void store_bits(u8* bits, i64 i, M m) { bits[i / 8] = (u8)_mm256_movemask_ps(m); }
    static QBENCH_INLINE M load_bits(const u8* bits, i64 i) {
        const I places = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        return _mm256_castsi256_ps(
            _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits[i / 8]), places), places));
    }

    static QBENCH_INLINE I set_int(i32 a) { return _mm256_set1_epi32(a); }
    static QBENCH_INLINE I counting() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
    static QBENCH_INLINE I add(I a, I b) { return _mm256_add_epi32(a, b); }
    static QBENCH_INLINE I mul(I a, I b) { return _mm256_mullo_epi32(a, b); }
    static QBENCH_INLINE I mul16(I a, I b) { return _mm256_madd_epi16(a, b); }
    static QBENCH_INLINE I exclusive_or(I a, I b) { return _mm256_xor_si256(a, b); }
    template <int BITS>
    static QBENCH_INLINE I shift_right(I a) { return _mm256_srli_epi32(a, BITS); }
    static QBENCH_INLINE M equal(I a, I b) { return _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b)); }
    static QBENCH_INLINE I select(M m, I a, I b) { return _mm256_blendv_epi8(b, a, _mm256_castps_si256(m)); }
    static QBENCH_INLINE I min(I a, I b) { return _mm256_min_epi32(a, b); }
    static QBENCH_INLINE F to_float(I a) { return _mm256_cvtepi32_ps(a); }

    static QBENCH_INLINE I load(const u8* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
    static QBENCH_INLINE I load(const i8* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
    static QBENCH_INLINE I load(const i16* p) { return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i*)p)); }
    static QBENCH_INLINE I load(const i32* p) { return _mm256_loadu_si256((const __m256i*)p); }
    static QBENCH_INLINE I load(const u32* p) { return _mm256_loadu_si256((const __m256i*)p); }
    // Values fit the narrower type, so the saturation of packs never acts.
    static QBENCH_INLINE __m128i narrow16(I a) {
        return _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    }
    static QBENCH_INLINE void store(u8* p, I a) {
        const __m128i words = narrow16(a);
        _mm_storel_epi64((__m128i*)p, _mm_packus_epi16(words, words));
    }
    static QBENCH_INLINE void store(i8* p, I a) {
        const __m128i words = narrow16(a);
        _mm_storel_epi64((__m128i*)p, _mm_packs_epi16(words, words));
    }
    static QBENCH_INLINE void store(i16* p, I a) { _mm_storeu_si128((__m128i*)p, narrow16(a)); }
    static QBENCH_INLINE void store(i32* p, I a) { _mm256_storeu_si256((__m256i*)p, a); }
    static QBENCH_INLINE void store(u32* p, I a) { _mm256_storeu_si256((__m256i*)p, a); }

    // packs works within the halves of a register: the last step puts its parts in order.
    static QBENCH_INLINE I parts_in_order(I a) {
        return _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    }
    static QBENCH_INLINE void store_group(u8* p, const I* a) {
        const I low = _mm256_packs_epi32(a[0], a[1]), high = _mm256_packs_epi32(a[2], a[3]);
        _mm256_storeu_si256((__m256i*)p, parts_in_order(_mm256_packus_epi16(low, high)));
    }
    static QBENCH_INLINE void store_group(i8* p, const I* a) {
        const I low = _mm256_packs_epi32(a[0], a[1]), high = _mm256_packs_epi32(a[2], a[3]);
        _mm256_storeu_si256((__m256i*)p, parts_in_order(_mm256_packs_epi16(low, high)));
    }
    static QBENCH_INLINE void store_group(i16* p, const I* a) {
        for (int u = 0; u < GROUP; u += 2) {
            const I words = _mm256_packs_epi32(a[u], a[u + 1]);
            _mm256_storeu_si256((__m256i*)(p + u * WIDTH), _mm256_permute4x64_epi64(words, 0xD8));
        }
    }
    static QBENCH_INLINE void store_group(i32* p, const I* a) {
        for (int u = 0; u < GROUP; ++u) store(p + u * WIDTH, a[u]);
    }

    static QBENCH_INLINE D to_double(F a) {
        return {_mm256_cvtps_pd(_mm256_castps256_ps128(a)), _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1))};
    }
    static QBENCH_INLINE D load(const double* p) { return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
    static QBENCH_INLINE void store(double* p, D a) {
        _mm256_storeu_pd(p, a.low);
        _mm256_storeu_pd(p + 4, a.high);
    }
    static QBENCH_INLINE D add(D a, D b) { return {_mm256_add_pd(a.low, b.low), _mm256_add_pd(a.high, b.high)}; }
    static QBENCH_INLINE D sub(D a, D b) { return {_mm256_sub_pd(a.low, b.low), _mm256_sub_pd(a.high, b.high)}; }
    static QBENCH_INLINE D mul(D a, D b) { return {_mm256_mul_pd(a.low, b.low), _mm256_mul_pd(a.high, b.high)}; }
    static QBENCH_INLINE D add_exact(D sum, D a, D b) {
        return {_mm256_fmadd_pd(a.low, b.low, sum.low), _mm256_fmadd_pd(a.high, b.high, sum.high)};
    }

    // Eight entries fit a register; two registers serve 16 and four serve 32, chosen by the upper bits of the index.
    static QBENCH_INLINE F look_up16(const float* table, I index) {
        const F low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
        const F high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), index);
        return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
    }
    static QBENCH_INLINE F look_up32(const float* table, I index) {
        const F upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 27));
        return _mm256_blendv_ps(look_up16(table, index), look_up16(table + 16, index), upper);
    }
    static QBENCH_INLINE F look_up64(const float* table, I index) { return _mm256_i32gather_ps(table, index, 4); }
    static QBENCH_INLINE F look_up128(const float* table, I index) { return look_up64(table, index); }
    static QBENCH_INLINE F look_up256(const float* table, I index) { return look_up64(table, index); }

    using P = __m256i;
    static QBENCH_INLINE P word(u32 a) { return _mm256_set1_epi64x(a); }
    static QBENCH_INLINE P block_numbers(i64 first) {
        return _mm256_setr_epi64x(first, first + 2, first + 1, first + 3);
    }
    static QBENCH_INLINE P add_words(P a, P b) { return _mm256_add_epi32(a, b); }
    static QBENCH_INLINE P product(P a, P b) { return _mm256_mul_epu32(a, b); }
    static QBENCH_INLINE P high_word(P a) { return _mm256_srli_epi64(a, 32); }
    // c is what is waited for: the compiler, left alone, would not always add it last.
    static QBENCH_INLINE P exclusive_or(P a, P b, P c) {
        P both = _mm256_xor_si256(a, b);
        asm("" : "+x"(both));
        return _mm256_xor_si256(both, c);
    }
    static QBENCH_INLINE P upper_word(P a) { return _mm256_slli_epi64(a, 32); }
    static QBENCH_INLINE void in_order(P c1_c0, P c3_c2, I* words) {
        const __m256 low = _mm256_castsi256_ps(c1_c0), high = _mm256_castsi256_ps(c3_c2);
        words[0] = _mm256_castps_si256(_mm256_shuffle_ps(low, high, _MM_SHUFFLE(0, 1, 0, 1)));
        words[1] = _mm256_castps_si256(_mm256_shuffle_ps(low, high, _MM_SHUFFLE(2, 3, 2, 3)));
    }

    using B = __m256i;
    using BM = __m256i;
    struct Sums {
        __m256i even, odd;
    };
    static QBENCH_INLINE B load_bytes(const u8* p) { return _mm256_loadu_si256((const __m256i*)p); }
    static QBENCH_INLINE void store_bytes(u8* p, B a) { _mm256_storeu_si256((__m256i*)p, a); }
    static QBENCH_INLINE B set_bytes(u8 a) { return _mm256_set1_epi8((char)a); }
    static QBENCH_INLINE B min_bytes(B a, B b) { return _mm256_min_epu8(a, b); }
    static QBENCH_INLINE B max_bytes(B a, B b) { return _mm256_max_epu8(a, b); }
    static QBENCH_INLINE B exclusive_or_bytes(B a, B b) { return _mm256_xor_si256(a, b); }
    static QBENCH_INLINE BM equal_bytes(B a, B b) { return _mm256_cmpeq_epi8(a, b); }
    static QBENCH_INLINE B select_bytes(BM m, B a, B b) { return _mm256_blendv_epi8(b, a, m); }
    static QBENCH_INLINE Sums no_sums() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
    static QBENCH_INLINE void add_bytes(Sums& s, B a) {
        s.even = _mm256_add_epi16(s.even, _mm256_and_si256(a, _mm256_set1_epi16(0x00FF)));
        s.odd = _mm256_add_epi16(s.odd, _mm256_srli_epi16(a, 8));
    }
    static QBENCH_INLINE void store_sums(u16* even, u16* odd, const Sums& s) {
        _mm256_storeu_si256((__m256i*)even, s.even);
        _mm256_storeu_si256((__m256i*)odd, s.odd);
    }
};
