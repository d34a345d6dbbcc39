// Loops over activations that are bounded to the range of their grid, and over their errors. Included inside the
// namespace of one instruction set.
#pragma once

// x, or x plus what stands beside it: nothing, floats, or codes with a scale.
template <class V, class Beside>
QBENCH_INLINE typename V::F plus(typename V::F x, const void* beside, float scale, i64 i) {
    if constexpr (std::is_same<Beside, void>::value) return x;
    else if constexpr (std::is_same<Beside, float>::value) return V::add(x, V::load(static_cast<const float*>(beside) + i));
    else return V::add(x, V::mul(V::to_float(V::load(static_cast<const Beside*>(beside) + i)), V::set(scale)));
}

// As a source of values for encode_range, which asks for every vector once; what became of them is stored on the way.
template <class V, class Trunk>
struct BoundedValues {
    const BoundedJob job;

    explicit BoundedValues(const BoundedJob& given) : job(given) {}
    explicit BoundedValues(const EncodeJob& encode) : job(*encode.bounded) {}
    QBENCH_INLINE void seek(i64) {}
    QBENCH_INLINE typename V::F next(i64 i) {
        const auto top = V::set(job.limit);
        const auto v = plus<V, Trunk>(V::mul(V::load(job.y + i), V::set(job.inverse)), job.trunk, job.trunk_scale, i);
        const auto below = V::either(V::is_nan(v), V::at_least(top, v));
        const auto unclipped = job.relu ? below : V::but_not(below, V::less(v, V::set(-job.limit)));
        V::store_bits(job.unclipped, i, unclipped);
        V::store_bits(job.passed, i, job.relu ? V::but_not(unclipped, V::at_least(V::set(0.0f), v)) : unclipped);
        return V::min(top, V::max(V::set(job.relu ? 0.0f : -job.limit), v));
    }
};

template <class V>
using BoundedAlone = BoundedValues<V, void>;
template <class V>
using BoundedWithFloats = BoundedValues<V, float>;
template <class V>
using BoundedWithBytes = BoundedValues<V, i8>;
template <class V>
using BoundedWithWords = BoundedValues<V, i16>;

bool encode_bounded(const EncodeJob& job, Range range) {
    const BoundedJob& bounded = *job.bounded;
    if (!bounded.trunk) return encode_near<BoundedAlone>(job, range);
    switch (bounded.trunk_type) {
        case INT8: return encode_near<BoundedWithBytes>(job, range);
        case INT16: return encode_near<BoundedWithWords>(job, range);
        default: return encode_near<BoundedWithFloats>(job, range);
    }
}

template <class Trunk>
void bounded_range(const BoundedJob& job, Range range) {
    using V = Vector;
    BoundedValues<V, Trunk> source(job);
    float* const value = job.value;
    for_each_vector<V>(range, [&](i64 i, int) __attribute__((always_inline)) { V::store(value + i, source.next(i)); });
}

void bounded_values(const BoundedJob& job, Range range) {
    if (!job.trunk) return bounded_range<void>(job, range);
    switch (job.trunk_type) {
        case INT8: return bounded_range<i8>(job, range);
        case INT16: return bounded_range<i16>(job, range);
        default: return bounded_range<float>(job, range);
    }
}

// The error where a bit of `mask` is set, 0 elsewhere.
template <class V, class Joined>
QBENCH_INLINE typename V::F bounded_error(const BoundedErrorJob& job, const u8* mask, i64 i) {
    return V::keep(V::load_bits(mask, i), plus<V, Joined>(V::load(job.g + i), job.joined, job.joined_scale, i));
}

template <class V, class Joined>
struct BoundedError {
    const BoundedErrorJob job;

    explicit BoundedError(const EncodeJob& encode) : job(*encode.bounded_error) {}
    QBENCH_INLINE void seek(i64) {}
    QBENCH_INLINE typename V::F next(i64 i) { return bounded_error<V, Joined>(job, job.passed, i); }
};

template <class V>
using ErrorAlone = BoundedError<V, void>;
template <class V>
using ErrorWithBytes = BoundedError<V, i8>;
template <class V>
using ErrorWithWords = BoundedError<V, i16>;

void encode_bounded_error(const EncodeJob& job, Range range) {
    const BoundedErrorJob& error = *job.bounded_error;
    if (!error.joined) encode_near<ErrorAlone>(job, range);
    else if (error.joined_type == INT8) encode_near<ErrorWithBytes>(job, range);
    else encode_near<ErrorWithWords>(job, range);
}

template <class Joined>
Extremes error_extremes(const BoundedErrorJob& job, Range range) {
    using V = Vector;
    Span<V> span;
    for_each_vector<V>(range, [&](i64 i, int u) __attribute__((always_inline)) {
        span.add(bounded_error<V, Joined>(job, job.unclipped, i), u);
    });
    return span.result();
}

Extremes bounded_error_extremes(const BoundedErrorJob& job, Range range) {
    if (!job.joined) return error_extremes<void>(job, range);
    if (job.joined_type == INT8) return error_extremes<i8>(job, range);
    return error_extremes<i16>(job, range);
}
