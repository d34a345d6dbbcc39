// Loops that update weights on a grid. Included inside the namespace of one instruction set.
#pragma once

// The codes of moved weights w: clip(round(w / scale), low, high), 0 for NaN.
template <class V, int RULE, class T>
QBENCH_INLINE void store_moved(const UpdateJob& job, Rounder<V, RULE>& round, const typename V::F* w, int vectors, i64 i) {
    T* const codes = static_cast<T*>(job.codes);
    typename V::F y[V::GROUP];
#pragma GCC unroll 4
    for (int u = 0; u < vectors; ++u) y[u] = V::div(w[u], V::set(job.scale));
    round.draw(i);
#pragma GCC unroll 4
    for (int u = 0; u < vectors; ++u) {
        const auto code = round.code(y[u], w[u], u, V::set(job.low), V::set(job.high));
        V::store(codes + i + u * V::WIDTH, V::drop(V::is_nan(y[u]), code));
    }
}

template <int RULE, class T>
void sgd_range(const UpdateJob& given, Range range) {
    const UpdateJob job = given;
    using V = Vector;
    using F = typename V::F;
    Rounder<V, RULE> round(job.key);
    const T* const codes = static_cast<const T*>(job.codes);
    const F scale = V::set(job.scale), decay = V::set(job.weight_decay), mu = V::set(job.mu), lr = V::set(job.lr);
    for_each_group<V>(range, [&](i64 start, int vectors) __attribute__((always_inline)) {
        F moved[V::GROUP];
#pragma GCC unroll 4
        for (int u = 0; u < vectors; ++u) {
            const i64 i = start + u * V::WIDTH;
            const F w = V::mul(V::to_float(V::load(codes + i)), scale);
            F d = V::add(V::load(job.grad + i), V::mul(decay, w));
            if (job.momentum) {
                const F buffer = job.first ? d : V::add(V::mul(mu, V::load(job.momentum + i)), d);
                V::store(job.momentum + i, buffer);
                d = job.nesterov ? V::add(d, V::mul(mu, buffer)) : buffer;
            }
            moved[u] = V::sub(w, V::mul(lr, d));
        }
        store_moved<V, RULE, T>(job, round, moved, vectors, start);
    });
}

template <int RULE, class T>
void adam_range(const UpdateJob& given, Range range) {
    const UpdateJob job = given;
    using V = Vector;
    using F = typename V::F;
    Rounder<V, RULE> round(job.key);
    const T* const codes = static_cast<const T*>(job.codes);
    const F scale = V::set(job.scale), decay = V::set(job.weight_decay), size = V::set(job.lr);
    const F beta1 = V::set(job.beta1), beta2 = V::set(job.beta2), rest1 = V::set(job.rest1), rest2 = V::set(job.rest2);
    const F correction = V::set(job.correction), eps = V::set(job.eps);
    for_each_group<V>(range, [&](i64 start, int vectors) __attribute__((always_inline)) {
        F moved[V::GROUP];
#pragma GCC unroll 4
        for (int u = 0; u < vectors; ++u) {
            const i64 i = start + u * V::WIDTH;
            const F w = V::mul(V::to_float(V::load(codes + i)), scale);
            const F g = V::add(V::load(job.grad + i), V::mul(decay, w));
            const F m = V::add(V::mul(beta1, V::load(job.momentum + i)), V::mul(rest1, g));
            const F v = V::add(V::mul(beta2, V::load(job.second + i)), V::mul(rest2, V::mul(g, g)));
            V::store(job.momentum + i, m);
            V::store(job.second + i, v);
            const F denominator = V::add(V::div(V::sqrt(v), correction), eps);
            moved[u] = V::sub(w, V::mul(size, V::div(m, denominator)));
        }
        store_moved<V, RULE, T>(job, round, moved, vectors, start);
    });
}

template <class T>
void sgd_by_rule(const UpdateJob& job, Range range) {
    switch (job.rule) {
        case HALF_UP: return sgd_range<HALF_UP, T>(job, range);
        case PHILOX: return sgd_range<PHILOX, T>(job, range);
        case HASH: return sgd_range<HASH, T>(job, range);
        case SIGN: return sgd_range<SIGN, T>(job, range);
        case SIGN_PHILOX: return sgd_range<SIGN_PHILOX, T>(job, range);
        case SIGN_HASH: return sgd_range<SIGN_HASH, T>(job, range);
        default: return sgd_range<NEAREST, T>(job, range);
    }
}

template <class T>
void adam_by_rule(const UpdateJob& job, Range range) {
    switch (job.rule) {
        case HALF_UP: return adam_range<HALF_UP, T>(job, range);
        case PHILOX: return adam_range<PHILOX, T>(job, range);
        case HASH: return adam_range<HASH, T>(job, range);
        case SIGN: return adam_range<SIGN, T>(job, range);
        case SIGN_PHILOX: return adam_range<SIGN_PHILOX, T>(job, range);
        case SIGN_HASH: return adam_range<SIGN_HASH, T>(job, range);
        default: return adam_range<NEAREST, T>(job, range);
    }
}

void sgd(const UpdateJob& job, Range range) {
    if (job.type == INT16) return sgd_by_rule<i16>(job, range);
    sgd_by_rule<i8>(job, range);
}

void adam(const UpdateJob& job, Range range) {
    if (job.type == INT16) return adam_by_rule<i16>(job, range);
    adam_by_rule<i8>(job, range);
}

// Gradients with the weights' decay; out[0] belongs to the first element of the range.
void decayed(const MomentumJob& given, float* out, Range range) {
    const MomentumJob job = given;
    const i32* const weight = job.weight + range.begin;
    const float* const grad = job.grad + range.begin;
    for (i64 i = 0, count = range.end - range.begin; i < count; ++i)
        out[i] = grad[i] + job.weight_decay * ((float)weight[i] * job.scale);
}

// Integers throughout: a loop that the compiler vectorises. The accumulator wraps at 32 bits; the weight's new value is
// exact in a double before it is clipped. gradient[0] belongs to the first element of the range.
void momentum(const MomentumJob& given, const i32* gradient, Range range) {
    const MomentumJob job = given;
    i32* const weight = job.weight + range.begin;
    i32* const accumulator = job.accumulator + range.begin;
    const u32 quarters = (u32)job.momentum_quarters;
    const double lr = (double)job.lr_code, limit = (double)job.limit;
    for (i64 i = 0, count = range.end - range.begin; i < count; ++i) {
        const i32 floor = accumulator[i] >> 2, rest = accumulator[i] & 3;
        const i32 quarter = floor + ((rest + 1 + (floor & 1)) >> 2);  // half to even
        const i32 sum = (i32)(quarters * (u32)quarter + (u32)gradient[i]);
        accumulator[i] = sum;
        const double moved = (double)weight[i] - lr * (double)sum;
        const double raised = moved < -limit ? -limit : moved;
        weight[i] = (i32)(raised > limit ? limit : raised);
    }
}

// steps[0] belongs to the first element of the range.
template <class T>
void subtract_from(T* codes, const i32* steps, i32 limit, i64 count) {
    for (i64 i = 0; i < count; ++i) {
        const i32 moved = (i32)codes[i] - steps[i], raised = moved < -limit ? -limit : moved;
        codes[i] = (T)(raised > limit ? limit : raised);
    }
}

// Codes minus steps within +-limit: a loop that the compiler vectorises.
void subtract_steps(void* codes, int type, const i32* steps, i32 limit, Range range) {
    const i64 count = range.end - range.begin;
    if (type == INT8) return subtract_from(static_cast<i8*>(codes) + range.begin, steps, limit, count);
    subtract_from(static_cast<i16*>(codes) + range.begin, steps, limit, count);
}
