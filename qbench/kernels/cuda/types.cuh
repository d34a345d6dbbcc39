// Fixed-width names, bit casts and the float arithmetic of the kernels.

typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

const int WARP = 32;
const u32 ALL_LANES = 0xffffffffu;

#define DEVICE __device__ __forceinline__

DEVICE float from_bits(u32 bits) { return __uint_as_float(bits); }
DEVICE u32 to_bits(float value) { return __float_as_uint(value); }

DEVICE float infinity() { return from_bits(0x7f800000u); }
DEVICE float not_a_number() { return from_bits(0x7fc00000u); }
DEVICE bool is_nan(float value) { return value != value; }
DEVICE bool is_finite(float value) { return fabsf(value) < infinity(); }

// Every float operation of the kernels is rounded by itself, so that all backends agree bit for bit. The intrinsics
// are never contracted to a fused multiply-add, whatever the compiler's options.
DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
DEVICE float subtract(float a, float b) { return __fsub_rn(a, b); }
DEVICE float multiply(float a, float b) { return __fmul_rn(a, b); }
DEVICE float divide(float a, float b) { return __fdiv_rn(a, b); }

#ifndef QBENCH_EMULATED

// a * b + c, rounded once.
DEVICE float fused(float a, float b, float c) {
    float result;
    asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(result) : "f"(a), "f"(b), "f"(c));
    return result;
}

#endif

// NaN becomes 0; the bounds are inclusive.
DEVICE float clipped(float value, float low, float high) {
    if (is_nan(value)) return 0.0f;
    return fminf(fmaxf(value, low), high);
}

template <typename T> DEVICE T smaller(T a, T b) { return b < a ? b : a; }
template <typename T> DEVICE T larger(T a, T b) { return a < b ? b : a; }

// The integer that a zero point holds; a null pointer stands for 0.
DEVICE i64 zero_point(const float* zero) { return zero ? (i64)*zero : 0; }
