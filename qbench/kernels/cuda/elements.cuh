// Walking over flat tensors four elements at a time.
#include "types.cuh"

template <typename T> struct alignas(4 * sizeof(T)) Packed {
    T element[4];
};

template <typename T> DEVICE bool is_packed(const T* pointer) {
    return ((u64)pointer & (4 * sizeof(T) - 1)) == 0;  // tensors that are views may start anywhere
}

// Four consecutive elements, of which `live` exist; the others are 0.
template <typename T> struct Quad {
    T element[4];

    DEVICE void load(const T* source, i64 first, int live) {
        if (live == 4 && is_packed(source)) {
            const Packed<T> packed = *(const Packed<T>*)(source + first);
#pragma unroll
            for (int j = 0; j < 4; ++j) element[j] = packed.element[j];
        } else {
#pragma unroll
            for (int j = 0; j < 4; ++j) element[j] = j < live ? source[first + j] : T(0);
        }
    }

    DEVICE void store(T* target, i64 first, int live) const {
        if (live == 4 && is_packed(target)) {
            Packed<T> packed;
#pragma unroll
            for (int j = 0; j < 4; ++j) packed.element[j] = element[j];
            *(Packed<T>*)(target + first) = packed;
        } else {
#pragma unroll
            for (int j = 0; j < 4; ++j)
                if (j < live) target[first + j] = element[j];
        }
    }
};

DEVICE i64 thread_index() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
DEVICE i64 thread_count() { return (i64)gridDim.x * blockDim.x; }
DEVICE int live_elements(i64 first, i64 count) { return count - first < 4 ? (int)(count - first) : 4; }

// body(first, live) for every group of four elements; `first` is a multiple of 4.
template <typename Body> DEVICE void for_each_quad(i64 count, Body body) {
    for (i64 first = 4 * thread_index(); first < count; first += 4 * thread_count())
        body(first, live_elements(first, count));
}

template <typename Body> DEVICE void for_each(i64 count, Body body) {
    for (i64 i = thread_index(); i < count; i += thread_count()) body(i);
}

// The channel of an element that moves on by a fixed step: one remainder per thread, none per element.
struct ChannelWalk {
    u32 channel, step, channels;

    DEVICE ChannelWalk(i64 first, i64 stride, i64 channels_)
        : channel((u32)(first % channels_)), step((u32)(stride % channels_)), channels((u32)channels_) {}

    DEVICE void advance() {
        channel += step;
        if (channel >= channels) channel -= channels;
    }
};

// body(first, live, channel of the first element): for_each_quad over rows of `channels` elements.
template <typename Body> DEVICE void for_each_quad_of_rows(i64 count, i64 channels, Body body) {
    const i64 stride = 4 * thread_count();
    i64 first = 4 * thread_index();
    if (first >= count) return;
    for (ChannelWalk walk(first, stride, channels); first < count; first += stride, walk.advance())
        body(first, live_elements(first, count), walk.channel);
}

// One value per channel for the four elements that start at `channel`.
template <typename T> DEVICE void load_channels(const T* values, u32 channel, u32 channels, T (&out)[4]) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        out[j] = values[channel];
        channel = channel + 1 == channels ? 0 : channel + 1;
    }
}
