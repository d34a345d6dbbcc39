// Codes of 1 to 4 bits, packed without gaps: eight codes fill `bits` bytes.
#include "elements.cuh"

extern "C" __global__ void pack_bits(const u8* codes, i64 count, i64 bits, u8* packed) {
    const u32 code_mask = (1u << bits) - 1;
    const i64 bytes = (count * bits + 7) / 8;
    for_each((count + 7) / 8, [&](i64 group) {
        u32 stream = 0;
        for (int j = 0; j < 8; ++j) {
            const i64 i = 8 * group + j;
            if (i < count) stream |= (codes[i] & code_mask) << (j * bits);
        }
        for (int j = 0; j < bits; ++j) {
            const i64 place = group * bits + j;
            if (place < bytes) packed[place] = (u8)(stream >> (8 * j));
        }
    });
}

extern "C" __global__ void unpack_bits(const u8* packed, i64 count, i64 bits, u8* codes) {
    const u32 code_mask = (1u << bits) - 1;
    const i64 bytes = (count * bits + 7) / 8;
    for_each((count + 7) / 8, [&](i64 group) {
        u32 stream = 0;
        for (int j = 0; j < bits; ++j) {
            const i64 place = group * bits + j;
            if (place < bytes) stream |= (u32)packed[place] << (8 * j);
        }
        for (int j = 0; j < 8; ++j) {
            const i64 i = 8 * group + j;
            if (i < count) codes[i] = (u8)(stream >> (j * bits) & code_mask);
        }
    });
}
