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
#include "isa_pixel_sums.h"
#include "isa_registers512.h"

struct Isa : Pairs512 {
    using Tiles = VectorTiles<Isa>;

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
