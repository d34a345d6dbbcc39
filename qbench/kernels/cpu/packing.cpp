// Codes of 1 to 4 bits without gaps: what qbench/kernels/cpu/packing.py calls. Eight codes fill `bits` bytes; they are
// brought together and spread out within one 64-bit word.
#include "elementwise.h"

using namespace qbench;

namespace {

// Bytes of a word with one code each -> the codes side by side in its lowest 8 * BITS bits.
template <int BITS>
inline u64 gathered(u64 word) {
    constexpr u64 CODES = 0x0101010101010101ull * ((1u << BITS) - 1), PAIRS = 0x0001000100010001ull * ((1u << 2 * BITS) - 1),
                  FOURS = 0x0000000100000001ull * ((1u << 4 * BITS) - 1);
    word &= CODES;
    word = (word | word >> (8 - BITS)) & PAIRS;
    word = (word | word >> (16 - 2 * BITS)) & FOURS;
    return (word | word >> (32 - 4 * BITS)) & (~0ull >> (64 - 8 * BITS));
}

template <int BITS>
inline u64 spread(u64 word) {
    constexpr u64 CODES = 0x0101010101010101ull * ((1u << BITS) - 1), PAIRS = 0x0001000100010001ull * ((1u << 2 * BITS) - 1),
                  FOURS = 0x0000000100000001ull * ((1u << 4 * BITS) - 1);
    word &= ~0ull >> (64 - 8 * BITS);
    word = (word | word << (32 - 4 * BITS)) & FOURS;
    word = (word | word << (16 - 2 * BITS)) & PAIRS;
    return (word | word << (8 - BITS)) & CODES;
}

// Words in memory are little-endian on every processor this is built for.
template <int BITS>
void pack(const u8* codes, u8* packed, Range range) {
    const i64 last = range.end * BITS / 8 - 8;  // where a whole word may be stored
    i64 i = range.begin, to = i / 8 * BITS;
    for (; to <= last; i += 8, to += BITS) {
        u64 word;
        std::memcpy(&word, codes + i, 8);
        word = gathered<BITS>(word);
        std::memcpy(packed + to, &word, 8);  // the bytes too many are overwritten by the next word
    }
    for (; i < range.end; i += 8, to += BITS) {
        u64 word = 0;
        const i64 left = range.end - i < 8 ? range.end - i : 8;
        std::memcpy(&word, codes + i, static_cast<std::size_t>(left));
        word = gathered<BITS>(word);
        std::memcpy(packed + to, &word, static_cast<std::size_t>((left * BITS + 7) / 8));
    }
}

template <int BITS>
void unpack(const u8* packed, u8* codes, Range range) {
    const i64 last = range.end * BITS / 8 - 8;  // where a whole word may be read
    i64 i = range.begin, from = i / 8 * BITS;
    for (; from <= last; i += 8, from += BITS) {
        u64 word;
        std::memcpy(&word, packed + from, 8);
        word = spread<BITS>(word);
        std::memcpy(codes + i, &word, 8);
    }
    for (; i < range.end; i += 8, from += BITS) {
        u64 word = 0;
        const i64 left = range.end - i < 8 ? range.end - i : 8;
        std::memcpy(&word, packed + from, static_cast<std::size_t>((left * BITS + 7) / 8));
        word = spread<BITS>(word);
        std::memcpy(codes + i, &word, static_cast<std::size_t>(left));
    }
}

}  // namespace

QBENCH_EXPORT void qbench_pack_bits(const u8* codes, i64 n, int bits, u8* packed, int threads, int) {
    in_parallel(threads, n, GRAIN, [&](int, Range range) {
        switch (bits) {
            case 1: return pack<1>(codes, packed, range);
            case 2: return pack<2>(codes, packed, range);
            case 3: return pack<3>(codes, packed, range);
            default: return pack<4>(codes, packed, range);
        }
    });
}

QBENCH_EXPORT void qbench_unpack_bits(const u8* packed, i64 n, int bits, u8* codes, int threads, int) {
    in_parallel(threads, n, GRAIN, [&](int, Range range) {
        switch (bits) {
            case 1: return unpack<1>(packed, codes, range);
            case 2: return unpack<2>(packed, codes, range);
            case 3: return unpack<3>(packed, codes, range);
            default: return unpack<4>(packed, codes, range);
        }
    });
}
