// Sums over the channels of pixels of bytes. Included inside the namespace of an x86 instruction set.

// The sum of `length` bytes, as two parts. Up to 15 bytes more are read.
inline __m128i sum_of_bytes(const std::uint8_t* from, std::int64_t length) {
    alignas(32) static constexpr std::uint8_t KEEP[32] = {255, 255, 255, 255, 255, 255, 255, 255,
                                                          255, 255, 255, 255, 255, 255, 255, 255};
    const __m128i none = _mm_setzero_si128();
    __m128i sum = none;
    std::int64_t i = 0;
    for (; i + 16 <= length; i += 16) {
        sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)), none));
    }
    if (i == length) return sum;
    const __m128i keep = _mm_loadu_si128(reinterpret_cast<const __m128i*>(KEEP + 16 - (length - i)));
    const __m128i rest = _mm_and_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)), keep);
    return _mm_add_epi64(sum, _mm_sad_epu8(rest, none));
}

// Of two pixels.
inline __m128i two_sums(const std::uint8_t* from, std::int64_t pixel, std::int64_t length) {
    const __m128i first = sum_of_bytes(from, length), second = sum_of_bytes(from + pixel, length);
    return _mm_add_epi64(_mm_unpacklo_epi64(first, second), _mm_unpackhi_epi64(first, second));
}

inline void add_four(__m128i first, __m128i second, int shift, std::uint32_t* to) {
    const __m128 all = _mm_shuffle_ps(_mm_castsi128_ps(first), _mm_castsi128_ps(second), _MM_SHUFFLE(2, 0, 2, 0));
    auto* const place = reinterpret_cast<__m128i*>(to);
    const __m128i shifted = _mm_slli_epi32(_mm_castps_si128(all), shift);
    _mm_storeu_si128(place, _mm_add_epi32(_mm_loadu_si128(place), shifted));
}

inline void add_four(__m128i first, __m128i second, int shift, std::int64_t* to) {
    auto* const place = reinterpret_cast<__m128i*>(to);
    _mm_storeu_si128(place, _mm_add_epi64(_mm_loadu_si128(place), _mm_slli_epi64(first, shift)));
    _mm_storeu_si128(place + 1, _mm_add_epi64(_mm_loadu_si128(place + 1), _mm_slli_epi64(second, shift)));
}

// Adds to each of `count` places the sum of `length` bytes of a pixel, times 2^shift; pixels are `pixel` bytes apart.
template <class Sum>
void add_sums_of_pixels(const std::uint8_t* from, std::int64_t pixel, std::int64_t count, std::int64_t length, int shift,
                        Sum* to) {
    std::int64_t i = 0;
    for (; i + 4 <= count; i += 4, from += 4 * pixel) {
        add_four(two_sums(from, pixel, length), two_sums(from + 2 * pixel, pixel, length), shift, to + i);
    }
    for (; i < count; ++i, from += pixel) {
        const __m128i sum = sum_of_bytes(from, length);
        to[i] += static_cast<Sum>(_mm_cvtsi128_si64(_mm_add_epi64(sum, _mm_unpackhi_epi64(sum, sum)))) << shift;
    }
}
