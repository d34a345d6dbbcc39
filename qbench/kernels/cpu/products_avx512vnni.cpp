// Integer products with AVX512-VNNI: dot products of four bytes, or of two int16.
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
#include "isa_pixel_sums.h"
#include "isa_registers512.h"

struct Bytes : Registers512<std::uint8_t, std::int8_t> {
    using Tiles = VectorTiles<Bytes>;
    static constexpr bool planar = false;
    static constexpr std::int64_t depth = 1, rows = 8;

    static QBENCH_INLINE void interleave(const A* from, std::int64_t pixel, A* to) {
        const Halves halves = interleave_4x8(from, pixel);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), halves.low);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16), halves.high);
    }
    static QBENCH_INLINE Sum add(Sum sum, Left left, Right right) { return _mm512_dpbusd_epi32(sum, left, right); }
};

struct Words : Pairs512 {
    using Tiles = VectorTiles<Words>;

    static QBENCH_INLINE Sum add(Sum sum, Left left, Right right) {
        return _mm512_dpwssd_epi32(sum, left, right);
    }
};

constexpr Kernels words = kernels_of<Words>(0.75, 80);
}  // namespace
}  // namespace products_avx512vnni

// Costs measured on a CPU whose 512-bit units are two of 256 bits (Zen 4).
const Kernels avx512vnni_kernels =
    products_avx512vnni::kernels_of<products_avx512vnni::Bytes>(0.45, 0, &products_avx512vnni::words);
}  // namespace qbench

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
