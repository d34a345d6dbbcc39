// Range batch norm on codes: the few numbers per channel between the passes over the tensor. One thread per channel,
// in float64, each operation rounded by itself.
#include "doubles.cuh"
#include "elements.cuh"
#include "extremes.cuh"

// sums [channels], lows and highs [chunks, channels]; extremes [2] start at [+inf, -inf].
extern "C" __global__ void range_line(const i64* sums, const u8* lows, const u8* highs, i64 channels, i64 chunks,
                                      i64 rows, const float* scale, const float* zero, const float* weight,
                                      const float* bias, double constant, double eps, i64 relu, float* slope,
                                      float* offset, double* mean, double* inverse, float* batch_mean, float* spread,
                                      float* extremes) {
    Extremes mine;
    for_each(channels, [&](i64 c) {
        i64 width = 0;
        u8 low = 255, high = 0;
        for (i64 k = c; k < chunks * channels; k += channels) {
            width += highs[k] - lows[k];
            low = smaller(low, lows[k]);
            high = larger(high, highs[k]);
        }
        const double step = *scale, center = divide((double)sums[c], (double)rows);
        const double distance = add(multiply(multiply(constant, step), divide((double)width, (double)chunks)), eps);
        const double reciprocal = divide(1.0, distance), line = multiply(multiply((double)weight[c], step), reciprocal);
        const float narrow = (float)multiply(line, low < high ? 1.0 : 0.0);
        slope[c] = narrow;
        offset[c] = (float)subtract((double)bias[c], multiply((double)narrow, center));
        mean[c] = center;
        inverse[c] = reciprocal;
        batch_mean[c] = (float)multiply(step, subtract(center, (double)*zero));
        spread[c] = (float)distance;
        for (const u8 end : {low, high}) {
            const float value = add(multiply(narrow, (float)end), offset[c]);
            mine.include(relu && value < 0.0f ? 0.0f : value);
        }
    });
    mine.publish(extremes);
}

struct GradientLine {
    double slope, mean, pull, grad_weight, grad_bias;
};

DEVICE GradientLine gradient_line(i64 errors, i64 products, i64 rows, i64 chunks, float scale, float zero, float step,
                                  double mean, double inverse, float weight, double constant) {
    GradientLine line;
    const double size = scale, total = (double)errors, through = multiply((double)weight, inverse);
    const double deviation = subtract((double)products, multiply(mean, total));
    line.grad_weight = multiply(multiply(multiply(size, (double)step), deviation), inverse);
    line.grad_bias = multiply(size, subtract(total, multiply((double)rows, (double)zero)));
    line.slope = multiply(through, size);
    line.mean = divide(total, (double)rows);
    line.pull = multiply(multiply(divide(constant, (double)chunks), through), line.grad_weight);
    return line;
}

// sums [2, channels] of the gradient's codes e and of e * q; codes: e [rows, channels]; low_at and high_at [chunks,
// channels]: rows. at and values [2, chunks, channels]: the elements at the highest codes, then at the lowest.
extern "C" __global__ void range_gradient_line(const i64* sums, i64 channels, i64 chunks, i64 rows, const float* scale,
                                               const float* zero, const float* step, const double* mean,
                                               const double* inverse, const float* weight, double constant,
                                               const u8* codes, const i64* low_at, const i64* high_at, float* slope,
                                               float* offset, double* error_mean, float* pull, i64* at, float* values,
                                               float* grad_weight, float* grad_bias) {
    // A thread for every chunk of a channel: each reads what another read has the place of, and that takes long.
    for_each(chunks * channels, [&](i64 k) {
        const i64 c = k % channels;
        const GradientLine line = gradient_line(sums[c], sums[channels + c], rows, chunks, *scale, *zero, *step,
                                                mean[c], inverse[c], weight[c], constant);
        const float narrow = (float)line.slope, own_pull = (float)line.pull;
        const float shift = (float)multiply(-(double)narrow, line.mean);
        if (k == c) {
            slope[c] = narrow;
            offset[c] = shift;
            error_mean[c] = line.mean;
            pull[c] = own_pull;
            grad_weight[c] = (float)line.grad_weight;
            grad_bias[c] = (float)line.grad_bias;
        }
        const i64 high = high_at[k] * channels + c, low = low_at[k] * channels + c;
        const float at_high = subtract(add(multiply(narrow, (float)codes[high]), shift), own_pull);
        // Where both are one element (a constant chunk), both pulls act on it.
        const float before = high == low ? at_high : add(multiply(narrow, (float)codes[low]), shift);
        const float at_low = add(before, own_pull);
        at[k] = high;
        at[chunks * channels + k] = low;
        values[k] = high == low ? at_low : at_high;
        values[chunks * channels + k] = at_low;
    });
}
