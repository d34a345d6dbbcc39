// The elementwise loops for NEON, which every AArch64 processor has.
#include "jobs.h"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace qbench {
namespace neon {
namespace {
#include "vector_scalar.h"
#include "vector_neon.h"

#include "loops.h"
}  // namespace
}  // namespace neon
const Loops neon_loops = neon::LOOPS;
}  // namespace qbench
#endif
