// What the elementwise kernels share: numbering of instruction sets, export, and the split of work over threads.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#define QBENCH_EXPORT extern "C" __attribute__((visibility("default")))
#define QBENCH_INLINE inline __attribute__((always_inline))

namespace qbench {

using i64 = std::int64_t;
using u64 = std::uint64_t;
using i32 = std::int32_t;
using u32 = std::uint32_t;
using i16 = std::int16_t;
using u16 = std::uint16_t;
using i8 = std::int8_t;
using u8 = std::uint8_t;

// The numbers by which Python names the instruction sets of the elementwise kernels.
enum Isa { SCALAR = 0, AVX2 = 1, AVX512 = 2, NEON = 3 };

// Elements per cache line of bytes, and a multiple of every random generator's group.
constexpr i64 GRAIN = 64;

enum Rule { NEAREST, HALF_UP, PHILOX, HASH, SIGN, SIGN_PHILOX, SIGN_HASH };
// FLOAT32: no codes, but the values that they stand for.
enum Type { UINT8, INT8, INT16, INT32, FLOAT32 };

struct Key {
    u32 seed, tensor, step;
};

struct Range {
    i64 begin, end;
};

// Part `index` of `count` of n elements; the parts start at multiples of `grain`.
inline Range part_of(i64 n, i64 grain, i64 index, i64 count) {
    const i64 units = (n + grain - 1) / grain;
    const i64 begin = units * index / count * grain, end = units * (index + 1) / count * grain;
    return {begin < n ? begin : n, end < n ? end : n};
}

// Threads worth starting for work over n elements: a parallel region costs as much as some ten thousand of them.
inline int useful_threads(int threads, i64 n) {
    constexpr i64 ELEMENTS_PER_THREAD = 16384;
    const i64 useful = n / ELEMENTS_PER_THREAD;
    if (useful <= 1 || threads <= 1) return 1;
    return useful < threads ? static_cast<int>(useful) : threads;
}

// body(part, range) on `parts` parts of n elements, which start at multiples of `grain`; each part by one thread.
template <class Body>
void in_parts(int parts, i64 n, i64 grain, const Body& body) {
    if (parts <= 1) {
        body(0, Range{0, n});
        return;
    }
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; ++part) body(part, part_of(n, grain, part, parts));
}

// The same with as many of `threads` threads as pay.
template <class Body>
void in_parallel(int threads, i64 n, i64 grain, const Body& body) {
    in_parts(useful_threads(threads, n), n, grain, body);
}

}  // namespace qbench
