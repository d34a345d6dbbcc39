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
#include "isa_pixel_sums.h"
#include "isa_registers256.h"

struct Isa : Pairs256 {
    using Tiles = VectorTiles<Isa>;

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
