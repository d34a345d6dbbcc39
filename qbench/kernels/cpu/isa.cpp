#include "isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace qbench {
namespace {

#if defined(__x86_64__)

struct Registers {
    unsigned a, b, c, d;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
    Registers r{0, 0, 0, 0};
    if (!__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d)) return {0, 0, 0, 0};
    return r;
}

constexpr unsigned bit(int index) { return 1u << index; }

// Whether the operating system saves the registers named by `mask` when it switches threads.
bool saves_registers(unsigned mask) {
    if (!(cpuid(1, 0).c & bit(27))) return false;
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & mask) == mask;
}

constexpr unsigned YMM_STATE = 0x6, ZMM_STATE = 0xe6, TILE_STATE = 0x60000;

bool has_avx2() {
    return (cpuid(7, 0).b & bit(5)) && (cpuid(1, 0).c & bit(12)) && saves_registers(YMM_STATE);
}

bool has_avx512() {
    constexpr unsigned NEEDED = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);  // F, DQ, BW, VL
    return has_avx2() && (cpuid(7, 0).b & NEEDED) == NEEDED && saves_registers(ZMM_STATE);
}

bool has_avxvnni() { return has_avx2() && (cpuid(7, 1).a & bit(4)); }
bool has_avx512vnni() { return has_avx512() && (cpuid(7, 0).c & bit(11)); }

// Tiles hold so much state that Linux gives them only to processes that ask.
bool tiles_granted() {
#if defined(__linux__)
    constexpr long REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
    return false;
#endif
}

bool has_amx() {
    constexpr unsigned NEEDED = (1u << 24) | (1u << 25);  // AMX-TILE, AMX-INT8
    return has_avx512vnni() && (cpuid(7, 0).d & NEEDED) == NEEDED && saves_registers(TILE_STATE) && tiles_granted();
}

bool probe(int level) {
    switch (level) {
        case LEVEL_SCALAR: return true;
        case LEVEL_AVX2: return has_avx2();
        case LEVEL_AVX512: return has_avx512();
        case LEVEL_AVXVNNI: return has_avxvnni();
        case LEVEL_AVX512VNNI: return has_avx512vnni();
        case LEVEL_AMX: return has_amx();
        default: return false;
    }
}

#elif defined(__aarch64__)

bool probe(int level) { return level == LEVEL_SCALAR || level == LEVEL_NEON; }

#else

bool probe(int level) { return level == LEVEL_SCALAR; }

#endif

}  // namespace

bool level_available(int level) {
    static const struct Probed {
        bool found[LEVELS];
        Probed() {
            for (int i = 0; i < LEVELS; ++i) found[i] = probe(i);
        }
    } probed;
    return level >= 0 && level < LEVELS && probed.found[level];
}

}  // namespace qbench

extern "C" __attribute__((visibility("default"))) int qbench_level_available(int level) {
    return qbench::level_available(level);
}
