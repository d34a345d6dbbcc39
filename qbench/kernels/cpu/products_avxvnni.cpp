// Integer products with AVX-VNNI: dot products of four bytes, or of two int16, in 256-bit vectors.
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
#include "isa_pixel_sums.h"
#include "isa_registers256.h"

struct Bytes : Registers256<std::uint8_t, std::int8_t> {
    using Tiles = VectorTiles<Bytes>;
    static constexpr bool planar = false;
    static constexpr std::int64_t depth = 1, rows = 6;

    static QBENCH_INLINE void interleave(const A* from, std::int64_t pixel, A* to) {
        const Halves halves = interleave_4x8(from, pixel);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), halves.low);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 16), halves.high);  // six channels of eight
    }
    static QBENCH_INLINE Sum add(Sum sum, Left left, Right right) { return _mm256_dpbusd_avx_epi32(sum, left, right); }
};

struct Words : Pairs256 {
    using Tiles = VectorTiles<Words>;

    static QBENCH_INLINE Sum add(Sum sum, Left left, Right right) {
        return _mm256_dpwssd_avx_epi32(sum, left, right);
    }
};

constexpr Kernels words = kernels_of<Words>(0.75, 80);
}  // namespace
}  // namespace products_avxvnni

// Costs of AVX512-VNNI: these have not been measured.
const Kernels avxvnni_kernels = products_avxvnni::kernels_of<products_avxvnni::Bytes>(0.45, 0, &products_avxvnni::words);
}  // namespace qbench

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
