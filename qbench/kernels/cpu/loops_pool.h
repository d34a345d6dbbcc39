// Loops of max pooling over channels-last images: of a row of outputs, and backwards of rows of the
// input. Included inside the namespace of one instruction set.
#pragma once

// Calls body.template run<ROWS, COLUMNS>() with the numbers of rows and columns where they are usual ones, else with 0.
template <class Body>
QBENCH_INLINE void by_size(i64 rows, i64 columns, const Body& body) {
    if (rows == 3 && columns == 3) return body.template run<3, 3>();
    if (rows == 1 && columns == 1) return body.template run<1, 1>();
    if (rows == 1 && columns == 2) return body.template run<1, 2>();
    if (rows == 2 && columns == 1) return body.template run<2, 1>();
    if (rows == 2 && columns == 2) return body.template run<2, 2>();
    body.template run<0, 0>();
}

// body(r, s) for all of a rectangle, row by row. ROWS, COLUMNS: its size, as by_size gives it; 0 for the arguments.
template <int ROWS, int COLUMNS, class Body>
QBENCH_INLINE void for_each_tap(i64 rows, i64 columns, const Body& body) {
    if (ROWS) rows = ROWS;
    if (COLUMNS) columns = COLUMNS;
#pragma GCC unroll 3
    for (i64 r = 0; r < rows; ++r)
#pragma GCC unroll 3
        for (i64 s = 0; s < columns; ++s) body(r, s);
}

// The columns [begin, end) of the image that one window holds, and the place of the first in it.
struct Window {
    i64 begin, end, place;

    QBENCH_INLINE Window(i64 column, i64 stride, i64 padding, i64 kernel, i64 width, i64 row_place) {
        const i64 left = column * stride - padding;
        begin = left < 0 ? 0 : left;
        end = left + kernel < width ? left + kernel : width;
        place = row_place + begin - left;
    }
};

// One output pixel of floats: the first of the largest values of each channel, a NaN before all.
struct PoolPixel {
    const PoolRowJob<float>& job;
    const Window& window;
    i64 at;

    template <int ROWS, int COLUMNS>
    QBENCH_INLINE void run() const {
        channels<Single, ROWS, COLUMNS>(channels<Vector, ROWS, COLUMNS>(0));
    }

    // From channel c on, as many as whole vectors hold; returns the one it stopped at.
    template <class V, int ROWS, int COLUMNS>
    QBENCH_INLINE i64 channels(i64 c) const {
        for (; c + V::WIDTH <= job.channels; c += V::WIDTH)
            if (!pool<V, ROWS, COLUMNS, false>(c)) pool<V, ROWS, COLUMNS, true>(c);
        return c;
    }

    // One vector of channels. Without CAREFUL whether nothing was NaN, since a comparison with one says no; a sum of all
    // shows it, though infinities may be taken for it.
    template <class V, int ROWS, int COLUMNS, bool CAREFUL>
    QBENCH_INLINE bool pool(i64 c) const {
        const i64 first = window.begin * job.channels + c;
        auto best = V::load(job.rows[0] + first);
        auto places = V::set_int((i32)window.place);
        auto sum = V::set(0.0f);
        for_each_tap<ROWS, COLUMNS>(job.height, window.end - window.begin, [&](i64 r, i64 s) __attribute__((always_inline)) {
            const auto x = V::load(job.rows[r] + first + s * job.channels);
            auto better = V::less(best, x);
            // Not (best >= x) holds where x is larger and where either is NaN; a NaN once found stays.
            if constexpr (CAREFUL) better = V::but_not(V::not_at_least(best, x), V::is_nan(best));
            else sum = V::add(sum, x);
            best = V::select(better, x, best);
            places = V::select(better, V::set_int((i32)(window.place + r * job.kernel + s)), places);
        });
        if (!CAREFUL && V::any(V::is_nan(sum))) return false;
        V::store(job.best + at + c, best);
        V::store(job.window + at + c, places);
        return true;
    }
};

void pool_floats(const PoolRowJob<float>& given) {
    const PoolRowJob<float> job = given;  // which, unlike the caller's, no store can change
    for (i64 column = 0; column < job.out_width; ++column) {
        const Window window(column, job.stride, job.padding, job.kernel, job.width, job.place);
        by_size(job.height, window.end - window.begin, PoolPixel{job, window, column * job.channels});
    }
}

// The same of bytes. What a pixel's last vector writes behind its channels is written over by the next pixel.
void pool_bytes(const PoolRowJob<u8>& given) {
    using V = Vector;
    const PoolRowJob<u8> job = given;
    for (i64 column = 0; column < job.out_width; ++column) {
        const Window window(column, job.stride, job.padding, job.kernel, job.width, job.place);
        for (i64 c = 0; c < job.channels; c += V::BYTES) {
            const i64 first = window.begin * job.channels + c;
            auto best = V::load_bytes(job.rows[0] + first);
            auto places = V::set_bytes((u8)window.place);
            for_each_tap<0, 0>(job.height, window.end - window.begin, [&](i64 r, i64 s) __attribute__((always_inline)) {
                const auto higher = V::max_bytes(best, V::load_bytes(job.rows[r] + first + s * job.channels));
                const auto place = V::set_bytes((u8)(window.place + r * job.kernel + s));
                places = V::select_bytes(V::equal_bytes(higher, best), places, place);
                best = higher;
            });
            V::store_bytes(job.best + column * job.channels + c, best);
            V::store_bytes(job.window + column * job.channels + c, places);
        }
    }
}

void pool_keys(const KeysJob& given) {
    using V = Vector;
    const KeysJob job = given;
    const i64 step = V::BYTES % job.channels;
    i64 i = 0, c = 0;
    for (; i + V::BYTES <= job.count; i += V::BYTES) {
        const auto key = V::exclusive_or_bytes(V::load_bytes(job.codes + i), V::load_bytes(job.flip + c));
        V::store_bytes(job.keys + i, V::max_bytes(key, V::load_bytes(job.least + c)));
        c += step;
        if (c >= job.channels) c -= job.channels;
    }
    for (; i < job.count; ++i) {
        const u8 key = (u8)(job.codes[i] ^ job.flip[c]);
        job.keys[i] = key < job.least[c] ? job.least[c] : key;
        if (++c == job.channels) c = 0;
    }
}

// The outputs whose windows hold one input pixel: a rectangle of them. Element `first` is the first channel of the
// first, whose pixel has this place in its window.
struct Outputs {
    i64 rows, columns, first, place;
};

// One input pixel: the sum of the gradients of the windows in which it is the maximum. job.x holds the gradient of the
// output.
struct UnpoolPixel {
    const PoolJob& job;
    const Outputs& outputs;
    float* y;

    template <int ROWS, int COLUMNS>
    QBENCH_INLINE void run() const {
        channels<Single, ROWS, COLUMNS>(channels<Vector, ROWS, COLUMNS>(0));
    }

    template <class V, int ROWS, int COLUMNS>
    QBENCH_INLINE i64 channels(i64 c) const {
        for (; c + V::WIDTH <= job.channels; c += V::WIDTH) {
            auto sum = V::set(0.0f);
            for_each_tap<ROWS, COLUMNS>(outputs.rows, outputs.columns, [&](i64 r, i64 s) __attribute__((always_inline)) {
                const i64 from = outputs.first + (r * job.out_width + s) * job.channels + c;
                const i64 place = outputs.place - r * job.stride[0] * job.kernel[1] - s * job.stride[1];
                const auto is_maximum = V::equal(V::load(job.window + from), V::set_int((i32)place));
                sum = V::add_if(is_maximum, sum, V::load(job.x + from));
            });
            V::store(y + c, sum);
        }
        return c;
    }
};

void max_pool_backward(const PoolJob& given, Range rows) {
    const PoolJob job = given;
    float* y = job.y + (rows.begin * job.width * job.channels - job.y_from);
    for (i64 row = rows.begin; row < rows.end; ++row) {
        const i64 image = row / job.height, h = row % job.height;
        const Range down = job.down[h];
        const i64 above = h + job.padding[0] - down.begin * job.stride[0];
        for (i64 w = 0; w < job.width; ++w, y += job.channels) {
            const Range across = job.across[w];
            const i64 first = (image * job.out_height + down.begin) * job.out_width + across.begin;
            const Outputs outputs{down.end - down.begin, across.end - across.begin, first * job.channels,
                                  above * job.kernel[1] + w + job.padding[1] - across.begin * job.stride[1]};
            by_size(outputs.rows, outputs.columns, UnpoolPixel{job, outputs, y});
        }
    }
}
