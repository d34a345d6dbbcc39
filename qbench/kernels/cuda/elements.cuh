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

    DEVICE static Quad of(const T* source, i64 first, int live) {
        Quad quad;
        quad.load(source, first, live);
        return quad;
    }

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

template <typename Body> DEVICE void for_each(i64 count, Body body) {
    for (i64 i = thread_index(); i < count; i += thread_count()) body(i);
}

// Groups of four that a thread reads before it works on the first: memory is far away, and codes are small.
const int UNROLLED = 4;

// The channel of elements that are a fixed step apart: one remainder per thread, none per element.
struct ChannelWalk {
    u32 channel, step, channels;

    DEVICE ChannelWalk(i64 first, i64 stride, i64 channels_)
        : channel((u32)(first % channels_)), step((u32)(stride % channels_)), channels((u32)channels_) {}

    DEVICE void advance() {
        channel += step;
        if (channel >= channels) channel -= channels;
    }
};

// item = load(first, live) and then use(item, first, live, channel of the first) for every group of four elements, of
// which `live` exist; `first` is a multiple of 4. All threads of a block take part in every step, with live = 0 where
// nothing is left for them.
template <typename Load, typename Use> DEVICE void for_each_quad_of_rows(i64 count, i64 channels, Load load, Use use) {
    using Item = decltype(load((i64)0, 0));
    const i64 stride = 4 * (i64)blockDim.x, span = UNROLLED * stride;
    i64 chunk = blockIdx.x * span;
    // From the last group of one step to the first of the next.
    const i64 jump = gridDim.x * span - (UNROLLED - 1) * stride;
    ChannelWalk walk(chunk + 4 * threadIdx.x, stride, channels);
    const u32 jump_step = (u32)(jump % channels);
    for (; chunk < count; chunk += gridDim.x * span) {
        Item items[UNROLLED];
        int live[UNROLLED];
#pragma unroll
        for (int u = 0; u < UNROLLED; ++u) {
            const i64 first = chunk + u * stride + 4 * threadIdx.x, left = count - first;
            live[u] = left < 0 ? 0 : left < 4 ? (int)left : 4;
            items[u] = load(first, live[u]);
        }
#pragma unroll
        for (int u = 0; u < UNROLLED; ++u) {
            use(items[u], chunk + u * stride + 4 * threadIdx.x, live[u], walk.channel);
            if (u + 1 < UNROLLED) walk.advance();
        }
        walk.channel = (walk.channel + jump_step) % walk.channels;
    }
}

// The same for a tensor without channels.
template <typename Load, typename Use> DEVICE void for_each_quad(i64 count, Load load, Use use) {
    for_each_quad_of_rows(count, 1, load, [&](auto& item, i64 first, int live, u32) { use(item, first, live); });
}

// One value per channel for the four elements that start at `channel`.
DEVICE void load_channels(const float* values, u32 channel, u32 channels, float (&out)[4]) {
    if (channels % 4 == 0 && is_packed(values)) {
        const Packed<float> packed = *(const Packed<float>*)(values + channel);
#pragma unroll
        for (int j = 0; j < 4; ++j) out[j] = packed.element[j];
        return;
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        out[j] = values[channel];
        channel = channel + 1 == channels ? 0 : channel + 1;
    }
}
