// Counter-based random words and rounding to integers (qbench/kernels/random.py is the reference).
#include "types.cuh"

enum Rounding { NEAREST = 0, HALF_UP = 1, STOCHASTIC_PHILOX = 2, STOCHASTIC_HASH = 3 };

struct Block {
    u32 word[4];
};

// Philox4x32-7 on the counter (block low, block high, step, 0) under the key (seed, tensor).
DEVICE Block philox(u64 block, u32 seed, u32 tensor, u32 step) {
    u32 c0 = (u32)block, c1 = (u32)(block >> 32), c2 = step, c3 = 0, k0 = seed, k1 = tensor;
#pragma unroll
    for (int round = 0; round < 7; ++round) {
        const u64 product0 = (u64)0xD2511F53u * c0, product1 = (u64)0xCD9E8D57u * c2;
        c0 = (u32)(product1 >> 32) ^ c1 ^ k0;
        c1 = (u32)product1;
        c2 = (u32)(product0 >> 32) ^ c3 ^ k1;
        c3 = (u32)product0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Block{{c0, c1, c2, c3}};
}

// How elements are rounded, and their random words. The first four arguments come from the host as integers. elapsed:
// null, or where the device keeps the steps since this launch was captured in a graph; they count to its key's step.
struct Rounder {
    int rounding;
    u32 seed, tensor, step, offset;
    const i32* elapsed;

    DEVICE Rounder(i64 rounding_, i64 seed_, i64 tensor_, i64 step_, const i32* elapsed_)
        : rounding((int)rounding_), seed((u32)seed_), tensor((u32)tensor_), step((u32)step_), offset(0),
          elapsed(elapsed_) {
        if (rounding == STOCHASTIC_HASH) offset = block_of(0).word[0];
    }

    // Read anew each time, because no register is left to keep it in.
    DEVICE Block block_of(u64 block) const {
        return philox(block, seed, tensor, elapsed ? step + (u32)*elapsed : step);
    }

    DEVICE u32 hashed(u64 index) const {
        u32 h = (u32)index * 0x9E3779B1u + (u32)(index >> 32) * 0x85EBCA6Bu + offset;
        h = (h ^ (h >> 16)) * 0x21F0AAADu;
        h = (h ^ (h >> 15)) * 0x735A2D97u;
        return h ^ (h >> 15);
    }

    // The words of the elements first .. first + 3, where first is a multiple of 4: one Philox block.
    DEVICE Block words_of_quad(u64 first) const {
        if (rounding == STOCHASTIC_PHILOX) return block_of(first >> 2);
        if (rounding == STOCHASTIC_HASH)
            return Block{{hashed(first), hashed(first + 1), hashed(first + 2), hashed(first + 3)}};
        return Block{{0, 0, 0, 0}};
    }

    // The word of one element.
    DEVICE u32 word_of(u64 index) const {
        if (rounding == STOCHASTIC_PHILOX) {
            const Block block = block_of(index >> 2);
            const int place = (int)(index & 3);  // selected without an array in local memory
            const u32 low = place & 1 ? block.word[1] : block.word[0];
            const u32 high = place & 1 ? block.word[3] : block.word[2];
            return place & 2 ? high : low;
        }
        return rounding == STOCHASTIC_HASH ? hashed(index) : 0;
    }

    // Whether a number rounds to the integer above it, unless to nearest. fraction: by which it exceeds the one below.
    DEVICE bool is_up(float fraction, u32 word) const {
        return rounding == HALF_UP ? fraction >= 0.5f : (float)(word >> 8) < multiply(fraction, 16777216.0f);
    }

    // NaN and infinities pass: their fraction is NaN, which compares false.
    DEVICE float round(float value, u32 word) const {
        if (rounding == NEAREST) return rintf(value);
        const float floor = floorf(value);
        return is_up(subtract(value, floor), word) ? add(floor, 1.0f) : floor;
    }
};
