// Blocks of kernels that follow each other: what a training step calls most often costs one call instead of many.
#include <algorithm>

#include "calls.h"
#include "encode.h"
#include "gradients.h"

using namespace qbench;

// extremes [2]; codes of n elements with the range between them.
QBENCH_EXPORT void qbench_encode_ranged(
    const float* x, i64 n, int bits, int integer_zero_point, u32 seed, u32 tensor, u32 step, int generator, void* codes,
    float* scale, float* zero, float* extremes, int threads, int isa) {
    qbench_extremes(x, n, extremes, threads, isa);
    qbench_encode_affine(
        x, n, extremes, extremes + 1, bits, integer_zero_point, seed, tensor, step, generator, codes, scale, zero,
        threads, isa);
}

// The values of n elements' codes.
QBENCH_EXPORT void qbench_round_scaled(
    const float* x, i64 n, const float* magnitude, i64 numbers, int kind, double divisor, double low, double high,
    int rule, u32 seed, u32 tensor, u32 step, int type, float* values, int threads, int isa) {
    EncodeJob job;
    job.x = x;
    job.key = {seed, tensor, step};
    job.rule = rule;
    job.out = values;
    job.scale = scale_of(magnitude, numbers, kind, static_cast<float>(divisor));
    set_limits(job, low, high, type);
    job.type = FLOAT32;
    if (encode_all(job, n, threads, isa)) std::fill_n(values, n, NAN);
}

// y [rows, channels] as codes, and the norm of the codes as a line; results as those of the parts.
QBENCH_EXPORT void qbench_range_norm(
    const float* y, i64 rows, i64 channels, const float* low, const float* high, int bits, u32 seed, u32 tensor,
    u32 step, int generator, i64 chunks, const float* weight, const float* bias, double constant, double eps, int relu,
    u8* codes, float* scale, float* zero, float* slope, float* offset, double* mean, double* inverse,
    float* batch_mean, float* spread, float* extremes, i64* low_at, i64* high_at, int threads, int isa) {
    qbench_encode_affine(
        y, rows * channels, low, high, bits, 1, seed, tensor, step, generator, codes, scale, zero, threads, isa);
    std::vector<i64> sums(static_cast<std::size_t>(channels));
    std::vector<u8> ends(static_cast<std::size_t>(2 * chunks * channels));
    u8 *const lows = ends.data(), *const highs = lows + chunks * channels;
    qbench_chunk_statistics(
        codes, rows, channels, chunks, sums.data(), lows, highs, low_at, high_at, threads, isa);
    qbench_range_line(
        sums.data(), lows, highs, channels, chunks, rows, scale, zero, weight, bias, constant, eps, relu, slope, offset,
        mean, inverse, batch_mean, spread, extremes, threads, isa);
}

// g [rows, channels]: masked by the bits of `mask` into `masked`, or by the view's ReLU where there is no mask; then
// its codes over those of the view, and the gradient of the norm as a line of the codes. window, geometry: of a max
// pooling whose output's gradient g is, or NULL.
QBENCH_EXPORT void qbench_range_norm_gradient(
    const float* g, i64 rows, i64 channels, const u8* mask, const u8* window, const i64* geometry, u8* codes,
    const float* slope, const float* offset, int relu, int bits, u32 seed, u32 tensor, u32 random_step, int generator,
    const float* step, const double* mean, const double* inverse, const float* weight, double constant, i64 chunks,
    const i64* low_at, const i64* high_at, float* scale, float* zero, float* masked, float* to_slope, float* to_offset,
    double* to_mean, float* pull, i64* at, float* values, float* grad_weight, float* grad_bias, int threads, int isa) {
    const i64 n = rows * channels;
    float ends[2];
    if (mask) qbench_apply_mask(g, n, mask, masked, ends, threads, isa);
    const Gradient gradient = window ? Gradient(g, window, channels, geometry) : Gradient(mask ? masked : g);
    const bool view_masks = relu && !mask;
    if (!mask) gradient_extremes(gradient, codes, n, channels, slope, offset, view_masks, ends, threads, isa);
    EncodeJob encode;
    set_affine(encode, ends[0], ends[1], bits, true);
    encode.rule = drawing_rule(generator);
    encode.key = {seed, tensor, random_step};
    *scale = encode.scale;
    *zero = encode.zero;
    std::vector<i64> sums(static_cast<std::size_t>(2 * channels));
    encode_gradient(gradient, codes, n, channels, slope, offset, view_masks, encode, sums.data(), threads, isa);
    qbench_range_gradient_line(
        sums.data(), channels, chunks, rows, scale, zero, step, mean, inverse, weight, constant, codes, low_at, high_at,
        to_slope, to_offset, to_mean, pull, at, values, grad_weight, grad_bias, threads, isa);
}

namespace {

// A line of codes with `count` elements replaced, as affine codes of the range of its values, which is left in `ends`.
void encode_error(
    const u8* codes, i64 n, i64 channels, const float* slope, const float* offset, const i64* at, const float* values,
    i64 count, int bits, u32 seed, u32 tensor, u32 step, int generator, u8* narrow, float* scale, float* zero,
    float* ends, int threads, int isa) {
    qbench_view_extremes(codes, n, channels, slope, offset, 0, at, values, count, ends, threads, isa);
    qbench_encode_affine_view(
        codes, n, channels, slope, offset, 0, ends, ends + 1, bits, 1, seed, tensor, step, generator, at, values, count,
        narrow, scale, zero, threads, isa);
}

}  // namespace

QBENCH_EXPORT void qbench_encode_error(
    const u8* codes, i64 n, i64 channels, const float* slope, const float* offset, const i64* at, const float* values,
    i64 count, int bits, u32 seed, u32 tensor, u32 step, int generator, u8* narrow, float* scale, float* zero,
    int threads, int isa) {
    float ends[2];
    encode_error(
        codes, n, channels, slope, offset, at, values, count, bits, seed, tensor, step, generator, narrow, scale, zero,
        ends, threads, isa);
}

// The same values encoded twice: as those codes, and symmetric about zero up to `top`.
QBENCH_EXPORT void qbench_encode_error_pair(
    const u8* codes, i64 n, i64 channels, const float* slope, const float* offset, const i64* at, const float* values,
    i64 count, int bits, u32 seed, u32 tensor, u32 step, int generator, double top, int rule, u32 wide_seed,
    u32 wide_tensor, u32 wide_step, int type, u8* narrow, float* scale, float* zero, void* wide, float* wide_scale,
    int threads, int isa) {
    constexpr int LINEAR = 1;
    float ends[2];
    encode_error(
        codes, n, channels, slope, offset, at, values, count, bits, seed, tensor, step, generator, narrow, scale, zero,
        ends, threads, isa);
    qbench_encode_scaled_view(
        codes, n, channels, slope, offset, 0, ends, 2, LINEAR, top, -top, top, rule, wide_seed, wide_tensor,
        wide_step, type, at, values, count, wide, wide_scale, threads, isa);
}
