// The elementwise loops for AVX-512.
#include "jobs.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")
#endif

namespace qbench {
namespace avx512 {
namespace {
#include "vector_scalar.h"
#include "vector_avx512.h"

#include "loops.h"
}  // namespace
}  // namespace avx512
const Loops avx512_loops = avx512::LOOPS;
}  // namespace qbench

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
