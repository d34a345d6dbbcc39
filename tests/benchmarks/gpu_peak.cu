// The peak of mma.sync m16n8k32 on 8-bit integers: independent products from registers, and nothing else.

const int PRODUCTS = 8;

extern "C" __global__ void mma_peak(long long steps, int* out) {
    int sums[PRODUCTS][4] = {};
    const unsigned a = threadIdx.x * 0x01010101u, b = (threadIdx.x ^ 5u) * 0x01010101u;
    for (long long step = 0; step < steps; ++step) {
#pragma unroll
        for (int i = 0; i < PRODUCTS; ++i)
            asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %4, %4, %4}, {%5, %5}, "
                         "{%0, %1, %2, %3};"
                         : "+r"(sums[i][0]), "+r"(sums[i][1]), "+r"(sums[i][2]), "+r"(sums[i][3])
                         : "r"(a), "r"(b));
    }
    int total = 0;
    for (int i = 0; i < PRODUCTS; ++i) total += sums[i][0] ^ sums[i][1] ^ sums[i][2] ^ sums[i][3];
    out[blockIdx.x * blockDim.x + threadIdx.x] = total;
}
