// Pixels side by side for the weight gradient: units of `rows` channels from pixels `pixel` elements apart, as
// [row][pixel]. Included inside the namespace of an x86 instruction set.

inline __m128i eight_bytes(const void* from) { return _mm_loadl_epi64(static_cast<const __m128i*>(from)); }

// Two pixels of eight 16-bit channels.
inline void interleave_2x8(const std::int16_t* from, std::int64_t pixel, std::int16_t* to) {
    const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + pixel));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_unpacklo_epi16(first, second));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 8), _mm_unpackhi_epi16(first, second));
}

// Two pixels of four 16-bit channels.
inline void interleave_2x4(const std::int16_t* from, std::int64_t pixel, std::int16_t* to) {
    const __m128i both = _mm_unpacklo_epi16(eight_bytes(from), eight_bytes(from + pixel));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), both);
}

// 16 bytes each of `pixels` pixels, at most 16, as [byte][pixel]: `bytes` rows of 16, `plane` bytes apart. What lies past
// the last pixel is not read, and written as that pixel.
inline void turn_16x16(const std::uint8_t* from, std::int64_t pixel, std::int64_t pixels, std::int64_t bytes,
                       std::uint8_t* to, std::int64_t plane) {
    __m128i rows[16], next[16];
    for (int i = 0; i < 16; ++i) {
        const std::int64_t known = i < pixels ? i : pixels - 1;
        rows[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + known * pixel));
    }
#pragma GCC unroll 4
    for (int round = 0; round < 4; ++round) {  // each puts byte i of the rows' order to 2 i modulo 255
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
            next[2 * i] = _mm_unpacklo_epi8(rows[i], rows[i + 8]);
            next[2 * i + 1] = _mm_unpackhi_epi8(rows[i], rows[i + 8]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) rows[i] = next[i];
    }
    for (std::int64_t i = 0; i < bytes; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * plane), rows[i]);
}

// 16 codes >> SHIFT, modulo 2^8.
template <int SHIFT, class T>
QBENCH_INLINE __m128i sixteen_bytes(const T* from) {
    static_assert(SHIFT == 0 || (SHIFT == 8 && sizeof(T) == 2));
    const auto* const vectors = reinterpret_cast<const __m128i*>(from);
    const __m128i first = _mm_loadu_si128(vectors);
    if constexpr (sizeof(T) == 1) {
        return first;
    } else {
        const __m128i second = _mm_loadu_si128(vectors + 1), low = _mm_set1_epi16(255);
        if constexpr (SHIFT == 8) return _mm_packus_epi16(_mm_srli_epi16(first, 8), _mm_srli_epi16(second, 8));
        return _mm_packus_epi16(_mm_and_si128(first, low), _mm_and_si128(second, low));
    }
}

// Four terms of 16 columns as [column][term], plus an offset.
template <int SHIFT, class T>
QBENCH_INLINE void zip_4x16(const T* from, std::int64_t term, std::int8_t offset, std::int8_t* to) {
    const __m128i add = _mm_set1_epi8(offset);
    const __m128i a = _mm_add_epi8(sixteen_bytes<SHIFT>(from), add);
    const __m128i b = _mm_add_epi8(sixteen_bytes<SHIFT>(from + term), add);
    const __m128i c = _mm_add_epi8(sixteen_bytes<SHIFT>(from + 2 * term), add);
    const __m128i d = _mm_add_epi8(sixteen_bytes<SHIFT>(from + 3 * term), add);
    const __m128i ab = _mm_unpacklo_epi8(a, b), cd = _mm_unpacklo_epi8(c, d);
    const __m128i ab_high = _mm_unpackhi_epi8(a, b), cd_high = _mm_unpackhi_epi8(c, d);
    auto* const vectors = reinterpret_cast<__m128i*>(to);
    _mm_storeu_si128(vectors, _mm_unpacklo_epi16(ab, cd));
    _mm_storeu_si128(vectors + 1, _mm_unpackhi_epi16(ab, cd));
    _mm_storeu_si128(vectors + 2, _mm_unpacklo_epi16(ab_high, cd_high));
    _mm_storeu_si128(vectors + 3, _mm_unpackhi_epi16(ab_high, cd_high));
}

// Four pixels of eight bytes: the first half of the channels, and the second.
struct Halves {
    __m128i low, high;
};
inline Halves interleave_4x8(const std::uint8_t* from, std::int64_t pixel) {
    const __m128i first = _mm_unpacklo_epi8(eight_bytes(from), eight_bytes(from + pixel));
    const __m128i second = _mm_unpacklo_epi8(eight_bytes(from + 2 * pixel), eight_bytes(from + 3 * pixel));
    return {_mm_unpacklo_epi16(first, second), _mm_unpackhi_epi16(first, second)};
}
