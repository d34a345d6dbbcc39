// Max pooling of channels-last images: what qbench/kernels/cpu/pooling.py calls.
#include "pooling.h"

#include "code_order.h"
#include "encode.h"
#include "views.h"

using namespace qbench;

namespace {

// Max pooling of a view of codes by one thread: rows of keys, of which a window's are there at a time, the row of their
// maxima, and from that the values.
class ViewPooling {
public:
    ViewPooling(const PoolJob& job, const u8* codes, CodeOrder& order, const ViewJob& view, const Loops& loops)
        : job_(job), codes_(codes), order_(order), view_(view), loops_(loops), row_(job.width * job.channels),
          out_row_(job.out_width * job.channels), keys_(job.kernel[0] * (row_ + BYTES_MARGIN)),
          best_(out_row_ + BYTES_MARGIN), window_(out_row_ + BYTES_MARGIN), mask_(out_row_ / 8 + BYTES_MARGIN),
          rows_(static_cast<std::size_t>(job.kernel[0])) {
        keys_.clear();
    }

    // Rows of the output.
    void pool(Range rows) {
        for (i64 row = rows.begin; row < rows.end; ++row) {
            const i64 image = row / job_.out_height;
            if (image != image_) next_ = 0;
            image_ = image;
            pool_row(row, row % job_.out_height * job_.stride[0] - job_.padding[0]);
        }
    }

private:
    const PoolJob job_;
    const u8* codes_;
    CodeOrder& order_;
    ViewJob view_;
    const Loops& loops_;
    i64 row_, out_row_;
    Aligned<u8> keys_, best_, window_, mask_;
    std::vector<const u8*> rows_;
    i64 image_ = -1, next_ = 0;  // the first of the image's rows whose keys were not made yet

    void pool_row(i64 row, i64 top) {
        const i64 begin = top < 0 ? 0 : top;
        const i64 end = top + job_.kernel[0] < job_.height ? top + job_.kernel[0] : job_.height;
        for (i64 h = begin; h < end; ++h) rows_[static_cast<std::size_t>(h - begin)] = keys_of(h);
        loops_.pool_row(
            {rows_.data(), end - begin, (begin - top) * job_.kernel[1], job_.channels, job_.width, job_.out_width,
             job_.kernel[1], job_.stride[1], job_.padding[1], best_.data(), window_.data()});
        std::memcpy(job_.window + row * out_row_, window_.data(), static_cast<std::size_t>(out_row_));
        order_.to_codes(loops_, best_.data(), out_row_);
        view_.codes = best_.data();
        view_.mask = mask_.data();
        view_.value = job_.y + row * out_row_;
        in_groups(loops_, {0, out_row_}, [&](const Loops& loops, Range range) { loops.view(view_, range); });
    }

    const u8* keys_of(i64 h) {
        u8* const keys = keys_.data() + h % job_.kernel[0] * (row_ + BYTES_MARGIN);
        if (h < next_) return keys;
        order_.to_keys(loops_, codes_ + (image_ * job_.height + h) * row_, row_, keys);
        next_ = h + 1;
        return keys;
    }
};

}  // namespace

QBENCH_EXPORT void qbench_max_pool(
    const float* x, i64 images, i64 channels, const i64* geometry, float* y, u8* window, int threads, int isa) {
    PoolJob job = pool_job(channels, geometry);
    job.x = x;
    job.y = y;
    job.window = window;
    const Loops& loops = loops_for(isa);
    const i64 rows = images * job.out_height, taps = job.kernel[0] * job.kernel[1];
    in_parts(useful_threads(threads, rows * job.out_width * channels * taps), rows, 1,
             [&](int, Range range) { loops.max_pool(job, range); });
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

// As the pooling of the view's values. table: NULL to read codes as numbers.
QBENCH_EXPORT void qbench_max_pool_view(
    const u8* codes, i64 images, i64 channels, const i64* geometry, const float* table, i64 entries, const float* slope,
    const float* offset, int relu, float* y, u8* window, int threads, int isa) {
    PoolJob job = pool_job(channels, geometry);
    job.y = y;
    job.window = window;
    const i64 rows = images * job.out_height;
    if (!rows || !channels) return;
    ViewTables tables(slope, offset, channels, 1);
    const Table padded(table, table ? entries : 0);
    ViewJob view = view_job(nullptr, tables, relu);
    view.table = table ? padded.values : nullptr;
    view.entries = static_cast<int>(entries);
    CodeOrder order(slope, offset, relu != 0, table, entries, channels);
    const Loops& loops = loops_for(isa);
    in_parts(useful_threads(threads, images * job.height * job.width * channels), rows, 1,
             [&](int, Range range) { ViewPooling(job, codes, order, view, loops).pool(range); });
}
