// Integer products with NEON: int16 times int16 into int32, on any AArch64 CPU.
#include "gemm.h"

#include <type_traits>

#if defined(__aarch64__)
#include <arm_neon.h>

namespace qbench {
namespace products_neon {
namespace {
#include "gemm_kernels.h"

struct Isa {
    using A = std::int16_t;
    using B = std::int16_t;
    using Sum = int32x4_t;
    using Left = int16x4_t;
    using Right = int16x4_t;
    using Tiles = VectorTiles<Isa>;
    static constexpr bool raw = false, planar = false, low_digits_unsigned = false;
    static constexpr std::int64_t unit = 1, depth = 1, rows = 8, lanes = 4, vectors = 2, columns = lanes * vectors;

    static QBENCH_INLINE void interleave(const A* from, std::int64_t pixel, A* to) {
        interleave_plain<Isa>(from, pixel, to);
    }
    static QBENCH_INLINE Sum zero() { return vdupq_n_s32(0); }
    static QBENCH_INLINE Sum load(const std::int32_t* from) { return vld1q_s32(from); }
    static QBENCH_INLINE void store(std::int32_t* to, Sum sum) { vst1q_s32(to, sum); }
    static QBENCH_INLINE Left broadcast(const A* term) { return vld1_dup_s16(term); }
    static QBENCH_INLINE Right panel(const B* from) { return vld1_s16(from); }
    static QBENCH_INLINE Sum add(Sum sum, Left left, Right right) { return vmlal_s16(sum, left, right); }
};
}  // namespace
}  // namespace products_neon

const Kernels neon_kernels = products_neon::kernels_of<products_neon::Isa>();
}  // namespace qbench
#endif
