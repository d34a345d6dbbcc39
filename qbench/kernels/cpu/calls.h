// Functions that Python calls and that blocks are made of.
#pragma once

#include "elementwise.h"

QBENCH_EXPORT void qbench_extremes(const float* x, qbench::i64 n, float* out, int threads, int isa);
QBENCH_EXPORT void qbench_encode_affine(
    const float* x, qbench::i64 n, const float* low, const float* high, int bits, int integer_zero_point,
    qbench::u32 seed, qbench::u32 tensor, qbench::u32 step, int generator, void* codes, float* scale, float* zero,
    int threads, int isa);
QBENCH_EXPORT void qbench_chunk_statistics(
    const qbench::u8* codes, qbench::i64 rows, qbench::i64 channels, qbench::i64 chunks, qbench::i64* sums,
    qbench::u8* lows, qbench::u8* highs, qbench::i64* low_at, qbench::i64* high_at, int threads, int isa);
QBENCH_EXPORT void qbench_range_line(
    const qbench::i64* sums, const qbench::u8* lows, const qbench::u8* highs, qbench::i64 channels, qbench::i64 chunks,
    qbench::i64 rows, const float* scale, const float* zero, const float* weight, const float* bias, double constant,
    double eps, int relu, float* slope, float* offset, double* mean, double* inverse, float* batch_mean, float* spread,
    float* extremes, int threads, int isa);
QBENCH_EXPORT void qbench_range_gradient_line(
    const qbench::i64* sums, qbench::i64 channels, qbench::i64 chunks, qbench::i64 rows, const float* scale,
    const float* zero, const float* step, const double* mean, const double* inverse, const float* weight,
    double constant, const qbench::u8* codes, const qbench::i64* low_at, const qbench::i64* high_at, float* slope,
    float* offset, double* error_mean, float* pull, qbench::i64* at, float* values, float* grad_weight,
    float* grad_bias, int threads, int isa);
QBENCH_EXPORT void qbench_apply_mask(
    const float* g, qbench::i64 n, const qbench::u8* mask, float* out, float* extremes, int threads, int isa);
QBENCH_EXPORT void qbench_view_extremes(
    const qbench::u8* codes, qbench::i64 n, qbench::i64 channels, const float* slope, const float* offset, int relu,
    const qbench::i64* at, const float* values, qbench::i64 count, float* out, int threads, int isa);
QBENCH_EXPORT void qbench_encode_affine_view(
    const qbench::u8* codes, qbench::i64 n, qbench::i64 channels, const float* slope, const float* offset, int relu,
    const float* low, const float* high, int bits, int integer_zero_point, qbench::u32 seed, qbench::u32 tensor,
    qbench::u32 step, int generator, const qbench::i64* at, const float* values, qbench::i64 count, void* out,
    float* scale, float* zero, int threads, int isa);
QBENCH_EXPORT void qbench_encode_scaled_view(
    const qbench::u8* codes, qbench::i64 n, qbench::i64 channels, const float* slope, const float* offset, int relu,
    const float* magnitude, qbench::i64 numbers, int kind, double divisor, double low, double high, int rule,
    qbench::u32 seed, qbench::u32 tensor, qbench::u32 step, int type, const qbench::i64* at, const float* values,
    qbench::i64 count, void* out, float* scale, int threads, int isa);
