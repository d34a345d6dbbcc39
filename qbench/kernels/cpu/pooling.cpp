// Max pooling of channels-last images: what qbench/kernels/cpu/pooling.py calls.
#include "jobs.h"

using namespace qbench;

// geometry: height, width, output height and width, then kernel, stride and padding as pairs.
static PoolJob pool_job(i64 channels, const i64* geometry) {
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
static std::vector<Range> outputs_over(const PoolJob& job, int d, i64 inputs, i64 outputs) {
    std::vector<Range> over;
    for (i64 at = job.padding[d]; at < inputs + job.padding[d]; ++at) {
        const i64 before = at - job.kernel[d] + 1, last = at / job.stride[d];
        const i64 first = before > 0 ? (before + job.stride[d] - 1) / job.stride[d] : 0;
        over.push_back({first, last < outputs ? last + 1 : outputs});
    }
    return over;
}

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
    PoolJob job = pool_job(channels, geometry);
    job.x = g;
    job.y = out;
    job.window = const_cast<u8*>(window);
    const auto down = outputs_over(job, 0, job.height, job.out_height);
    const auto across = outputs_over(job, 1, job.width, job.out_width);
    job.down = down.data();
    job.across = across.data();
    const Loops& loops = loops_for(isa);
    const i64 rows = images * job.height;
    in_parts(useful_threads(threads, rows * job.width * channels), rows, 1,
             [&](int, Range range) { loops.max_pool_backward(job, range); });
}
