// The instructions that C++ has no name for: 8-bit matrix products, matrix loads and asynchronous copies (sm_80 and up).
//
// A build that defines QBENCH_EMULATED supplies functions of the same names with the same fragment layouts (PTX ISA,
// "Warp Level Matrix Multiply-Accumulate Instructions"), so that everything around them can run without a GPU.
#include "types.cuh"

const u32 ONES = 0x01010101u;

#ifndef QBENCH_EMULATED

DEVICE u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
DEVICE void load_matrices(u32 (&out)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}

DEVICE void load_matrices_transposed(u32 (&out)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// 16 bytes from global to shared memory, behind the thread's back until wait_for_copies.
DEVICE void copy_async(void* target, const void* source) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(target)), "l"(source) : "memory");
}
DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `pending` of this thread's latest groups of copies are under way.
template <int pending> DEVICE void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

#define QBENCH_MMA(A, B, A_NAME, B_NAME)                                                                               \
    DEVICE void multiply_accumulate(i32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, A, B) {                            \
        asm volatile("mma.sync.aligned.m16n8k32.row.col.s32." A_NAME "." B_NAME                                        \
                     ".s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                            \
                     : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])                                                  \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                  \
    }
QBENCH_MMA(u8, u8, "u8", "u8")
QBENCH_MMA(u8, i8, "u8", "s8")
QBENCH_MMA(i8, u8, "s8", "u8")
QBENCH_MMA(i8, i8, "s8", "s8")
#undef QBENCH_MMA

DEVICE u8* dynamic_shared() {
    extern __shared__ __align__(128) u8 memory[];
    return memory;
}

#endif

// c += a * b: a 16x32 row-major, b 32x8 column-major; the types are those of the bytes in the fragments.
template <typename A, typename B> DEVICE void multiply_accumulate(i32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    multiply_accumulate(c, a, b0, b1, A(0), B(0));
}

// sum plus the four bytes of a word.
DEVICE i32 add_bytes(u32 word, i32 sum, u8) { return (i32)__dp4a(word, ONES, (u32)sum); }
DEVICE i32 add_bytes(u32 word, i32 sum, i8) { return __dp4a((i32)word, (i32)ONES, sum); }

// Sixteen bytes, the unit of copies.
struct alignas(16) Vector {
    u32 word[4];
};
const int VECTOR = 16;

DEVICE u32 filled(u32 byte) { return (byte & 0xff) * ONES; }

// 16 bytes on their way to shared memory, or the same word four times.
DEVICE void copy_or_fill(u8* target, const void* source, bool is_live, u32 word) {
    if (is_live)
        copy_async(target, source);
    else
        *(Vector*)target = Vector{{word, word, word, word}};
}

// Place of a 16-byte chunk in a tile with rows of 64 or 128 bytes. Chunks are exchanged within a row so that eight
// consecutive rows of one chunk, what a matrix load reads at a time, lie in different banks. Every SWIZZLED_ROWS rows the
// pattern repeats: rows that far apart lie a constant apart, which loops make use of.
const int SWIZZLED_ROWS = 8;
template <int PITCH> DEVICE int swizzled(int row, int chunk) {
    static_assert(PITCH == 64 || PITCH == 128, "a row is half a line of banks or a whole one");
    return row * PITCH + VECTOR * (PITCH == 64 ? chunk ^ (row >> 1 & 3) : chunk ^ (row & 7));
}
