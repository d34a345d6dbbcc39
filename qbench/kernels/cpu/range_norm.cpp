// Range batch norm on codes: the few numbers per channel between the passes over the tensor. Doubles throughout, one
// rounding per operation (the build forbids contraction), so that the results are those of the reference bit for bit.
#include <cmath>
#include <cstdint>
#include <limits>

#define QBENCH_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// As torch.amin and amax: a NaN goes through.
float lower(float a, float b) { return std::isnan(a) || a < b ? a : b; }
float upper(float a, float b) { return std::isnan(a) || a > b ? a : b; }

}  // namespace

// sums [channels], lows and highs [chunks, channels]; results [channels] each, extremes [2].
QBENCH_EXPORT void qbench_range_line(
    const std::int64_t* sums, const std::uint8_t* lows, const std::uint8_t* highs, std::int64_t channels,
    std::int64_t chunks, std::int64_t rows, const float* scale, const float* zero, const float* weight, const float* bias,
    double constant, double eps, int relu, float* slope, float* offset, double* mean, double* inverse,
    float* batch_mean, float* spread, float* extremes, int, int) {
    const double step = *scale;
    float low_end = std::numeric_limits<float>::infinity(), high_end = -low_end;
    for (std::int64_t c = 0; c < channels; ++c) {
        std::int64_t widths = 0;
        std::uint8_t low = 255, high = 0;
        for (std::int64_t k = 0; k < chunks; ++k) {
            const std::uint8_t l = lows[k * channels + c], h = highs[k * channels + c];
            widths += h - l;
            low = l < low ? l : low;
            high = h > high ? h : high;
        }
        mean[c] = static_cast<double>(sums[c]) / static_cast<double>(rows);
        const double wide = constant * step * (static_cast<double>(widths) / static_cast<double>(chunks)) + eps;
        inverse[c] = 1 / wide;
        slope[c] = static_cast<float>(static_cast<double>(weight[c]) * step * inverse[c] * (low < high));
        offset[c] = static_cast<float>(static_cast<double>(bias[c]) - static_cast<double>(slope[c]) * mean[c]);
        batch_mean[c] = static_cast<float>(step * (mean[c] - static_cast<double>(*zero)));
        spread[c] = static_cast<float>(wide);
        const float at_low = slope[c] * static_cast<float>(low) + offset[c];
        const float at_high = slope[c] * static_cast<float>(high) + offset[c];
        low_end = lower(low_end, lower(at_low, at_high));
        high_end = upper(high_end, upper(at_low, at_high));
        if (std::isnan(at_low) || std::isnan(at_high)) low_end = high_end = std::numeric_limits<float>::quiet_NaN();
    }
    extremes[0] = relu && low_end < 0 ? 0 : low_end;
    extremes[1] = relu && high_end < 0 ? 0 : high_end;
}

// sums [2, channels] = (sum e, sum e * q); codes e [rows, channels]; low_at, high_at [chunks, channels]: rows. `at` and
// `values` [2, chunks, channels]: first the chunks' maxima, then their minima.
QBENCH_EXPORT void qbench_range_gradient_line(
    const std::int64_t* sums, std::int64_t channels, std::int64_t chunks, std::int64_t rows, const float* scale,
    const float* zero, const float* step, const double* mean, const double* inverse, const float* weight, double constant,
    const std::uint8_t* codes, const std::int64_t* low_at, const std::int64_t* high_at, float* slope, float* offset,
    double* error_mean, float* pull, std::int64_t* at, float* values, float* grad_weight, float* grad_bias, int, int) {
    const double size = *scale;
    const std::int64_t count = chunks * channels;
    for (std::int64_t c = 0; c < channels; ++c) {
        const double total = static_cast<double>(sums[c]), product = static_cast<double>(sums[channels + c]);
        const double pull_weight = size * static_cast<double>(*step) * (product - mean[c] * total) * inverse[c];
        const double through = static_cast<double>(weight[c]) * inverse[c];
        grad_weight[c] = static_cast<float>(pull_weight);
        grad_bias[c] = static_cast<float>(size * (total - static_cast<double>(rows) * static_cast<double>(*zero)));
        slope[c] = static_cast<float>(through * size);
        error_mean[c] = total / static_cast<double>(rows);
        offset[c] = static_cast<float>(-static_cast<double>(slope[c]) * error_mean[c]);
        pull[c] = static_cast<float>(constant / static_cast<double>(chunks) * through * pull_weight);
        for (std::int64_t k = 0, i = c; k < chunks; ++k, i += channels) {
            at[i] = high_at[i] * channels + c;
            at[count + i] = low_at[i] * channels + c;
            const bool same = high_at[i] == low_at[i];
            const float high = slope[c] * static_cast<float>(codes[at[i]]) + offset[c] - pull[c];
            // Where a chunk's maximum and minimum are one element, both pulls act on it.
            const float start = same ? high : slope[c] * static_cast<float>(codes[at[count + i]]) + offset[c];
            values[count + i] = start + pull[c];
            values[i] = same ? values[count + i] : high;
        }
    }
}
