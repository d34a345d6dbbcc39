// Max pooling of channels-last images: the geometry of a job, and which outputs an input pixel belongs to.
#pragma once

#include "jobs.h"

namespace qbench {

// geometry: height, width, output height and width, then kernel, stride and padding as pairs.
inline PoolJob pool_job(i64 channels, const i64* geometry) {
    PoolJob job;
    job.channels = channels;
    job.height = geometry[0];
    job.width = geometry[1];
    job.out_height = geometry[2];
    job.out_width = geometry[3];
    for (int d = 0; d < 2; ++d) {
        job.kernel[d] = geometry[4 + d];
        job.stride[d] = geometry[6 + d];
        job.padding[d] = geometry[8 + d];
    }
    return job;
}

// For each position along dimension d of the input: the outputs whose windows hold it.
inline std::vector<Range> outputs_over(const PoolJob& job, int d, i64 inputs, i64 outputs) {
    std::vector<Range> over;
    for (i64 at = job.padding[d]; at < inputs + job.padding[d]; ++at) {
        const i64 before = at - job.kernel[d] + 1, last = at / job.stride[d];
        const i64 first = before > 0 ? (before + job.stride[d] - 1) / job.stride[d] : 0;
        over.push_back({first, last < outputs ? last + 1 : outputs});
    }
    return over;
}

// The way back from the gradient g of the output and the places of the maxima; rows are those of the input.
class Unpooling {
public:
    Unpooling(const float* g, const u8* window, i64 channels, const i64* geometry)
        : job_(pool_job(channels, geometry)),
          down_(outputs_over(job_, 0, job_.height, job_.out_height)),
          across_(outputs_over(job_, 1, job_.width, job_.out_width)) {
        job_.x = g;
        job_.window = const_cast<u8*>(window);
    }

    i64 row_elements() const { return job_.width * job_.channels; }
    i64 height() const { return job_.height; }

    // The gradient of these rows of the input, written to `out` from its start.
    void rows(const Loops& loops, Range rows, float* out) const {
        PoolJob job = job_;
        job.down = down_.data();
        job.across = across_.data();
        job.y = out;
        job.y_from = rows.begin * row_elements();
        loops.max_pool_backward(job, rows);
    }

private:
    PoolJob job_;
    std::vector<Range> down_, across_;
};

}  // namespace qbench
