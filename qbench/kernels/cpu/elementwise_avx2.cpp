// The elementwise loops for AVX2.
#include "jobs.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

namespace qbench {
namespace avx2 {
namespace {
#include "vector_scalar.h"
#include "vector_avx2.h"

#include "loops.h"
}  // namespace
}  // namespace avx2
const Loops avx2_loops = avx2::LOOPS;
}  // namespace qbench

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
