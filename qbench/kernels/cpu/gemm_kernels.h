// Everything that an instruction set is made of. Included inside its namespace, after its target was chosen.
#include "gemm_prepare.h"

#include "gemm_pack.h"

#include "gemm_tile.h"

#include "gemm_finish.h"

#include "gemm_conv.h"

#include "gemm_wgrad.h"

template <class Isa>
constexpr Kernels kernels_of() {
    return {Isa::rows,       Isa::columns,   Isa::lanes,       Isa::unit,
            Isa::depth,      sizeof(typename Isa::A), Isa::raw, pack_task<Isa>,
            conv_job<Isa>,   wgrad_job<Isa>, wgrad_scratch<Isa>};
}
