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
#include "isa_dots512.h"
#include "isa_interleave.h"

struct Isa : Dots512 {
    using Tiles = VectorTiles<Isa>;
    static QBENCH_INLINE void interleave(const A* from, std::int64_t pixel, A* to) {
        const Halves halves = interleave_4x8(from, pixel);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), halves.low);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16), halves.high);
    }
    static constexpr bool planar = false;
    static constexpr std::int64_t depth = 1, rows = 8;
};
}  // namespace
}  // namespace products_avx512vnni

const Kernels avx512vnni_kernels = products_avx512vnni::kernels_of<products_avx512vnni::Isa>();
}  // namespace qbench

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
