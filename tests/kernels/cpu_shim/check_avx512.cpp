#include "check.h"

// What the compiler has as macros, which are gone below.
namespace own {
inline __mmask16 either(__mmask16 a, __mmask16 b) { return _kor_mask16(a, b); }
inline __mmask16 but_not(__mmask16 a, __mmask16 b) { return _kandn_mask16(a, b); }
inline __mmask16 negated(__mmask16 a) { return _knot_mask16(a); }
inline __m512i counting(int a) { return _mm512_setr_epi32(a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
inline __m512i counting_pairs(long long a) { return _mm512_setr_epi64(a, 1, 2, 3, 4, 5, 6, 7); }
}  // namespace own

#include "immintrin.h"

namespace {

constexpr int DOWN = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC, UP = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC;
constexpr int NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC, ZERO = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

#define COMPARE_STORE(name, vector)                \
    {                                              \
        auto model = vector, own = vector;         \
        std::memset(&model, 0, sizeof model);      \
        std::memset(&own, 0, sizeof own);          \
        qbench::name(&model, vector);              \
        ::name(&own, vector);                      \
        check::compare(#name, model, own);         \
    }

void constants_and_memory(__m512 f, __m512d d, __m512i i) {
    const int word = reinterpret_cast<const int&>(i);
    COMPARE(_mm512_loadu_ps, &f);
    COMPARE(_mm512_loadu_pd, &d);
    COMPARE(_mm512_loadu_si512, &i);
    COMPARE_STORE(_mm512_storeu_ps, f);
    COMPARE_STORE(_mm512_storeu_pd, d);
    COMPARE_STORE(_mm512_storeu_si512, i);
    COMPARE(_mm512_setzero_si512);
    COMPARE(_mm512_set1_ps, f[0]);
    COMPARE(_mm512_set1_epi8, static_cast<char>(word));
    COMPARE(_mm512_set1_epi16, static_cast<short>(word));
    COMPARE(_mm512_set1_epi32, word);
    COMPARE(_mm512_set1_epi64, i[0]);
    const __m512i counted = qbench::_mm512_setr_epi32(word, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    check::compare("_mm512_setr_epi32", counted, own::counting(word));
    const __m512i pairs = qbench::_mm512_setr_epi64(i[0], 1ll, 2ll, 3ll, 4ll, 5ll, 6ll, 7ll);
    check::compare("_mm512_setr_epi64", pairs, own::counting_pairs(i[0]));
    COMPARE(_mm512_castsi512_ps, i);
    COMPARE(_mm512_castps_si512, f);
    COMPARE(_mm512_castps512_ps256, f);
    COMPARE(_mm512_extractf32x8_ps, f, 0);
    COMPARE(_mm512_extractf32x8_ps, f, 1);
}

void floats(__m512 f, __m512 g, __m512 h, __m512d d, __m512d e) {
    COMPARE(_mm512_add_ps, f, g);
    COMPARE(_mm512_sub_ps, f, g);
    COMPARE(_mm512_mul_ps, f, g);
    COMPARE(_mm512_div_ps, f, g);
    COMPARE(_mm512_add_pd, d, e);
    COMPARE(_mm512_sub_pd, d, e);
    COMPARE(_mm512_mul_pd, d, e);
    COMPARE(_mm512_fmadd_pd, d, e, d);
    COMPARE(_mm512_fmadd_pd, d, e, e);
    COMPARE(_mm512_min_ps, f, g);
    COMPARE(_mm512_max_ps, f, g);
    COMPARE(_mm512_sqrt_ps, f);
    COMPARE(_mm512_fnmadd_round_ps, f, g, h, UP);
    COMPARE(_mm512_fnmadd_round_ps, f, ::_mm512_set1_ps(0x1p-24f), h, UP);
}

void conversions(__m512 f, __m512i i) {
    COMPARE(_mm512_cvt_roundps_epi32, f, DOWN);
    COMPARE(_mm512_cvt_roundps_epi32, f, UP);
    COMPARE(_mm512_cvt_roundps_epi32, f, NEAREST);
    COMPARE(_mm512_cvt_roundps_epi32, f, ZERO);
    COMPARE(_mm512_cvtepi32_ps, i);
    COMPARE(_mm512_cvtps_pd, ::_mm512_castps512_ps256(f));
    COMPARE(_mm512_cvtepu8_epi32, ::_mm512_castsi512_si128(i));
    COMPARE(_mm512_cvtepi8_epi32, ::_mm512_castsi512_si128(i));
    COMPARE(_mm512_cvtepi16_epi32, ::_mm512_castsi512_si256(i));
    COMPARE(_mm512_cvtepi32_epi8, i);
    COMPARE(_mm512_cvtepi32_epi16, i);
}

void integers(__m512i i, __m512i j, __m512i k) {
    COMPARE(_mm512_add_epi16, i, j);
    COMPARE(_mm512_add_epi32, i, j);
    COMPARE(_mm512_mullo_epi32, i, j);
    COMPARE(_mm512_mul_epu32, i, j);
    COMPARE(_mm512_madd_epi16, i, j);
    COMPARE(_mm512_madd_epi16, ::_mm512_set1_epi16(-32768), ::_mm512_set1_epi16(-32768));
    COMPARE(_mm512_min_epi32, i, j);
    COMPARE(_mm512_min_epu8, i, j);
    COMPARE(_mm512_max_epu8, i, j);
    COMPARE(_mm512_and_si512, i, j);
    COMPARE(_mm512_xor_si512, i, j);
    COMPARE(_mm512_ternarylogic_epi64, i, j, k, 0x96);
    COMPARE(_mm512_ternarylogic_epi64, i, j, k, 0x1B);
    COMPARE(_mm512_srli_epi16, i, 8);
    COMPARE(_mm512_srli_epi16, i, 16);
    COMPARE(_mm512_srli_epi32, i, 8);
    COMPARE(_mm512_srli_epi32, i, 32);
    COMPARE(_mm512_srli_epi64, i, 32);
    COMPARE(_mm512_srli_epi64, i, 64);
    COMPARE(_mm512_slli_epi64, i, 32);
    COMPARE(_mm512_slli_epi64, i, 64);
}

void places(__m512 f, __m512 g, __m512i i) {
    COMPARE(_mm512_permutexvar_ps, i, f);
    COMPARE(_mm512_permutex2var_ps, f, i, g);
    COMPARE(_mm512_shuffle_ps, f, g, _MM_SHUFFLE(0, 1, 0, 1));
    COMPARE(_mm512_shuffle_ps, f, g, _MM_SHUFFLE(2, 3, 2, 3));
    COMPARE(_mm512_shuffle_ps, f, g, _MM_SHUFFLE(3, 0, 1, 2));
}

void masks(__m512 f, __m512 g, __m512i i, __m512i j) {
    const auto m = static_cast<__mmask16>(i[0]), n = static_cast<__mmask16>(j[0]);
    check::compare("_kor_mask16", qbench::_kor_mask16(m, n), own::either(m, n));
    check::compare("_kandn_mask16", qbench::_kandn_mask16(m, n), own::but_not(m, n));
    check::compare("_knot_mask16", qbench::_knot_mask16(m), own::negated(m));
    COMPARE(_mm512_cmp_ps_mask, f, g, _CMP_LT_OQ);
    COMPARE(_mm512_cmp_ps_mask, f, g, _CMP_GE_OQ);
    COMPARE(_mm512_cmp_ps_mask, f, g, _CMP_NGE_UQ);
    COMPARE(_mm512_cmp_ps_mask, f, g, _CMP_UNORD_Q);
    COMPARE(_mm512_cmpeq_epi32_mask, i, j);
    COMPARE(_mm512_test_epi32_mask, i, j);
    COMPARE(_mm512_cmpeq_epi8_mask, i, j);
    COMPARE(_mm512_mask_blend_ps, m, f, g);
    COMPARE(_mm512_mask_blend_epi32, m, i, j);
    COMPARE(_mm512_mask_blend_epi8, static_cast<__mmask64>(j[1]), i, j);
    COMPARE(_mm512_maskz_mov_ps, m, f);
    COMPARE(_mm512_maskz_mov_epi32, m, i);
    COMPARE(_mm512_mask_add_ps, f, m, g, f);
    COMPARE(_mm512_mask_add_epi32, i, m, j, i);
}

}  // namespace

int main() {
    for (int round = 0; round < check::ROUNDS; ++round) {
        const check::Operand a, b, c;
        constants_and_memory(a, b, c);
        floats(a, b, c, a, b);
        conversions(a, a);
        integers(a, b, c);
        places(a, b, c);
        masks(a, b, a, b);
    }
    return check::result();
}
