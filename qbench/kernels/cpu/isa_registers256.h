// Registers of 256 bits for products of bytes (A unsigned, B signed) or of int16. Included inside the namespace of an x86
// instruction set, after isa_interleave.h and isa_pixel_sums.h.

template <class ElementA, class ElementB>
struct Registers256 {
    using A = ElementA;
    using B = ElementB;
    using Sum = __m256i;
    using Left = __m256i;
    using Right = __m256i;
    static constexpr bool raw = sizeof(A) == 1, low_digits_unsigned = false;
    static constexpr std::int64_t unit = 4 / sizeof(A), lanes = 8, vectors = 2, columns = lanes * vectors;

    static QBENCH_INLINE Sum zero() { return _mm256_setzero_si256(); }
    static QBENCH_INLINE Sum load(const std::int32_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
    static QBENCH_INLINE void store(std::int32_t* to, Sum sum) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), sum); }
    static QBENCH_INLINE Left broadcast(const A* from) {
        std::int32_t bits;
        __builtin_memcpy(&bits, from, sizeof bits);
        return _mm256_set1_epi32(bits);
    }
    // Of bytes alone.
    template <int SHIFT, class T>
    static QBENCH_INLINE void zip_16(const T* from, std::int64_t term, B offset, B* to) {
        zip_4x16<SHIFT>(from, term, offset, to);
    }
    template <class To>
    static void add_pixel_sums(const A* from, std::int64_t pixel, std::int64_t count, std::int64_t length, int shift,
                               To* to) {
        add_sums_of_pixels(from, pixel, count, length, shift, to);
    }
    static QBENCH_INLINE Right panel(const B* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
};

// Pairs of int16, whatever adds them up.
struct Pairs256 : Registers256<std::int16_t, std::int16_t> {
    static constexpr bool planar = false;
    static constexpr std::int64_t depth = 1, rows = 4;

    static QBENCH_INLINE void interleave(const A* from, std::int64_t pixel, A* to) { interleave_2x4(from, pixel, to); }
};
