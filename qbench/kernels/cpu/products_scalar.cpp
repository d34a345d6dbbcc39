// Integer products for any CPU: plain C++ that compilers vectorise with what every CPU of the architecture has.
#include "gemm.h"

#include <type_traits>

namespace qbench {
namespace products_scalar {
namespace {
#include "gemm_kernels.h"

struct Isa {
    using A = std::int16_t;
    using B = std::int16_t;
    struct Sum {
        std::uint32_t lane[4];
    };
    using Left = std::int32_t;
    struct Right {
        std::int32_t lane[4];
    };
    using Tiles = VectorTiles<Isa>;
    static QBENCH_INLINE void interleave(const A* from, std::int64_t pixel, A* to) {
        interleave_plain<Isa>(from, pixel, to);
    }
    static constexpr bool raw = false, planar = false, low_digits_unsigned = false;
    static constexpr std::int64_t unit = 1, depth = 1, rows = 2, lanes = 4, vectors = 2, columns = lanes * vectors;

    static QBENCH_INLINE Sum zero() { return {{0, 0, 0, 0}}; }
    static QBENCH_INLINE Sum load(const std::int32_t* from) {
        Sum sum;
        __builtin_memcpy(&sum, from, sizeof sum);
        return sum;
    }
    static QBENCH_INLINE void store(std::int32_t* to, Sum sum) { __builtin_memcpy(to, &sum, sizeof sum); }
    static QBENCH_INLINE Left broadcast(const A* term) { return *term; }
    static QBENCH_INLINE Right panel(const B* from) { return {{from[0], from[1], from[2], from[3]}}; }
    static QBENCH_INLINE Sum add(Sum sum, Left left, Right right) {
        for (int i = 0; i < 4; ++i) sum.lane[i] += static_cast<std::uint32_t>(left * right.lane[i]);
        return sum;
    }
};
}  // namespace
}  // namespace products_scalar

const Kernels scalar_kernels = products_scalar::kernels_of<products_scalar::Isa>();
}  // namespace qbench
