// Integer products with AVX2: pairs of int16.
#include "gemm.h"

#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif

namespace qbench {
namespace products_avx2 {
namespace {
#include "gemm_kernels.h"
#include "isa_interleave.h"

struct Isa {
    using A = std::int16_t;
    using B = std::int16_t;
    using Sum = __m256i;
    using Left = __m256i;
    using Right = __m256i;
    using Tiles = VectorTiles<Isa>;
    static QBENCH_INLINE void interleave(const A* from, std::int64_t pixel, A* to) {
        interleave_2x4(from, pixel, to);
    }
    static constexpr bool raw = false, planar = false;
    static constexpr std::int64_t unit = 2, depth = 1, rows = 4, lanes = 8, vectors = 2, columns = lanes * vectors;

    static QBENCH_INLINE Sum zero() { return _mm256_setzero_si256(); }
    static QBENCH_INLINE Sum load(const std::int32_t* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    }
    static QBENCH_INLINE void store(std::int32_t* to, Sum sum) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), sum);
    }
    static QBENCH_INLINE Left broadcast(const A* pair) {
        std::int32_t bits;
        __builtin_memcpy(&bits, pair, sizeof bits);
        return _mm256_set1_epi32(bits);
    }
    static QBENCH_INLINE Right panel(const B* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    }
    static QBENCH_INLINE Sum add(Sum sum, Left left, Right right) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(left, right));
    }
};
}  // namespace
}  // namespace products_avx2

const Kernels avx2_kernels = products_avx2::kernels_of<products_avx2::Isa>();
}  // namespace qbench

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
