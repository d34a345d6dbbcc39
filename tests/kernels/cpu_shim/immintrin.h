// AVX-512, VNNI and AMX in plain C++, for CPUs that have AVX2 alone: what the kernels use of them. A call within the
// namespace qbench finds these functions before the compiler's own, which are outside of it; one that has no model here
// does not compile without its instruction set. Semantics after Intel's Software Developer's Manual.
#pragma once

#include_next <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

// Not functions but macros, which know no namespaces. Many others are macros where nothing is optimised.
#undef _mm512_setr_epi32
#undef _mm512_setr_epi64
#undef _kandn_mask16
#undef _knot_mask16
#undef _kor_mask16
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbusd
#undef _tile_dpbuud
#if !defined(__OPTIMIZE__)
#error "the models need optimisation: without it, the compiler's intrinsics are macros"
#endif

// Called from hundreds of places: inlined, they would take the compiler minutes.
#define MODEL inline __attribute__((noinline))

namespace qbench {
namespace model {

// The compiler's vectors of any element type. Unsigned elements wrap.
template <class T, int N>
using Vector __attribute__((vector_size(sizeof(T) * N))) = T;

using U8 = Vector<std::uint8_t, 64>;
using U16 = Vector<std::uint16_t, 32>;
using U32 = Vector<std::uint32_t, 16>;
using I32 = Vector<std::int32_t, 16>;
using U64 = Vector<std::uint64_t, 8>;

// The same bits as another type.
template <class To, class From>
MODEL To as(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

template <class To>
MODEL To read(const void* from) {
    To to;
    std::memcpy(&to, from, sizeof to);
    return to;
}

// Lanes of all ones and of all zeros, as comparisons give them, for the bits of a mask, and back.
MODEL I32 lanes_of(__mmask16 mask) {
    const I32 bits{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
    return ((I32{} + mask) & bits) != 0;
}

MODEL __mmask16 mask_of(I32 lanes) {
    unsigned mask = 0;
    for (int i = 0; i < 16; ++i) mask |= (lanes[i] & 1u) << i;
    return static_cast<__mmask16>(mask);
}

template <class V>
MODEL V blend(__mmask16 mask, V clear, V set) {
    return lanes_of(mask) ? set : clear;
}

// A float as an integer, under one of the four rounding modes; 0x80000000 for what is no int32.
MODEL std::int32_t rounded(float a, int mode) {
    const float whole = mode == _MM_FROUND_TO_NEG_INF   ? std::floor(a)
                        : mode == _MM_FROUND_TO_POS_INF ? std::ceil(a)
                        : mode == _MM_FROUND_TO_ZERO    ? std::trunc(a)
                                                        : std::nearbyint(a);
    const bool fits = whole >= -2147483648.0f && whole < 2147483648.0f;
    return fits ? static_cast<std::int32_t>(whole) : std::numeric_limits<std::int32_t>::min();
}

// The least float that is not below c - a * b. The product is exact in double, and the sum is in two of them.
MODEL float fnmadd_upwards(float a, float b, float c) {
    const double product = -(static_cast<double>(a) * b), sum = product + c;
    const double from_c = sum - product, lost = (product - (sum - from_c)) + (c - from_c);
    const float nearest = static_cast<float>(sum);
    const bool is_below = nearest < sum || (nearest == sum && lost > 0);
    return is_below ? std::nextafter(nearest, std::numeric_limits<float>::infinity()) : nearest;
}

// Each 32-bit lane adds four products of an unsigned byte of `a` and a byte of `b`, signed if the lanes of Right are.
template <class Words, class Right>
MODEL Words dot_bytes(Words sums, Words a, Words b) {
    for (int byte = 0; byte < 4; ++byte) {
        const Words right = (Words)((Right)(b << (24 - 8 * byte)) >> 24);
        sums += (a >> (8 * byte) & 255) * right;
    }
    return sums;
}

// Each 32-bit lane adds two products of signed halves, and wraps.
template <class Words, class Signed>
MODEL Words dot_halves(Words sums, Words a, Words b) {
    const Words low = (Words)((Signed)(a << 16) >> 16) * (Words)((Signed)(b << 16) >> 16);
    return sums + low + (Words)((Signed)a >> 16) * (Words)((Signed)b >> 16);
}

}  // namespace model

// --- memory, constants, other views of the same bits

MODEL __m512 _mm512_loadu_ps(const void* from) { return model::read<__m512>(from); }
MODEL __m512d _mm512_loadu_pd(const void* from) { return model::read<__m512d>(from); }
MODEL __m512i _mm512_loadu_si512(const void* from) { return model::read<__m512i>(from); }
MODEL void _mm512_storeu_ps(void* to, __m512 a) { std::memcpy(to, &a, sizeof a); }
MODEL void _mm512_storeu_pd(void* to, __m512d a) { std::memcpy(to, &a, sizeof a); }
MODEL void _mm512_storeu_si512(void* to, __m512i a) { std::memcpy(to, &a, sizeof a); }

MODEL __m512i _mm512_setzero_si512() { return __m512i{}; }
MODEL __m512 _mm512_set1_ps(float a) {
    return (__m512)(model::U32{} + model::as<std::uint32_t>(a));  // of floats, 0 + a would lose the sign of -0
}
MODEL __m512i _mm512_set1_epi8(char a) { return (__m512i)(model::U8{} + static_cast<std::uint8_t>(a)); }
MODEL __m512i _mm512_set1_epi16(short a) { return (__m512i)(model::U16{} + static_cast<std::uint16_t>(a)); }
MODEL __m512i _mm512_set1_epi32(int a) { return (__m512i)(model::I32{} + a); }
MODEL __m512i _mm512_set1_epi64(long long a) { return __m512i{} + a; }
template <class... Ints>
MODEL __m512i _mm512_setr_epi32(Ints... a) {
    static_assert(sizeof...(a) == 16);
    return (__m512i)model::I32{a...};
}
template <class... Ints>
MODEL __m512i _mm512_setr_epi64(Ints... a) {
    static_assert(sizeof...(a) == 8);
    return __m512i{a...};
}

MODEL __m512 _mm512_castsi512_ps(__m512i a) { return (__m512)a; }
MODEL __m512i _mm512_castps_si512(__m512 a) { return (__m512i)a; }
MODEL __m256 _mm512_castps512_ps256(__m512 a) { return model::read<__m256>(&a); }
MODEL __m256 _mm512_extractf32x8_ps(__m512 a, int half) {
    return model::read<__m256>(reinterpret_cast<const char*>(&a) + 32 * (half & 1));
}

// --- floats

MODEL __m512 _mm512_add_ps(__m512 a, __m512 b) { return a + b; }
MODEL __m512 _mm512_sub_ps(__m512 a, __m512 b) { return a - b; }
MODEL __m512 _mm512_mul_ps(__m512 a, __m512 b) { return a * b; }
MODEL __m512 _mm512_div_ps(__m512 a, __m512 b) { return a / b; }
MODEL __m512d _mm512_add_pd(__m512d a, __m512d b) { return a + b; }
MODEL __m512d _mm512_sub_pd(__m512d a, __m512d b) { return a - b; }
MODEL __m512d _mm512_mul_pd(__m512d a, __m512d b) { return a * b; }
MODEL __m512d _mm512_fmadd_pd(__m512d a, __m512d b, __m512d c) {
    for (int i = 0; i < 8; ++i) a[i] = std::fma(a[i], b[i], c[i]);
    return a;
}
// The second operand where one is NaN, and of two zeros.
MODEL __m512 _mm512_min_ps(__m512 a, __m512 b) { return a < b ? a : b; }
MODEL __m512 _mm512_max_ps(__m512 a, __m512 b) { return a > b ? a : b; }
MODEL __m512 _mm512_sqrt_ps(__m512 a) {
    for (int i = 0; i < 16; ++i) a[i] = std::sqrt(a[i]);
    return a;
}
MODEL __m512 _mm512_fnmadd_round_ps(__m512 a, __m512 b, __m512 c, int mode) {
    if (mode != (_MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC)) __builtin_trap();
    for (int i = 0; i < 16; ++i) a[i] = model::fnmadd_upwards(a[i], b[i], c[i]);
    return a;
}

// --- conversions

MODEL __m512i _mm512_cvt_roundps_epi32(__m512 a, int mode) {
    if (!(mode & _MM_FROUND_NO_EXC)) __builtin_trap();
    model::I32 to{};
    for (int i = 0; i < 16; ++i) to[i] = model::rounded(a[i], mode & 3);
    return (__m512i)to;
}
MODEL __m512 _mm512_cvtepi32_ps(__m512i a) { return __builtin_convertvector((model::I32)a, __m512); }
MODEL __m512d _mm512_cvtps_pd(__m256 a) { return __builtin_convertvector(a, __m512d); }
MODEL __m512i _mm512_cvtepu8_epi32(__m128i a) {
    return (__m512i)__builtin_convertvector((model::Vector<std::uint8_t, 16>)a, model::I32);
}
MODEL __m512i _mm512_cvtepi8_epi32(__m128i a) {
    return (__m512i)__builtin_convertvector((model::Vector<std::int8_t, 16>)a, model::I32);
}
MODEL __m512i _mm512_cvtepi16_epi32(__m256i a) {
    return (__m512i)__builtin_convertvector((model::Vector<std::int16_t, 16>)a, model::I32);
}
// These keep the lowest bits.
MODEL __m128i _mm512_cvtepi32_epi8(__m512i a) {
    return (__m128i)__builtin_convertvector((model::U32)a, model::Vector<std::uint8_t, 16>);
}
MODEL __m256i _mm512_cvtepi32_epi16(__m512i a) {
    return (__m256i)__builtin_convertvector((model::U32)a, model::Vector<std::uint16_t, 16>);
}

// --- integers

MODEL __m512i _mm512_add_epi16(__m512i a, __m512i b) { return (__m512i)((model::U16)a + (model::U16)b); }
MODEL __m512i _mm512_add_epi32(__m512i a, __m512i b) { return (__m512i)((model::U32)a + (model::U32)b); }
MODEL __m512i _mm512_mullo_epi32(__m512i a, __m512i b) { return (__m512i)((model::U32)a * (model::U32)b); }
// The low words of 64-bit lanes; the product has both.
MODEL __m512i _mm512_mul_epu32(__m512i a, __m512i b) {
    constexpr std::uint64_t LOW = 0xFFFFFFFF;
    return (__m512i)(((model::U64)a & LOW) * ((model::U64)b & LOW));
}
// Sums of two products wrap, for -2^15 everywhere.
MODEL __m512i _mm512_madd_epi16(__m512i a, __m512i b) {
    const model::I32 x = (model::I32)a, y = (model::I32)b;
    const model::U32 even = (model::U32)((x << 16 >> 16) * (y << 16 >> 16));
    return (__m512i)(even + (model::U32)((x >> 16) * (y >> 16)));
}
MODEL __m512i _mm512_min_epi32(__m512i a, __m512i b) {
    return (__m512i)((model::I32)a < (model::I32)b ? (model::I32)a : (model::I32)b);
}
MODEL __m512i _mm512_min_epu8(__m512i a, __m512i b) {
    return (__m512i)((model::U8)a < (model::U8)b ? (model::U8)a : (model::U8)b);
}
MODEL __m512i _mm512_max_epu8(__m512i a, __m512i b) {
    return (__m512i)((model::U8)a > (model::U8)b ? (model::U8)a : (model::U8)b);
}
MODEL __m512i _mm512_and_si512(__m512i a, __m512i b) { return a & b; }
MODEL __m512i _mm512_xor_si512(__m512i a, __m512i b) { return a ^ b; }
// Bit 4 * a + 2 * b + c of the table, for every bit of a, b and c.
MODEL __m512i _mm512_ternarylogic_epi64(__m512i a, __m512i b, __m512i c, int table) {
    __m512i found{};
    for (int place = 0; place < 8; ++place) {
        if (table >> place & 1) found |= (place & 4 ? a : ~a) & (place & 2 ? b : ~b) & (place & 1 ? c : ~c);
    }
    return found;
}
// Zeros come in; nothing is left where the count is not below the width.
MODEL __m512i _mm512_srli_epi16(__m512i a, unsigned count) {
    return count < 16 ? (__m512i)((model::U16)a >> count) : __m512i{};
}
MODEL __m512i _mm512_srli_epi32(__m512i a, unsigned count) {
    return count < 32 ? (__m512i)((model::U32)a >> count) : __m512i{};
}
MODEL __m512i _mm512_srli_epi64(__m512i a, unsigned count) {
    return count < 64 ? (__m512i)((model::U64)a >> count) : __m512i{};
}
MODEL __m512i _mm512_slli_epi64(__m512i a, unsigned count) {
    return count < 64 ? (__m512i)((model::U64)a << count) : __m512i{};
}
MODEL __m512i _mm512_dpbusd_epi32(__m512i sums, __m512i a, __m512i b) {
    return (__m512i)model::dot_bytes<model::U32, model::I32>((model::U32)sums, (model::U32)a, (model::U32)b);
}
MODEL __m256i _mm256_dpbusd_avx_epi32(__m256i sums, __m256i a, __m256i b) {
    using U32 = model::Vector<std::uint32_t, 8>;
    return (__m256i)model::dot_bytes<U32, model::Vector<std::int32_t, 8>>((U32)sums, (U32)a, (U32)b);
}
MODEL __m512i _mm512_dpwssd_epi32(__m512i sums, __m512i a, __m512i b) {
    return (__m512i)model::dot_halves<model::U32, model::I32>((model::U32)sums, (model::U32)a, (model::U32)b);
}
MODEL __m256i _mm256_dpwssd_avx_epi32(__m256i sums, __m256i a, __m256i b) {
    using U32 = model::Vector<std::uint32_t, 8>;
    return (__m256i)model::dot_halves<U32, model::Vector<std::int32_t, 8>>((U32)sums, (U32)a, (U32)b);
}

// --- places

MODEL __m512 _mm512_permutexvar_ps(__m512i index, __m512 a) {
    __m512 to{};
    for (int i = 0; i < 16; ++i) to[i] = a[((model::I32)index)[i] & 15];
    return to;
}
MODEL __m512 _mm512_permutex2var_ps(__m512 a, __m512i index, __m512 b) {
    __m512 to{};
    for (int i = 0; i < 16; ++i) {
        const int place = ((model::I32)index)[i];
        to[i] = (place & 16 ? b : a)[place & 15];
    }
    return to;
}
// Within each four lanes: two of a, then two of b.
MODEL __m512 _mm512_shuffle_ps(__m512 a, __m512 b, int places) {
    __m512 to{};
    for (int i = 0; i < 16; ++i) to[i] = (i & 2 ? b : a)[(i & ~3) + (places >> 2 * (i & 3) & 3)];
    return to;
}

// --- masks

MODEL __mmask16 _kor_mask16(__mmask16 a, __mmask16 b) { return static_cast<__mmask16>(a | b); }
MODEL __mmask16 _kandn_mask16(__mmask16 a, __mmask16 b) { return static_cast<__mmask16>(~a & b); }
MODEL __mmask16 _knot_mask16(__mmask16 a) { return static_cast<__mmask16>(~a); }

MODEL __mmask16 _mm512_cmp_ps_mask(__m512 a, __m512 b, int predicate) {
    switch (predicate) {
        case _CMP_LT_OQ: return model::mask_of(a < b);
        case _CMP_GE_OQ: return model::mask_of(a >= b);
        case _CMP_NGE_UQ: return model::mask_of(~(a >= b));
        case _CMP_UNORD_Q: return model::mask_of((a != a) | (b != b));
        default: __builtin_trap();
    }
}
MODEL __mmask16 _mm512_cmpeq_epi32_mask(__m512i a, __m512i b) { return model::mask_of((model::I32)a == (model::I32)b); }
MODEL __mmask16 _mm512_test_epi32_mask(__m512i a, __m512i b) { return model::mask_of((model::I32)(a & b) != 0); }
MODEL __mmask64 _mm512_cmpeq_epi8_mask(__m512i a, __m512i b) {
    __mmask64 mask = 0;
    for (int i = 0; i < 64; ++i) mask |= static_cast<__mmask64>(((model::U8)a)[i] == ((model::U8)b)[i]) << i;
    return mask;
}
MODEL __m512 _mm512_mask_blend_ps(__mmask16 mask, __m512 a, __m512 b) { return model::blend(mask, a, b); }
MODEL __m512i _mm512_mask_blend_epi32(__mmask16 mask, __m512i a, __m512i b) {
    return (__m512i)model::blend(mask, (model::I32)a, (model::I32)b);
}
MODEL __m512i _mm512_mask_blend_epi8(__mmask64 mask, __m512i a, __m512i b) {
    model::U8 to = (model::U8)a;
    for (int i = 0; i < 64; ++i) {
        if (mask >> i & 1) to[i] = ((model::U8)b)[i];
    }
    return (__m512i)to;
}
MODEL __m512 _mm512_maskz_mov_ps(__mmask16 mask, __m512 a) { return model::blend(mask, __m512{}, a); }
MODEL __m512i _mm512_maskz_mov_epi32(__mmask16 mask, __m512i a) {
    return _mm512_mask_blend_epi32(mask, __m512i{}, a);
}
MODEL __m512 _mm512_mask_add_ps(__m512 other, __mmask16 mask, __m512 a, __m512 b) {
    return model::blend(mask, other, a + b);
}
MODEL __m512i _mm512_mask_add_epi32(__m512i other, __mmask16 mask, __m512i a, __m512i b) {
    return _mm512_mask_blend_epi32(mask, other, _mm512_add_epi32(a, b));
}

}  // namespace qbench

#include "tiles.h"

#undef MODEL
