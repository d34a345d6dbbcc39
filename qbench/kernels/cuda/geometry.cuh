// Where the taps of a convolution meet its source.
#include "types.cuh"

// One axis. Forward, output o meets source o * stride - padding + r * dilation at tap r. The gradient of the input is a
// convolution too: its outputs that are congruent modulo the stride (a phase) meet the same taps, whose sources lie a
// fixed step apart. So both are: source = position * stride + origin + j * tap_step for the j-th tap of the phase.
struct Axis {
    int positions;                     // outputs of this phase
    int stride, origin, tap_step;      // from position and tap to source
    int taps, first_tap, tap_stride;   // the phase's taps, numbered in the filter
    int result_stride, result_origin;  // from position to the coordinate in the result

    DEVICE static Axis forward(i64 result_size, i64 taps, i64 stride, i64 padding, i64 dilation) {
        return Axis{(int)result_size, (int)stride, -(int)padding, (int)dilation, (int)taps, 0, 1, 1, 0};
    }

    DEVICE static Axis transposed(i64 result_size, i64 taps, i64 stride, i64 padding, i64 dilation, int phase) {
        const int step = (int)stride;
        const int positions = phase < result_size ? ((int)result_size - phase + step - 1) / step : 0;
        Axis axis{positions, 1, 0, 0, 0, 0, 1, step, phase};
        for (int r = 0; r < taps; ++r) {
            const int reach = phase + (int)padding - r * (int)dilation;
            if (reach % step) continue;
            if (axis.taps == 0) {
                axis.first_tap = r;
                axis.origin = reach / step;
            } else if (axis.taps == 1) {
                axis.tap_stride = r - axis.first_tap;
                axis.tap_step = reach / step - axis.origin;
            }
            ++axis.taps;
        }
        return axis;
    }

    DEVICE int tap(int j) const { return first_tap + j * tap_stride; }
    DEVICE int source(int position) const { return position * stride + origin; }
    DEVICE int result(int position) const { return position * result_stride + result_origin; }
};

// Both axes, of one phase.
struct Window {
    Axis down, across;
    int taps_w;  // of the whole filter

    DEVICE int pixels_per_image() const { return down.positions * across.positions; }
    DEVICE int taps() const { return down.taps * across.taps; }
    DEVICE bool is_whole() const { return down.result_stride * across.result_stride == 1; }  // the only phase
    DEVICE int tap(int r, int s) const { return down.tap(r) * taps_w + across.tap(s); }
};

// A pixel of the result, by image and position.
struct Pixel {
    int image, row, column;

    DEVICE Pixel(int index, const Window& window) {
        image = index / window.pixels_per_image();
        const int rest = index - image * window.pixels_per_image();
        row = rest / window.across.positions;
        column = rest - row * window.across.positions;
    }
};
