// The 8-bit dot product: each 32-bit lane adds four products of an unsigned byte of `a` and a signed byte of `b`, and
// wraps. With QBENCH_EMULATE plain C++ stands for the instruction, on CPUs that lack it. Included inside the
// instruction set's namespace.

#if defined(QBENCH_EMULATE)
inline void dot_bytes(std::int32_t* sums, const std::uint8_t* a, const std::int8_t* b, int lanes) {
    for (int i = 0; i < lanes; ++i) {
        std::uint32_t sum = static_cast<std::uint32_t>(sums[i]);
        for (int j = 0; j < 4; ++j) sum += static_cast<std::uint32_t>(a[4 * i + j] * b[4 * i + j]);
        sums[i] = static_cast<std::int32_t>(sum);
    }
}

template <class Vector>
inline Vector dot(Vector sum, Vector a, Vector b) {
    constexpr int bytes = sizeof(Vector);
    std::int32_t sums[bytes / 4];
    std::uint8_t left[bytes];
    std::int8_t right[bytes];
    __builtin_memcpy(sums, &sum, bytes);
    __builtin_memcpy(left, &a, bytes);
    __builtin_memcpy(right, &b, bytes);
    dot_bytes(sums, left, right, bytes / 4);
    __builtin_memcpy(&sum, sums, bytes);
    return sum;
}
#endif
