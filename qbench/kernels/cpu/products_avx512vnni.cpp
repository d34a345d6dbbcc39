// Integer products with AVX512-VNNI: dot products of four bytes.
#include "gemm.h"

#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#endif

namespace qbench {
namespace products_avx512vnni {
namespace {
#include "gemm_kernels.h"
#include "isa_interleave.h"

struct Isa {
    using A = std::uint8_t;
    using B = std::int8_t;
    using Sum = __m512i;
    using Left = __m512i;
    using Right = __m512i;
    using Tiles = VectorTiles<Isa>;
    static QBENCH_INLINE void interleave(const A* from, std::int64_t pixel, A* to) {
        const Halves halves = interleave_4x8(from, pixel);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), halves.low);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16), halves.high);
    }
    static constexpr bool raw = true, planar = false;
    static constexpr std::int64_t unit = 4, depth = 1, rows = 8, lanes = 16, vectors = 2, columns = lanes * vectors;

    static QBENCH_INLINE Sum zero() { return _mm512_setzero_si512(); }
    static QBENCH_INLINE Sum load(const std::int32_t* from) { return _mm512_loadu_si512(from); }
    static QBENCH_INLINE void store(std::int32_t* to, Sum sum) { _mm512_storeu_si512(to, sum); }
    static QBENCH_INLINE Left broadcast(const A* four) {
        std::int32_t bits;
        __builtin_memcpy(&bits, four, sizeof bits);
        return _mm512_set1_epi32(bits);
    }
    static QBENCH_INLINE Right panel(const B* from) { return _mm512_loadu_si512(from); }
    static QBENCH_INLINE Sum add(Sum sum, Left left, Right right) {
        return _mm512_dpbusd_epi32(sum, left, right);
    }
};
}  // namespace
}  // namespace products_avx512vnni

const Kernels avx512vnni_kernels = products_avx512vnni::kernels_of<products_avx512vnni::Isa>();
}  // namespace qbench

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
