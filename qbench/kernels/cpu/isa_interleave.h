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

// Four pixels of eight bytes: the first half of the channels, and the second.
struct Halves {
    __m128i low, high;
};
inline Halves interleave_4x8(const std::uint8_t* from, std::int64_t pixel) {
    const __m128i first = _mm_unpacklo_epi8(eight_bytes(from), eight_bytes(from + pixel));
    const __m128i second = _mm_unpacklo_epi8(eight_bytes(from + 2 * pixel), eight_bytes(from + 3 * pixel));
    return {_mm_unpacklo_epi16(first, second), _mm_unpackhi_epi16(first, second)};
}
