// Max pooling of channels-last images: what qbench/kernels/cpu/pooling.py calls.
#include "pooling.h"

using namespace qbench;

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
