// Loops over rows that are normalised on a direct grid. Included inside the namespace of one instruction set.
#pragma once

// The vectors of some neighbouring channels.
template <class V>
struct DirectChannels {
    typename V::F mean, inverse, slope, offset;

    QBENCH_INLINE DirectChannels(const DirectJob& job, i64 c)
        : mean(V::load(job.mean + c)), inverse(V::load(job.inverse + c)), slope(V::load(job.slope + c)),
          offset(V::load(job.offset + c)) {}
};

// z = (x - mean) * inverse and t = round(z * unit) within +-top, NaN where z is; the value is slope * t + offset.
template <class V>
struct OnGrid {
    typename V::F z, t, value;

    QBENCH_INLINE OnGrid(const DirectJob& job, const DirectChannels<V>& at, i64 i) {
        z = V::mul(V::sub(V::load(job.x + i), at.mean), at.inverse);
        const auto steps = V::mul(z, V::set(job.unit));
        const auto near = V::min(V::max(steps, V::set(-job.top)), V::set(job.top));
        t = V::select(V::is_nan(steps), steps, V::to_float(V::nearest(near)));
        value = V::add(V::mul(at.slope, t), at.offset);
    }
};

// As a source of values for encode_range.
template <class V>
struct DirectValues {
    const DirectJob job;
    typename V::F floor;
    Place<V> place;

    explicit DirectValues(const EncodeJob& encode)
        : job(*encode.direct), floor(V::set(encode.floor)), place(encode.direct->period) {}
    QBENCH_INLINE void seek(i64 i) { place.seek(i); }
    QBENCH_INLINE typename V::F next(i64 i) {
        return V::max(floor, OnGrid<V>(job, DirectChannels<V>(job, place.next()), i).value);
    }
};

bool encode_direct(const EncodeJob& job, Range range) { return encode_near<DirectValues>(job, range); }

template <bool HAS_TRUNK, bool HAS_RELU>
void direct_view_range(const DirectJob& given, Range range) {
    using V = Vector;
    const DirectJob job = given;  // which, unlike the caller's, no store can change
    Place<V> place(job.period);
    place.seek(range.begin);
    for_each_vector<V>(range, [&](i64 i, int) __attribute__((always_inline)) {
        auto value = OnGrid<V>(job, DirectChannels<V>(job, place.next()), i).value;
        if constexpr (HAS_TRUNK) value = V::add(value, V::load(job.trunk + i));
        if constexpr (HAS_RELU) {
            value = V::max(V::set(0.0f), value);
            V::store_bits(job.mask, i, V::less(V::set(0.0f), value));
        }
        V::store(job.value + i, value);
    });
}

void direct_view(const DirectJob& job, Range range) {
    if (job.trunk && job.relu) return direct_view_range<true, true>(job, range);
    if (job.trunk) return direct_view_range<true, false>(job, range);
    if (job.relu) return direct_view_range<false, true>(job, range);
    direct_view_range<false, false>(job, range);
}

// The gradient, G floats or codes, where the value is positive, 0 elsewhere; all of it without relu.
template <class V, class G>
QBENCH_INLINE typename V::F direct_masked(const DirectJob& job, const OnGrid<V>& at, i64 i) {
    const G* const g = static_cast<const G*>(job.g) + i;
    typename V::F m;
    if constexpr (std::is_same<G, float>::value) m = V::load(g);
    else m = V::mul(V::to_float(V::load(g)), V::set(job.g_scale));
    return job.relu ? V::keep(V::less(V::set(0.0f), at.value), m) : m;
}

template <class G>
struct DirectSumsAt {
    using V = Vector;
    DirectChannels<V> channels;
    V::D first, second, third;

    QBENCH_INLINE DirectSumsAt(const SumsJob& job, i64 c)
        : channels(*job.direct, c), first(V::load(job.first + c)), second(V::load(job.second + c)),
          third(V::load(job.third + c)) {}
    QBENCH_INLINE void add(const SumsJob& job, i64 i, i64) {
        const OnGrid<V> at(*job.direct, channels, i);
        const auto m = V::to_double(direct_masked<V, G>(*job.direct, at, i));
        first = V::add(first, m);
        second = V::add_exact(second, m, V::to_double(at.t));
        third = V::add_exact(third, m, V::to_double(at.z));
    }
    QBENCH_INLINE void store(const SumsJob& job, i64 c) const {
        V::store(job.first + c, first);
        V::store(job.second + c, second);
        V::store(job.third + c, third);
    }
};

// Of the masked gradient m, of m * t and of m * z.
void direct_sums(const SumsJob& job, Range range) {
    switch (job.direct->g_type) {
        case INT8: return add_range<DirectSumsAt<i8>>(job, range);
        case INT16: return add_range<DirectSumsAt<i16>>(job, range);
        default: return add_range<DirectSumsAt<float>>(job, range);
    }
}

// (a * m + b) + c * z.
template <class G>
Extremes direct_gradient_range(const DirectJob& given, Range range) {
    using V = Vector;
    const DirectJob job = given;  // which, unlike the caller's, no store can change
    Span<V> span;
    Place<V> place(job.period);
    place.seek(range.begin);
    for_each_vector<V>(range, [&](i64 i, int u) __attribute__((always_inline)) {
        const i64 c = place.next();
        const OnGrid<V> at(job, DirectChannels<V>(job, c), i);
        const auto linear = V::add(V::mul(V::load(job.a + c), direct_masked<V, G>(job, at, i)), V::load(job.b + c));
        const auto y = V::add(linear, V::mul(V::load(job.c + c), at.z));
        span.add(y, u);
        V::store(job.out + i, y);
    });
    return span.result();
}

Extremes direct_gradient(const DirectJob& job, Range range) {
    switch (job.g_type) {
        case INT8: return direct_gradient_range<i8>(job, range);
        case INT16: return direct_gradient_range<i16>(job, range);
        default: return direct_gradient_range<float>(job, range);
    }
}
