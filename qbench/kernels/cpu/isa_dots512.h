// Dot products of four bytes in vectors of 16 sums: A unsigned, B signed. Included inside the namespace of an instruction
// set that has AVX512-VNNI.

struct Dots512 {
    using A = std::uint8_t;
    using B = std::int8_t;
    using Sum = __m512i;
    using Left = __m512i;
    using Right = __m512i;
    static constexpr bool raw = true;
    static constexpr std::int64_t unit = 4, lanes = 16, vectors = 2, columns = lanes * vectors;

    static QBENCH_INLINE Sum zero() { return _mm512_setzero_si512(); }
    static QBENCH_INLINE Sum load(const std::int32_t* from) { return _mm512_loadu_si512(from); }
    static QBENCH_INLINE void store(std::int32_t* to, Sum sum) { _mm512_storeu_si512(to, sum); }
    static QBENCH_INLINE Left broadcast(const A* four) {
        std::int32_t bits;
        __builtin_memcpy(&bits, four, sizeof bits);
        return _mm512_set1_epi32(bits);
    }
    static QBENCH_INLINE Right panel(const B* from) { return _mm512_loadu_si512(from); }
    static QBENCH_INLINE Sum add(Sum sum, Left left, Right right) { return _mm512_dpbusd_epi32(sum, left, right); }
};
