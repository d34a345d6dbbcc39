// In place of the kernels' own isa.cpp: what the CPU lacks has a model.
#include "isa.h"

namespace qbench {

bool level_available(int level) { return level >= 0 && level < LEVELS && level != LEVEL_NEON; }

}  // namespace qbench

extern "C" __attribute__((visibility("default"))) int qbench_level_available(int level) {
    return qbench::level_available(level);
}
