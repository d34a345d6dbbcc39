// Exact convolution and its gradients for operands of any integer type and any groups: one sum per thread, in int64.
// For what does not come in vectors of 16 channels per group. Codes are i8, u8 or i16; zero points may be null.
#include "elements.cuh"

struct Shape {
    i64 height, width, group_channels, height_out, width_out, filters, groups;  // filters: per group
    i64 taps_h, taps_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;

    DEVICE i64 channels() const { return groups * group_channels; }
    DEVICE i64 all_filters() const { return groups * filters; }
    DEVICE i64 weight_at(i64 filter, i64 r, i64 s, i64 channel) const {
        return ((filter * taps_h + r) * taps_w + s) * group_channels + channel;
    }
};

template <typename T> struct Codes {
    const T* codes;
    i64 zero;

    DEVICE Codes(const T* codes_, const float* zero_) : codes(codes_), zero(zero_point(zero_)) {}
    DEVICE i64 operator[](i64 i) const { return codes[i] - zero; }
};

// An element of a channels-last image.
struct Element {
    i64 channel, column, row, image;

    DEVICE Element(i64 i, i64 channels, i64 height, i64 width)
        : channel(i % channels), column(i / channels % width), row(i / channels / width % height),
          image(i / channels / width / height) {}
};

#define SHAPE_PARAMETERS                                                                                               \
    i64 images, i64 height, i64 width, i64 group_channels, i64 height_out, i64 width_out, i64 filters, i64 groups,     \
        i64 taps_h, i64 taps_w, i64 stride_h, i64 stride_w, i64 padding_h, i64 padding_w, i64 dilation_h,              \
        i64 dilation_w
#define SHAPE                                                                                                          \
    Shape {                                                                                                            \
        height, width, group_channels, height_out, width_out, filters, groups, taps_h, taps_w, stride_h, stride_w,     \
            padding_h, padding_w, dilation_h, dilation_w                                                               \
    }

template <typename X, typename W>
__global__ void plain_convolve(const X* x_codes, const float* x_zero, const W* w_codes, const float* w_zero,
                               SHAPE_PARAMETERS, i64* sums) {
    const Shape shape = SHAPE;
    const Codes<X> x(x_codes, x_zero);
    const Codes<W> w(w_codes, w_zero);
    for_each(images * height_out * width_out * shape.all_filters(), [&](i64 i) {
        const Element at(i, shape.all_filters(), height_out, width_out);
        const i64 first_channel = at.channel / filters * group_channels;
        i64 sum = 0;
        for (i64 r = 0; r < taps_h; ++r) {
            const i64 row = at.row * stride_h - padding_h + r * dilation_h;
            for (i64 s = 0; s < taps_w; ++s) {
                const i64 column = at.column * stride_w - padding_w + s * dilation_w;
                if (row < 0 || row >= height || column < 0 || column >= width) continue;
                const i64 pixel = (at.image * height + row) * width + column;
                for (i64 c = 0; c < group_channels; ++c)
                    sum += x[pixel * shape.channels() + first_channel + c] * w[shape.weight_at(at.channel, r, s, c)];
            }
        }
        sums[i] = sum;
    });
}

// The gradient of the input, sums [images, height, width, channels].
template <typename E, typename W>
__global__ void plain_input_gradient(const E* e_codes, const float* e_zero, const W* w_codes, const float* w_zero,
                                     SHAPE_PARAMETERS, i64* sums) {
    const Shape shape = SHAPE;
    const Codes<E> e(e_codes, e_zero);
    const Codes<W> w(w_codes, w_zero);
    for_each(images * height * width * shape.channels(), [&](i64 i) {
        const Element at(i, shape.channels(), height, width);
        const i64 group = at.channel / group_channels, channel = at.channel % group_channels;
        i64 sum = 0;
        for (i64 r = 0; r < taps_h; ++r) {
            const i64 row = at.row + padding_h - r * dilation_h;
            if (row < 0 || row % stride_h || row / stride_h >= height_out) continue;
            for (i64 s = 0; s < taps_w; ++s) {
                const i64 column = at.column + padding_w - s * dilation_w;
                if (column < 0 || column % stride_w || column / stride_w >= width_out) continue;
                const i64 pixel = (at.image * height_out + row / stride_h) * width_out + column / stride_w;
                for (i64 k = group * filters; k < (group + 1) * filters; ++k)
                    sum += e[pixel * shape.all_filters() + k] * w[shape.weight_at(k, r, s, channel)];
            }
        }
        sums[i] = sum;
    });
}

// The gradient of the weight, added to sums [filters, taps, group_channels]. blockIdx.y counts parts of the pixels.
template <typename X, typename E>
__global__ void plain_weight_gradient(const X* x_codes, const float* x_zero, const E* e_codes, const float* e_zero,
                                      SHAPE_PARAMETERS, i64* sums) {
    const Shape shape = SHAPE;
    const Codes<X> x(x_codes, x_zero);
    const Codes<E> e(e_codes, e_zero);
    const i64 pixels = images * height_out * width_out, length = (pixels + gridDim.y - 1) / gridDim.y;
    const i64 begin = blockIdx.y * length, end = smaller(begin + length, pixels);
    for_each(shape.all_filters() * taps_h * taps_w * group_channels, [&](i64 i) {
        const Element weight(i, group_channels, taps_h, taps_w);  // "image" is the filter
        const i64 first_channel = weight.image / filters * group_channels;
        i64 sum = 0;
        for (i64 p = begin; p < end; ++p) {
            const i64 row = p / width_out % height_out * stride_h - padding_h + weight.row * dilation_h;
            const i64 column = p % width_out * stride_w - padding_w + weight.column * dilation_w;
            if (row < 0 || row >= height || column < 0 || column >= width) continue;
            const i64 pixel = (p / width_out / height_out * height + row) * width + column;
            sum += x[pixel * shape.channels() + first_channel + weight.channel] *
                   e[p * shape.all_filters() + weight.image];
        }
        atomicAdd((u64*)sums + i, (u64)sum);
    });
}
