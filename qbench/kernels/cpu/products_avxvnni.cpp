// Integer products with AVX-VNNI: dot products of four bytes in 256-bit vectors.
#include "gemm.h"

#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avx2,avxvnni")
#endif

namespace qbench {
namespace products_avxvnni {
namespace {
#include "gemm_kernels.h"
#include "isa_interleave.h"

struct Isa {
    using A = std::uint8_t;
    using B = std::int8_t;
    using Sum = __m256i;
    using Left = __m256i;
    using Right = __m256i;
    using Tiles = VectorTiles<Isa>;
    static QBENCH_INLINE void interleave(const A* from, std::int64_t pixel, A* to) {
        const Halves halves = interleave_4x8(from, pixel);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), halves.low);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 16), halves.high);  // six channels of eight
    }
    static constexpr bool raw = true, planar = false;
    static constexpr std::int64_t unit = 4, depth = 1, rows = 6, lanes = 8, vectors = 2, columns = lanes * vectors;

    static QBENCH_INLINE Sum zero() { return _mm256_setzero_si256(); }
    static QBENCH_INLINE Sum load(const std::int32_t* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    }
    static QBENCH_INLINE void store(std::int32_t* to, Sum sum) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), sum);
    }
    static QBENCH_INLINE Left broadcast(const A* four) {
        std::int32_t bits;
        __builtin_memcpy(&bits, four, sizeof bits);
        return _mm256_set1_epi32(bits);
    }
    static QBENCH_INLINE Right panel(const B* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    }
    static QBENCH_INLINE Sum add(Sum sum, Left left, Right right) {
        return _mm256_dpbusd_avx_epi32(sum, left, right);
    }
};
}  // namespace
}  // namespace products_avxvnni

const Kernels avxvnni_kernels = products_avxvnni::kernels_of<products_avxvnni::Isa>();
}  // namespace qbench

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
