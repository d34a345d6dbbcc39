// Loops of max pooling over channels-last images. Ranges are of rows: of the output, and backwards of the input.
// Included inside the namespace of one instruction set.
#pragma once

// The elements that one pixel draws on: where its first channel stands, and which place of the window that is.
struct Taps {
    i64 from[256];
    i32 place[256];
    int count = 0;

    QBENCH_INLINE void add(i64 where, i64 number) {
        from[count] = where;
        place[count++] = (i32)number;
    }
};

// The pixels of the window whose first row and column are given, row by row.
QBENCH_INLINE Taps window_taps(const PoolJob& job, i64 image, i64 row, i64 column) {
    Taps taps;
    for (i64 r = 0; r < job.kernel[0]; ++r) {
        const i64 h = row + r;
        if (h < 0 || h >= job.height) continue;
        for (i64 s = 0; s < job.kernel[1]; ++s) {
            const i64 w = column + s;
            if (w >= 0 && w < job.width) taps.add(((image * job.height + h) * job.width + w) * job.channels, r * job.kernel[1] + s);
        }
    }
    return taps;
}

// Channels c, c + 1, ... of one output pixel, as many as whole vectors hold: the first of the largest values, a NaN
// before all. Returns the channel it stopped at.
template <class V>
QBENCH_INLINE i64 pool_pixel(const PoolJob& job, const Taps& taps, i64 at, i64 c) {
    for (; c + V::WIDTH <= job.channels; c += V::WIDTH) {
        auto best = taps.count ? V::load(job.x + taps.from[0] + c) : V::set(-INFINITY);
        auto window = V::set_int(taps.count ? taps.place[0] : 255);  // 255 of a window without pixels
        for (int tap = 1; tap < taps.count; ++tap) {
            const auto x = V::load(job.x + taps.from[tap] + c);
            // Not (best >= x) holds where x is larger and where either is NaN; a NaN once found stays.
            const auto better = V::but_not(V::not_at_least(best, x), V::is_nan(best));
            best = V::select(better, x, best);
            window = V::select(better, V::set_int(taps.place[tap]), window);
        }
        V::store(job.y + at + c, best);
        V::store(job.window + at + c, window);
    }
    return c;
}

void max_pool(const PoolJob& job, Range rows) {
    for (i64 row = rows.begin; row < rows.end; ++row) {
        const i64 image = row / job.out_height, top = row % job.out_height * job.stride[0] - job.padding[0];
        for (i64 column = 0; column < job.out_width; ++column) {
            const Taps taps = window_taps(job, image, top, column * job.stride[1] - job.padding[1]);
            const i64 at = (row * job.out_width + column) * job.channels;
            pool_pixel<Single>(job, taps, at, pool_pixel<Vector>(job, taps, at, 0));
        }
    }
}

// The outputs whose windows hold the input pixel (h, w), in their order, and its place in those.
QBENCH_INLINE Taps output_taps(const PoolJob& job, i64 image, i64 h, i64 w) {
    Taps taps;
    for (i64 row = job.down[h].begin; row < job.down[h].end; ++row) {
        const i64 r = h + job.padding[0] - row * job.stride[0];
        for (i64 column = job.across[w].begin; column < job.across[w].end; ++column) {
            const i64 s = w + job.padding[1] - column * job.stride[1];
            taps.add(((image * job.out_height + row) * job.out_width + column) * job.channels, r * job.kernel[1] + s);
        }
    }
    return taps;
}

// Channels of one input pixel: the sum of the gradients of the windows in which it is the maximum. job.x holds the
// gradient of the output, job.y receives that of the input.
template <class V>
QBENCH_INLINE i64 unpool_pixel(const PoolJob& job, const Taps& taps, i64 at, i64 c) {
    for (; c + V::WIDTH <= job.channels; c += V::WIDTH) {
        auto sum = V::set(0.0f);
        for (int tap = 0; tap < taps.count; ++tap) {
            const i64 from = taps.from[tap] + c;
            const auto is_maximum = V::equal(V::load(job.window + from), V::set_int(taps.place[tap]));
            sum = V::add_if(is_maximum, sum, V::load(job.x + from));
        }
        V::store(job.y + (at - job.y_from) + c, sum);
    }
    return c;
}

void max_pool_backward(const PoolJob& job, Range rows) {
    for (i64 row = rows.begin; row < rows.end; ++row)
        for (i64 w = 0; w < job.width; ++w) {
            const Taps taps = output_taps(job, row / job.height, row % job.height, w);
            const i64 at = (row * job.width + w) * job.channels;
            unpool_pixel<Single>(job, taps, at, unpool_pixel<Vector>(job, taps, at, 0));
        }
}
