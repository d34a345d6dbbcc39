// Integer products with AVX-512 but no dot products of bytes: pairs of int16.
#include "gemm.h"

#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")
#endif

namespace qbench {
namespace products_avx512 {
namespace {
#include "gemm_kernels.h"
#include "isa_interleave.h"

struct Isa {
    using A = std::int16_t;
    using B = std::int16_t;
    using Sum = __m512i;
    using Left = __m512i;
    using Right = __m512i;
    using Tiles = VectorTiles<Isa>;
    static QBENCH_INLINE void interleave(const A* from, std::int64_t pixel, A* to) {
        interleave_2x8(from, pixel, to);
    }
    static constexpr bool raw = false, planar = false;
    static constexpr std::int64_t unit = 2, depth = 1, rows = 8, lanes = 16, vectors = 2, columns = lanes * vectors;

    static QBENCH_INLINE Sum zero() { return _mm512_setzero_si512(); }
    static QBENCH_INLINE Sum load(const std::int32_t* from) { return _mm512_loadu_si512(from); }
    static QBENCH_INLINE void store(std::int32_t* to, Sum sum) { _mm512_storeu_si512(to, sum); }
    static QBENCH_INLINE Left broadcast(const A* pair) {
        std::int32_t bits;
        __builtin_memcpy(&bits, pair, sizeof bits);
        return _mm512_set1_epi32(bits);
    }
    static QBENCH_INLINE Right panel(const B* from) { return _mm512_loadu_si512(from); }
    static QBENCH_INLINE Sum add(Sum sum, Left left, Right right) {
        return _mm512_add_epi32(sum, _mm512_madd_epi16(left, right));
    }
};
}  // namespace
}  // namespace products_avx512

const Kernels avx512_kernels = products_avx512::kernels_of<products_avx512::Isa>();
}  // namespace qbench

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
