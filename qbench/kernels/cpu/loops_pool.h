// Loops of max pooling over channels-last images. Ranges are of rows: of the output, and backwards of the input.
// Included inside the namespace of one instruction set.
#pragma once

// Pixels under a window, or outputs whose windows hold a pixel: a rectangle of them. Element `first` is the first
// channel of the first, `row` and `column` lead to the next; so do the numbers of their places in the window, which is
// a constant of the loops, as is the size where the template arguments are not 0.
struct Patch {
    i64 first, row, column;
    i32 place, place_row, place_column;
    i64 rows, columns;
};

// body(element, place) of all of a patch, row by row.
template <int ROWS, int COLUMNS, class Body>
QBENCH_INLINE void for_each_tap(const Patch& patch, const Body& body) {
    const i64 rows = ROWS ? ROWS : patch.rows, columns = COLUMNS ? COLUMNS : patch.columns;
#pragma GCC unroll 3
    for (i64 r = 0; r < rows; ++r)
#pragma GCC unroll 3
        for (i64 s = 0; s < columns; ++s)
            body(patch.first + r * patch.row + s * patch.column,
                 patch.place + (i32)r * patch.place_row + (i32)s * patch.place_column);
}

// Calls body.template run<ROWS, COLUMNS>() with the size of a patch where it is a usual one, with 0 where it is not.
template <class Body>
QBENCH_INLINE void by_size(const Patch& patch, const Body& body) {
    const bool is_narrow = patch.columns == 1;
    if (patch.rows == 3 && patch.columns == 3) return body.template run<3, 3>();
    if (patch.rows == 1 && (is_narrow || patch.columns == 2))
        return is_narrow ? body.template run<1, 1>() : body.template run<1, 2>();
    if (patch.rows == 2 && (is_narrow || patch.columns == 2))
        return is_narrow ? body.template run<2, 1>() : body.template run<2, 2>();
    body.template run<0, 0>();
}

// One output pixel: the first of the largest values of each channel, a NaN before all.
struct PoolPixel {
    const PoolJob& job;
    const Patch& patch;
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
        const bool is_empty = patch.rows <= 0 || patch.columns <= 0;
        auto best = is_empty ? V::set(-INFINITY) : V::load(job.x + patch.first + c);
        auto window = V::set_int(is_empty ? 255 : patch.place);
        auto sum = V::set(0.0f);
        for_each_tap<ROWS, COLUMNS>(patch, [&](i64 from, i32 place) __attribute__((always_inline)) {
            const auto x = V::load(job.x + from + c);
            auto better = V::less(best, x);
            // Not (best >= x) holds where x is larger and where either is NaN; a NaN once found stays.
            if constexpr (CAREFUL) better = V::but_not(V::not_at_least(best, x), V::is_nan(best));
            else sum = V::add(sum, x);
            best = V::select(better, x, best);
            window = V::select(better, V::set_int(place), window);
        });
        if (!CAREFUL && V::any(V::is_nan(sum))) return false;
        V::store(job.y + at + c, best);
        V::store(job.window + at + c, window);
        return true;
    }
};

void max_pool(const PoolJob& given, Range rows) {
    const PoolJob job = given;  // which, unlike the caller's, no store can change
    const auto clip = [](i64 x, i64 most) { return x < 0 ? 0 : x < most ? x : most; };
    for (i64 row = rows.begin; row < rows.end; ++row) {
        const i64 image = row / job.out_height, top = row % job.out_height * job.stride[0] - job.padding[0];
        const i64 h = clip(top, job.height), bottom = clip(top + job.kernel[0], job.height);
        for (i64 column = 0; column < job.out_width; ++column) {
            const i64 left = column * job.stride[1] - job.padding[1], w = clip(left, job.width);
            Patch patch;
            patch.first = ((image * job.height + h) * job.width + w) * job.channels;
            patch.row = job.width * job.channels;
            patch.column = job.channels;
            patch.place = (i32)((h - top) * job.kernel[1] + w - left);
            patch.place_row = (i32)job.kernel[1];
            patch.place_column = 1;
            patch.rows = bottom - h;
            patch.columns = clip(left + job.kernel[1], job.width) - w;
            by_size(patch, PoolPixel{job, patch, (row * job.out_width + column) * job.channels});
        }
    }
}

// One input pixel: the sum of the gradients of the windows in which it is the maximum. job.x holds the gradient of the
// output.
struct UnpoolPixel {
    const PoolJob& job;
    const Patch& patch;
    float* y;

    template <int ROWS, int COLUMNS>
    QBENCH_INLINE void run() const {
        channels<Single, ROWS, COLUMNS>(channels<Vector, ROWS, COLUMNS>(0));
    }

    template <class V, int ROWS, int COLUMNS>
    QBENCH_INLINE i64 channels(i64 c) const {
        for (; c + V::WIDTH <= job.channels; c += V::WIDTH) {
            auto sum = V::set(0.0f);
            for_each_tap<ROWS, COLUMNS>(patch, [&](i64 from, i32 place) __attribute__((always_inline)) {
                const auto is_maximum = V::equal(V::load(job.window + from + c), V::set_int(place));
                sum = V::add_if(is_maximum, sum, V::load(job.x + from + c));
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
            Patch patch;
            patch.first = ((image * job.out_height + down.begin) * job.out_width + across.begin) * job.channels;
            patch.row = job.out_width * job.channels;
            patch.column = job.channels;
            patch.place = (i32)(above * job.kernel[1] + w + job.padding[1] - across.begin * job.stride[1]);
            patch.place_row = (i32)(-job.stride[0] * job.kernel[1]);
            patch.place_column = (i32)-job.stride[1];
            patch.rows = down.end - down.begin;
            patch.columns = across.end - across.begin;
            by_size(patch, UnpoolPixel{job, patch, y});
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

// The first of the largest bytes of each window. What a pixel's last vector writes behind its channels is written over
// by the next pixel.
void pool_row(const PoolRowJob& given) {
    using V = Vector;
    const PoolRowJob job = given;
    for (i64 column = 0; column < job.out_width; ++column) {
        const i64 left = column * job.stride - job.padding;
        const i64 begin = left < 0 ? 0 : left, end = left + job.kernel < job.width ? left + job.kernel : job.width;
        const i64 first = job.place + begin - left;
        for (i64 c = 0; c < job.channels; c += V::BYTES) {
            auto best = V::load_bytes(job.rows[0] + begin * job.channels + c);
            auto window = V::set_bytes((u8)first);
            for (i64 r = 0; r < job.height; ++r) {
                const u8* const row = job.rows[r] + c;
                for (i64 w = begin; w < end; ++w) {
                    const auto higher = V::max_bytes(best, V::load_bytes(row + w * job.channels));
                    const auto place = V::set_bytes((u8)(first + r * job.kernel + w - begin));
                    window = V::select_bytes(V::equal_bytes(higher, best), window, place);
                    best = higher;
                }
            }
            V::store_bytes(job.best + column * job.channels + c, best);
            V::store_bytes(job.window + column * job.channels + c, window);
        }
    }
}
