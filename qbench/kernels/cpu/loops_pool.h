// Loops of max pooling over channels-last images. Ranges are of rows: of the output, and backwards of the input.
// Included inside the namespace of one instruction set.
#pragma once

// One output pixel, channels c, c + 1, ...: the first of the largest values of its window, a NaN before all.
template <class V>
QBENCH_INLINE i64 pool_pixel(const PoolJob& job, const float* image, i64 row, i64 column, i64 at, i64 c) {
    for (; c + V::WIDTH <= job.channels; c += V::WIDTH) {
        auto best = V::set(-INFINITY);
        auto window = V::set_int(255);  // of a window without pixels
        bool is_first = true;
        for (i64 r = 0; r < job.kernel[0]; ++r) {
            const i64 h = row + r;
            if (h < 0 || h >= job.height) continue;
            for (i64 s = 0; s < job.kernel[1]; ++s) {
                const i64 w = column + s;
                if (w < 0 || w >= job.width) continue;
                const auto x = V::load(image + (h * job.width + w) * job.channels + c);
                const auto place = V::set_int((i32)(r * job.kernel[1] + s));
                if (is_first) {
                    best = x;
                    window = place;
                    is_first = false;
                    continue;
                }
                // Not (best >= x) holds where x is larger and where either is NaN; a NaN once found stays.
                const auto better = V::but_not(V::not_at_least(best, x), V::is_nan(best));
                best = V::select(better, x, best);
                window = V::select(better, place, window);
            }
        }
        V::store(job.y + at + c, best);
        V::store(job.window + at + c, window);
    }
    return c;
}

void max_pool(const PoolJob& job, Range rows) {
    for (i64 row = rows.begin; row < rows.end; ++row) {
        const i64 n = row / job.out_height, top = row % job.out_height * job.stride[0] - job.padding[0];
        const float* const image = job.x + n * job.height * job.width * job.channels;
        for (i64 column = 0; column < job.out_width; ++column) {
            const i64 left = column * job.stride[1] - job.padding[1], at = (row * job.out_width + column) * job.channels;
            const i64 c = pool_pixel<Vector>(job, image, top, left, at, 0);
            pool_pixel<Single>(job, image, top, left, at, c);
        }
    }
}

// One input pixel: the sum of the gradients of the windows in which it is the maximum. job.x holds the gradient of the
// output, job.y receives that of the input.
template <class V>
QBENCH_INLINE i64 unpool_pixel(const PoolJob& job, i64 n, i64 h, i64 w, Range down, Range across, i64 c) {
    for (; c + V::WIDTH <= job.channels; c += V::WIDTH) {
        auto sum = V::set(0.0f);
        for (i64 row = down.begin; row < down.end; ++row) {
            const i64 r = h + job.padding[0] - row * job.stride[0];
            for (i64 column = across.begin; column < across.end; ++column) {
                const i64 s = w + job.padding[1] - column * job.stride[1];
                const i64 from = ((n * job.out_height + row) * job.out_width + column) * job.channels + c;
                const auto place = V::set_int((i32)(r * job.kernel[1] + s));
                sum = V::add_if(V::equal(V::load(job.window + from), place), sum, V::load(job.x + from));
            }
        }
        V::store(job.y + ((n * job.height + h) * job.width + w) * job.channels + c, sum);
    }
    return c;
}

void max_pool_backward(const PoolJob& job, Range rows) {
    for (i64 row = rows.begin; row < rows.end; ++row) {
        const i64 n = row / job.height, h = row % job.height;
        const Range down = job.down[h];
        for (i64 w = 0; w < job.width; ++w) {
            const Range across = job.across[w];
            const i64 c = unpool_pixel<Vector>(job, n, h, w, down, across, 0);
            unpool_pixel<Single>(job, n, h, w, down, across, c);
        }
    }
}
