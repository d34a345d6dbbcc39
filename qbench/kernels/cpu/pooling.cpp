// Max pooling of channels-last images: what qbench/kernels/cpu/pooling.py calls.
#include "pooling.h"

#include "code_order.h"
#include "encode.h"
#include "views.h"

using namespace qbench;

namespace {

// The rows of an image that a window holds at a time, each made once. Behind a row lie BYTES_MARGIN elements more.
template <class T>
class Ring {
public:
    Ring(i64 rows, i64 row) : rows_(rows), stride_(row + BYTES_MARGIN), memory_(rows * stride_) { memory_.clear(); }

    // Row h of the image; the rows of one are asked for from top to bottom. make(to) writes it.
    template <class Make>
    const T* row(i64 image, i64 h, const Make& make) {
        if (image != image_) next_ = 0;
        image_ = image;
        T* const to = memory_.data() + h % rows_ * stride_;
        if (h >= next_) {
            make(to);
            next_ = h + 1;
        }
        return to;
    }

private:
    i64 rows_, stride_;
    Aligned<T> memory_;
    i64 image_ = -1, next_ = 0;
};

// pool(row, part) for rows of the output, where row_of(image, h) gives those of the input. `part` lacks the results.
template <class T, class RowOf, class Pool>
void pool_rows(const PoolJob& job, Range rows, const RowOf& row_of, const Pool& pool) {
    std::vector<const T*> under(static_cast<std::size_t>(job.kernel[0]));
    for (i64 row = rows.begin; row < rows.end; ++row) {
        const i64 image = row / job.out_height, top = row % job.out_height * job.stride[0] - job.padding[0];
        const i64 begin = top < 0 ? 0 : top;
        const i64 end = top + job.kernel[0] < job.height ? top + job.kernel[0] : job.height;
        for (i64 h = begin; h < end; ++h) under[static_cast<std::size_t>(h - begin)] = row_of(image, h);
        pool(row, PoolRowJob<T>{
                      under.data(), end - begin, (begin - top) * job.kernel[1], job.channels, job.width, job.out_width,
                      job.kernel[1], job.stride[1], job.padding[1], nullptr, nullptr});
    }
}

// Rows of floats into the results.
template <class RowOf>
void pool_floats(const PoolJob& job, Range rows, const Loops& loops, const RowOf& row_of) {
    pool_rows<float>(job, rows, row_of, [&](i64 row, PoolRowJob<float> part) {
        part.best = job.y + row * job.out_width * job.channels;
        part.window = job.window + row * job.out_width * job.channels;
        loops.pool_floats(part);
    });
}

// Rows of codes: their keys are pooled, and the values made from what codes come out.
void pool_codes(
    const PoolJob& job, const u8* codes, Range rows, const Loops& loops, CodeOrder& order, ViewJob view) {
    const i64 row_size = job.width * job.channels, out_size = job.out_width * job.channels;
    Ring<u8> ring(job.kernel[0], row_size);
    Aligned<u8> best(out_size + BYTES_MARGIN), window(out_size + BYTES_MARGIN), mask(out_size / 8 + BYTES_MARGIN);
    const auto keys_of = [&](i64 image, i64 h) {
        const u8* const from = codes + (image * job.height + h) * row_size;
        return ring.row(image, h, [&](u8* to) { order.to_keys(loops, from, row_size, to); });
    };
    view.codes = best.data();
    view.mask = mask.data();
    pool_rows<u8>(job, rows, keys_of, [&](i64 row, PoolRowJob<u8> part) {
        part.best = best.data();
        part.window = window.data();
        loops.pool_bytes(part);
        std::memcpy(job.window + row * out_size, window.data(), static_cast<std::size_t>(out_size));
        order.to_codes(loops, best.data(), out_size);
        view.value = job.y + row * out_size;
        in_groups(loops, {0, out_size}, [&](const Loops& some, Range range) { some.view(view, range); });
    });
}

// Rows of a norm on direct grids, whose values are made once.
void pool_direct(const PoolJob& job, Range rows, const Loops& loops, DirectJob view) {
    const i64 row_size = job.width * job.channels;
    const float* const x = view.x;
    Ring<float> ring(job.kernel[0], row_size);
    Aligned<u8> mask(row_size / 8 + BYTES_MARGIN);
    view.mask = mask.data();
    pool_floats(job, rows, loops, [&](i64 image, i64 h) {
        return ring.row(image, h, [&](float* to) {
            view.x = x + (image * job.height + h) * row_size;
            view.value = to;
            in_groups(loops, {0, row_size}, [&](const Loops& some, Range range) { some.direct_view(view, range); });
        });
    });
}

PoolJob forward_job(i64 channels, const i64* geometry, float* y, u8* window) {
    PoolJob job = pool_job(channels, geometry);
    job.y = y;
    job.window = window;
    return job;
}

// body(range) for ranges of rows of the output.
template <class Body>
void for_rows(const PoolJob& job, i64 images, int threads, const Body& body) {
    const i64 rows = images * job.out_height;
    if (!rows || !job.channels) return;
    in_parts(useful_threads(threads, images * job.height * job.width * job.channels), rows, 1,
             [&](int, Range range) { body(range); });
}

}  // namespace

QBENCH_EXPORT void qbench_max_pool(
    const float* x, i64 images, i64 channels, const i64* geometry, float* y, u8* window, int threads, int isa) {
    const PoolJob job = forward_job(channels, geometry, y, window);
    const i64 row_size = job.width * channels;
    for_rows(job, images, threads, [&](Range range) {
        pool_floats(job, range, loops_for(isa), [&](i64 image, i64 h) { return x + (image * job.height + h) * row_size; });
    });
}

// As the pooling of the view's values. table: NULL to read codes as numbers.
QBENCH_EXPORT void qbench_max_pool_view(
    const u8* codes, i64 images, i64 channels, const i64* geometry, const float* table, i64 entries, const float* slope,
    const float* offset, int relu, float* y, u8* window, int threads, int isa) {
    const PoolJob job = forward_job(channels, geometry, y, window);
    if (!channels) return;
    ViewTables tables(slope, offset, channels, 1);
    const Table padded(table, table ? entries : 0);
    ViewJob view = view_job(nullptr, tables, relu);
    view.table = table ? padded.values : nullptr;
    view.entries = static_cast<int>(entries);
    CodeOrder order(slope, offset, relu != 0, table, entries, channels);
    for_rows(job, images, threads, [&](Range range) { pool_codes(job, codes, range, loops_for(isa), order, view); });
}

QBENCH_EXPORT void qbench_max_pool_direct_view(
    const float* x, i64 images, i64 channels, const i64* geometry, const float* mean, const float* inverse, double unit,
    double top, const float* slope, const float* offset, int relu, float* y, u8* window, int threads, int isa) {
    const PoolJob job = forward_job(channels, geometry, y, window);
    if (!channels) return;
    DirectTables tables(mean, inverse, slope, offset, channels, 1);
    const DirectJob view = direct_job(x, tables, unit, top, relu);
    for_rows(job, images, threads, [&](Range range) { pool_direct(job, range, loops_for(isa), view); });
}

QBENCH_EXPORT void qbench_max_pool_backward(
    const float* g, const u8* window, i64 images, i64 channels, const i64* geometry, float* out, int threads, int isa) {
    const Unpooling unpooling(g, window, channels, geometry);
    const Loops& loops = loops_for(isa);
    const i64 rows = images * unpooling.height();
    in_parts(useful_threads(threads, rows * unpooling.row_elements()), rows, 1, [&](int, Range range) {
        unpooling.rows(loops, range, out + range.begin * unpooling.row_elements());
    });
}
