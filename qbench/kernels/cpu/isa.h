// Levels of instruction sets, and which of them this CPU and operating system can run.
#pragma once

#include <cstdint>

namespace qbench {

// The places of the names in LEVELS of __init__.py.
enum Level : std::int32_t {
    LEVEL_SCALAR,
    LEVEL_NEON,
    LEVEL_AVX2,
    LEVEL_AVX512,
    LEVEL_AVXVNNI,
    LEVEL_AVX512VNNI,
    LEVEL_AMX,
    LEVELS,
};

bool level_available(int level);

}  // namespace qbench
