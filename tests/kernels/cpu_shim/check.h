// Compares the models with the CPU's own instructions, on random and on awkward operands.
//
// A check_*.cpp includes this, which is before the models and so where the compiler's macros still are; then the models;
// and compares within a loop over rounds. Exit code 1 where two differ.
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>

namespace check {

constexpr int ROUNDS = 20000;

inline std::mt19937 random_bits(1);
inline int compared = 0, wrong = 0;

// 64 bytes of one kind: anything, the ends of small integers, awkward floats, or floats between small integers.
struct alignas(64) Operand {
    std::uint32_t words[16];

    Operand() {
        constexpr float FLOATS[] = {0.0f,   -0.0f,   0.5f,         -0.5f,         1.5f,          -1.5f,     2.5f,
                                    1e-45f, -1e-45f, 0x1p-126f,    0x1p-24f,      16777215.0f,   16777216.0f, 3e38f,
                                    -3e38f, NAN,     INFINITY,     -INFINITY,     2147483520.0f, 2147483648.0f,
                                    1.0f,   -1.0f,   8388607.5f,   -2147483648.0f, -2147483904.0f};
        constexpr std::uint32_t BYTES[] = {0x80, 0x7F, 0xFF, 0x00, 0x01};
        const unsigned kind = random_bits() % 4;
        for (auto& word : words) {
            word = random_bits();
            float value = static_cast<float>(static_cast<std::int32_t>(word)) * 0x1p-23f;
            if (kind == 2) value = FLOATS[word % (sizeof FLOATS / sizeof *FLOATS)];
            if (kind >= 2) std::memcpy(&word, &value, sizeof word);
            if (kind != 1) continue;
            word = 0;
            for (int i = 0; i < 4; ++i) word = word << 8 | BYTES[random_bits() % 5];
        }
    }

    template <class Vector>
    operator Vector() const {
        Vector vector;
        std::memcpy(&vector, words, sizeof vector);
        return vector;
    }
};

template <class T>
bool same(const T& a, const T& b) {
    return std::memcmp(&a, &b, sizeof a) == 0;
}

template <class Float, class Vector>
bool same_floats(const Vector& a, const Vector& b) {
    for (unsigned i = 0; i < sizeof a / sizeof(Float); ++i) {
        const Float x = a[i], y = b[i];
        if (!same(x, y) && !(x != x && y != y)) return false;
    }
    return true;
}

// Any NaN is like another.
inline bool same(const __m512& a, const __m512& b) { return same_floats<float>(a, b); }
inline bool same(const __m512d& a, const __m512d& b) { return same_floats<double>(a, b); }

template <class Result>
void compare(const char* name, const Result& model, const Result& own) {
    ++compared;
    if (!same(model, own) && ++wrong <= 20) std::printf("%s differs\n", name);
}

inline int result() {
    std::printf("%d comparisons, %d wrong\n", compared, wrong);
    return wrong || !compared;
}

}  // namespace check

#define COMPARE(name, ...) check::compare(#name, qbench::name(__VA_ARGS__), ::name(__VA_ARGS__))
