// Walking over flat tensors four elements at a time.
#include "types.cuh"

template <typename T> struct alignas(4 * sizeof(T)) Packed {
    T element[4];
};

template <typename T> DEVICE bool is_packed(const T* pointer) {
    return ((u64)pointer & (4 * sizeof(T) - 1)) == 0;  // tensors that are views may start anywhere
}
template <typename... T> DEVICE bool are_packed(const T*... pointers) { return (is_packed(pointers) && ...); }

// In place of a number of elements: four, in memory that is aligned to groups of four.
struct WholeGroup {
    DEVICE constexpr operator int() const { return 4; }
};

// Four consecutive elements, of which `live` exist, an int or a WholeGroup; the others are 0.
template <typename T> struct Quad {
    T element[4];

    template <typename Live> DEVICE static Quad of(const T* source, i64 first, Live live) {
        Quad quad;
        quad.load(source, first, live);
        return quad;
    }

    // 0 where there is no source.
    template <typename Live> DEVICE static Quad of_any(const T* source, i64 first, Live live) {
        return source ? of(source, first, live) : Quad{};
    }

    DEVICE void load(const T* source, i64 first, WholeGroup) {
        const Packed<T> packed = *(const Packed<T>*)(source + first);
#pragma unroll
        for (int j = 0; j < 4; ++j) element[j] = packed.element[j];
    }

    DEVICE void store(T* target, i64 first, WholeGroup) const {
        Packed<T> packed;
#pragma unroll
        for (int j = 0; j < 4; ++j) packed.element[j] = element[j];
        *(Packed<T>*)(target + first) = packed;
    }

    DEVICE void load(const T* source, i64 first, int live) {
        if (live == 4 && is_packed(source)) return load(source, first, WholeGroup());
#pragma unroll
        for (int j = 0; j < 4; ++j) element[j] = j < live ? source[first + j] : T(0);
    }

    DEVICE void store(T* target, i64 first, int live) const {
        if (live == 4 && is_packed(target)) return store(target, first, WholeGroup());
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (j < live) target[first + j] = element[j];
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

    // By less than all channels.
    DEVICE void advance(u32 by) {
        channel += by;
        if (channel >= channels) channel -= channels;
    }
};

// item = load(first, live) and then use(item, first, live, channel of the first) for every group of four elements, of
// which `live` exist; `first` is a multiple of 4. All threads of a block take part in every step, with live = 0 where
// nothing is left for them.
//
// are_whole: whether all memory that they read and write is aligned to groups of four, and channels are a multiple of
// four. Steps of whole groups alone are code of their own, in which nothing is asked anew at every group.
template <typename Load, typename Use>
DEVICE void for_each_quad_of_rows(i64 count, i64 channels, bool are_whole, Load load, Use use) {
    using Item = decltype(load((i64)0, 0));
    const i64 stride = 4 * (i64)blockDim.x, span = UNROLLED * stride;
    i64 chunk = blockIdx.x * span;
    // From the last group of one step to the first of the next.
    const i64 jump = gridDim.x * span - (UNROLLED - 1) * stride;
    ChannelWalk walk(chunk + 4 * threadIdx.x, stride, channels);
    const u32 jump_step = (u32)(jump % channels);
    for (; chunk < count; chunk += gridDim.x * span) {
        const i64 own = chunk + 4 * threadIdx.x;
        if (are_whole && chunk + span <= count) {
            Item items[UNROLLED];
#pragma unroll
            for (int u = 0; u < UNROLLED; ++u) items[u] = load(own + u * stride, WholeGroup());
#pragma unroll
            for (int u = 0; u < UNROLLED; ++u) {
                use(items[u], own + u * stride, WholeGroup(), walk.channel);
                walk.advance(u + 1 < UNROLLED ? walk.step : jump_step);
            }
        } else {
#pragma unroll 1
            for (int u = 0; u < UNROLLED; ++u) {
                const i64 first = own + u * stride, left = count - first;
                const int live = left < 0 ? 0 : left < 4 ? (int)left : 4;
                Item item = load(first, live);
                use(item, first, live, walk.channel);
                walk.advance(u + 1 < UNROLLED ? walk.step : jump_step);
            }
        }
    }
}

// The same for a tensor without channels.
template <typename Load, typename Use> DEVICE void for_each_quad(i64 count, bool are_whole, Load load, Use use) {
    for_each_quad_of_rows(count, 1, are_whole, load,
                          [&](auto& item, i64 first, auto live, u32) { use(item, first, live); });
}

// Whether groups of four have channels that lie together, in values [channels] that are aligned as well.
template <typename... T> DEVICE bool have_packed_channels(i64 channels, const T*... values) {
    return channels % 4 == 0 && are_packed(values...);
}

// One value per channel for the four elements that start at `channel`.
DEVICE void load_channels(const float* values, u32 channel, u32, WholeGroup, float (&out)[4]) {
    const Packed<float> packed = *(const Packed<float>*)(values + channel);
#pragma unroll
    for (int j = 0; j < 4; ++j) out[j] = packed.element[j];
}
DEVICE void load_channels(const float* values, u32 channel, u32 channels, int, float (&out)[4]) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        out[j] = values[channel];
        channel = channel + 1 == channels ? 0 : channel + 1;
    }
}
