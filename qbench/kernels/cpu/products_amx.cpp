// Integer products with AMX tiles of bytes; everything around the tiles uses AVX-512 and its dot products.
#include "gemm.h"

#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8")
#endif

namespace qbench {
namespace products_amx {
namespace {
#include "gemm_kernels.h"
#include "isa_amx.h"
#include "isa_interleave.h"
#include "isa_pixel_sums.h"
#include "isa_registers512.h"

// Sums in registers 0 to 3 (upper left, upper right, lower left, lower right), A in 4 and 5, B in 6 and 7.
template <class Isa, bool two_rows, bool two_columns, bool b_signed>
void tile_product(const std::uint8_t* a, std::int64_t row_step, const std::int8_t* b, const Segment* segments,
                  std::int64_t count) {
    constexpr std::int64_t width = (two_columns ? 2 : 1) * TILE_BYTES;
    for (std::int64_t s = 0; s < count; ++s) {
        const std::uint8_t* left = a + segments[s].a;
        const std::int8_t* right = b + segments[s].b * width;
        for (std::int64_t u = 0; u < segments[s].count; u += Isa::depth) {
            tile_load<4>(left, row_step);
            tile_load<6>(right, width);
            tile_dot<0, 4, 6, b_signed>();
            if constexpr (two_columns) {
                tile_load<7>(right + TILE_BYTES, width);
                tile_dot<1, 4, 7, b_signed>();
            }
            if constexpr (two_rows) {
                tile_load<5>(left + TILE_ROWS * row_step, row_step);
                tile_dot<2, 5, 6, b_signed>();
                if constexpr (two_columns) tile_dot<3, 5, 7, b_signed>();
            }
            left += Isa::depth * Isa::unit;
            right += Isa::depth * width;
        }
    }
}

template <class Isa, bool two_rows, bool two_columns, bool b_signed>
void tiles(const std::uint8_t* a, std::int64_t row_step, const std::int8_t* b, const Segment* segments,
           std::int64_t count, std::int32_t* sums, bool fresh) {
    constexpr std::int64_t pitch = Isa::columns * sizeof(std::int32_t);
    std::int32_t* lower = sums + TILE_ROWS * Isa::columns;
    finish_stores();
    if (fresh) {
        tile_zero<0>();
        if constexpr (two_columns) tile_zero<1>();
        if constexpr (two_rows) tile_zero<2>();
        if constexpr (two_rows && two_columns) tile_zero<3>();
    } else {
        tile_load<0>(sums, pitch);
        if constexpr (two_columns) tile_load<1>(sums + 16, pitch);
        if constexpr (two_rows) tile_load<2>(lower, pitch);
        if constexpr (two_rows && two_columns) tile_load<3>(lower + 16, pitch);
    }
    tile_product<Isa, two_rows, two_columns, b_signed>(a, row_step, b, segments, count);
    tile_store<0>(sums, pitch);
    if constexpr (two_columns) tile_store<1>(sums + 16, pitch);
    if constexpr (two_rows) tile_store<2>(lower, pitch);
    if constexpr (two_rows && two_columns) tile_store<3>(lower + 16, pitch);
}

template <class Isa>
struct TileProducts {
    static void begin() { configure_tiles(); }
    static void end() { release_tiles(); }

    // Computes whole tiles; rows past `rows` are left to be ignored.
    static void image(std::int64_t rows, const std::uint8_t* a, std::int64_t row_step, const std::int8_t* b,
                      bool b_signed, const Segment* segments, std::int64_t count, std::int64_t vectors,
                      std::int32_t* sums) {
        choose(rows > TILE_ROWS, vectors == 2, b_signed, a, row_step, b, segments, count, sums, true);
    }

    static void packed(const std::uint8_t* a, std::int64_t plane, const std::int8_t* b, bool b_signed,
                       const Segment* segments, std::int64_t count, std::int64_t vectors, std::int32_t* sums,
                       bool fresh) {
        choose(Isa::rows > TILE_ROWS, vectors == 2, b_signed, a, plane, b, segments, count, sums, fresh);
    }

  private:
    static void choose(bool two_rows, bool two_columns, bool b_signed, const std::uint8_t* a, std::int64_t row_step,
                       const std::int8_t* b, const Segment* segments, std::int64_t count, std::int32_t* sums,
                       bool fresh) {
        static constexpr decltype(&tiles<Isa, true, true, true>) FORMS[2][2][2] = {
            {{tiles<Isa, false, false, false>, tiles<Isa, false, false, true>},
             {tiles<Isa, false, true, false>, tiles<Isa, false, true, true>}},
            {{tiles<Isa, true, false, false>, tiles<Isa, true, false, true>},
             {tiles<Isa, true, true, false>, tiles<Isa, true, true, true>}}};
        FORMS[two_rows][two_columns][b_signed](a, row_step, b, segments, count, sums, fresh);
    }
};

struct Isa : Registers512<std::uint8_t, std::int8_t> {
    using Tiles = TileProducts<Isa>;
    static constexpr bool planar = true, low_digits_unsigned = true;
    static constexpr std::int64_t depth = 16, rows = 32;

    static void turn(const A* from, std::int64_t pixel, std::int64_t pixels, std::int64_t channels, A* to,
                     std::int64_t plane) {
        turn_16x16(from, pixel, pixels, channels, to, plane);
    }
    static QBENCH_INLINE Sum add(Sum sum, Left left, Right right) { return _mm512_dpbusd_epi32(sum, left, right); }
};
}  // namespace
}  // namespace products_amx

const Kernels amx_kernels = products_amx::kernels_of<products_amx::Isa>();
}  // namespace qbench

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
