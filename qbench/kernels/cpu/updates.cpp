// Updates of weights on a grid, in place: what qbench/kernels/cpu/updates.py calls. The formulas are documented in
// qbench/kernels/updates.py.
#include "encode.h"

using namespace qbench;

namespace {

// The grid part of a job. Limits are already those of the type where the grid is not binary.
UpdateJob grid_job(
    void* codes, int type, const float* grad, double scale, double low, double high, int rule, Key key) {
    EncodeJob limits;
    set_limits(limits, low, high, type);
    UpdateJob job;
    job.codes = codes;
    job.type = type;
    job.grad = grad;
    job.scale = static_cast<float>(scale);
    job.low = rule >= SIGN ? -1 : limits.low;
    job.high = rule >= SIGN ? 1 : limits.high;
    job.rule = rule;
    job.key = key;
    return job;
}

}  // namespace

QBENCH_EXPORT void qbench_sgd_on_grid(
    void* codes, int type, i64 n, const float* grad, float* momentum, double lr, double weight_decay, double mu,
    int nesterov, int first, double scale, double low, double high, int rule, u32 seed, u32 tensor, u32 step, int threads,
    int isa) {
    UpdateJob job = grid_job(codes, type, grad, scale, low, high, rule, {seed, tensor, step});
    job.momentum = momentum;
    job.lr = static_cast<float>(lr);
    job.weight_decay = static_cast<float>(weight_decay);
    job.mu = static_cast<float>(mu);
    job.nesterov = nesterov != 0;
    job.first = first != 0;
    for_elements(threads, n, isa, [&](const Loops& loops, Range range) { loops.sgd(job, range); });
}

// size and correction: lr / (1 - beta1^step) and sqrt(1 - beta2^step).
QBENCH_EXPORT void qbench_adam_on_grid(
    void* codes, int type, i64 n, const float* grad, float* m, float* v, double size, double beta1, double beta2,
    double eps, double correction, double weight_decay, double scale, double low, double high, int rule, u32 seed,
    u32 tensor, u32 step, int threads, int isa) {
    UpdateJob job = grid_job(codes, type, grad, scale, low, high, rule, {seed, tensor, step});
    job.momentum = m;
    job.second = v;
    job.lr = static_cast<float>(size);
    job.weight_decay = static_cast<float>(weight_decay);
    job.beta1 = static_cast<float>(beta1);
    job.beta2 = static_cast<float>(beta2);
    job.rest1 = static_cast<float>(1 - beta1);
    job.rest2 = static_cast<float>(1 - beta2);
    job.eps = static_cast<float>(eps);
    job.correction = static_cast<float>(correction);
    for_elements(threads, n, isa, [&](const Loops& loops, Range range) { loops.adam(job, range); });
}

QBENCH_EXPORT void qbench_quantized_momentum(
    i32* weight, i32* accumulator, i64 n, const float* grad, const float* magnitude, i64 numbers, i64 levels,
    i64 momentum_quarters, i64 lr_code, i64 limit, u32 seed, u32 tensor, u32 step, int generator, int threads, int isa) {
    constexpr i64 AT_ONCE = 64 * GRAIN;
    const Loops& loops = loops_for(isa);
    const MomentumJob job = {weight, accumulator, momentum_quarters, lr_code, limit};
    EncodeJob encode;
    encode.x = grad;
    encode.scale = scale_of(magnitude, numbers, POWER, static_cast<float>(levels));
    encode.low = static_cast<float>(1 - levels);
    encode.high = static_cast<float>(levels - 1);
    encode.rule = drawing_rule(generator);
    encode.key = {seed, tensor, step};
    encode.type = INT32;
    in_parallel(threads, n, GRAIN, [&](int, Range range) {
        i32 gradient[AT_ONCE];
        EncodeJob mine = encode;
        mine.out = gradient;
        for (i64 i = range.begin; i < range.end; i += AT_ONCE) {
            const Range part = {i, i + AT_ONCE < range.end ? i + AT_ONCE : range.end};
            mine.out_from = i;
            in_groups(loops, part, [&](const Loops& here, Range elements) { here.encode(mine, elements); });
            loops.momentum(job, gradient, part);
        }
    });
}
