// Everything that an instruction set is made of. Included inside its namespace, after its target was chosen.
#include "gemm_prepare.h"

#include "gemm_pack.h"

#include "gemm_tile.h"

#include "gemm_finish.h"

#include "gemm_conv.h"

#include "gemm_winograd_forms.h"

#include "gemm_winograd.h"

#include "gemm_wgrad.h"

#include "gemm_wgrad_reduce.h"

#include "gemm_wgrad_winograd.h"

#include "gemm_line.h"

// A panel of errors and a block of inputs then fit the first cache, which is half as large again where there are tiles.
// Those are so fast that the way of the sums from memory and back, once for each chunk, takes longer than a small one.
template <class Isa>
constexpr std::int64_t CHUNK_PIXELS = Isa::planar ? 512 : 256;

template <class Isa>
constexpr Kernels kernels_of(double pace = 1, double filter_cost = 16, const Kernels* words = nullptr) {
    Kernels k{};
    k.pace = pace;
    k.filter_cost = filter_cost;
    k.words = words;
    k.rows = Isa::rows;
    k.columns = Isa::columns;
    k.lanes = Isa::lanes;
    k.unit = Isa::unit;
    k.depth = Isa::depth;
    k.element_bytes = sizeof(typename Isa::A);
    k.chunk_pixels = CHUNK_PIXELS<Isa>;
    k.raw = Isa::raw;
    k.low_digits_unsigned = Isa::low_digits_unsigned;
    k.pack = pack_task<Isa>;
    k.conv = conv_job<Isa>;
    if constexpr (!Isa::raw && Isa::unit == 2) {
        k.winograd[0] = {winograd_pack<Isa, Winograd2>, winograd_job<Isa, Winograd2>};
        k.winograd[1] = {winograd_pack<Isa, Winograd4>, winograd_job<Isa, Winograd4>};
        k.wgrad_winograd = wgrad_winograd_job<Isa>;
        k.wgrad_winograd_scratch = wgrad_winograd_scratch<Isa>;
    }
    k.wgrad = wgrad_job<Isa>;
    k.wgrad_scratch = wgrad_scratch<Isa>;
    k.wgrad_reduce = wgrad_reduce<Isa>;
    k.sum_images = sum_images;
    k.met_by_extremes = met_by_extremes;
    return k;
}
