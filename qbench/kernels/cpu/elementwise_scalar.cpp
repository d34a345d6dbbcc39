// The elementwise loops in plain C++: for any processor, and what the others are compared with.
#include "jobs.h"

namespace qbench {
namespace scalar {
namespace {
#include "vector_scalar.h"
using Vector = Single;
#include "loops.h"
}  // namespace
}  // namespace scalar
const Loops scalar_loops = scalar::LOOPS;
}  // namespace qbench
