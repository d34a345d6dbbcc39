// Updates of weights on a grid, in place: what qbench/kernels/cpu/updates.py calls. The formulas are documented in
// qbench/kernels/updates.py.
#include "calls.h"
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

constexpr i64 AT_ONCE = 16 * GRAIN;  // values that stay in the cache between the passes over them

template <class Body>
void in_pieces(Range range, const Body& body) {
    for (i64 i = range.begin; i < range.end; i += AT_ONCE) body(Range{i, i + AT_ONCE < range.end ? i + AT_ONCE : range.end});
}

// The scale becomes NaN, for good, where an end of a range is not finite.
void poison(float* scale, const float* ends) { *scale += ends[0] * 0 + ends[1] * 0; }

Extremes decayed_extremes(const MomentumJob& job, i64 n, int threads, int isa) {
    return extremes_of(threads, n, isa, [&](const Loops& loops, Range range) {
        Extremes all = no_extremes();
        float values[AT_ONCE];
        in_pieces(range, [&](Range part) {
            loops.decayed(job, values, part);
            all = joined(all, loops.extremes(values, {0, part.end - part.begin}));
        });
        return all;
    });
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

// scale becomes NaN where a decayed gradient is not finite.
QBENCH_EXPORT void qbench_quantized_momentum(
    i32* weight, i32* accumulator, float* scale, i64 n, const float* grad, double weight_decay, i64 levels,
    i64 momentum_quarters, i64 lr_code, i64 limit, u32 seed, u32 tensor, u32 step, int generator, int threads, int isa) {
    const MomentumJob job = {weight, accumulator, grad, *scale, static_cast<float>(weight_decay), momentum_quarters,
                             lr_code, limit};
    float ends[2];
    finish_extremes(decayed_extremes(job, n, threads, isa), n, ends);
    poison(scale, ends);
    EncodeJob encode;
    encode.scale = scale_of(ends, 2, POWER, static_cast<float>(levels));
    encode.low = static_cast<float>(1 - levels);
    encode.high = static_cast<float>(levels - 1);
    encode.rule = drawing_rule(generator);
    encode.key = {seed, tensor, step};
    encode.type = INT32;
    const Loops& loops = loops_for(isa);
    in_parallel(threads, n, GRAIN, [&](int, Range range) {
        float values[AT_ONCE];
        i32 gradient[AT_ONCE];
        EncodeJob mine = encode;
        mine.x = values;
        mine.out = gradient;
        in_pieces(range, [&](Range part) {
            mine.x_from = mine.out_from = part.begin;
            loops.decayed(job, values, part);
            in_groups(loops, part, [&](const Loops& here, Range elements) { here.encode(mine, elements); });
            loops.momentum(job, gradient, part);
        });
    });
}

QBENCH_EXPORT void qbench_poison(float* scale, const float* x, i64 n, int threads, int isa) {
    float ends[2];
    qbench_extremes(x, n, ends, threads, isa);
    poison(scale, ends);
}

// scale becomes NaN where the gradient is not finite.
QBENCH_EXPORT void qbench_shift_step(
    void* codes, int type, float* scale, i64 n, const float* grad, double eta, i64 limit, u32 seed, u32 tensor,
    u32 step, int generator, int threads, int isa) {
    float ends[2];
    qbench_extremes(grad, n, ends, threads, isa);
    poison(scale, ends);
    EncodeJob encode;
    encode.x = grad;
    encode.scale = scale_of(ends, 2, POWER, static_cast<float>(eta));
    encode.rule = drawing_rule(generator);
    encode.key = {seed, tensor, step};
    set_limits(encode, -INFINITY, INFINITY, INT32);
    const Loops& loops = loops_for(isa);
    in_parallel(threads, n, GRAIN, [&](int, Range range) {
        i32 steps[AT_ONCE];
        EncodeJob mine = encode;
        mine.out = steps;
        in_pieces(range, [&](Range part) {
            mine.out_from = part.begin;
            in_groups(loops, part, [&](const Loops& here, Range elements) { here.encode(mine, elements); });
            loops.subtract_steps(codes, type, steps, static_cast<i32>(limit), part);
        });
    });
}
