// Loops that turn values into codes. Included inside the namespace of one instruction set.
#pragma once

// Values straight from memory.
template <class V>
struct Plain {
    const float* x;
    i64 from;

    explicit Plain(const EncodeJob& job) : x(job.x), from(job.x_from) {}
    QBENCH_INLINE void seek(i64) {}
    QBENCH_INLINE typename V::F next(i64 i) { return V::load(x + (i - from)); }
};

// Where an element stands among the channels, for tables of `period` channels that go on for one vector more.
template <class V>
struct Place {
    i64 period, step, c = 0;

    explicit Place(i64 period) : period(period), step(V::WIDTH % period) {}
    QBENCH_INLINE void seek(i64 i) { c = i % period; }
    QBENCH_INLINE i64 next() {
        const i64 here = c;
        c += step;
        if (c >= period) c -= period;
        return here;
    }
};

// max(slope[c] * code + offset[c], floor).
template <class V>
struct View {
    const u8* codes;
    const float *slope, *offset;
    typename V::F floor;
    Place<V> place;

    explicit View(const EncodeJob& job)
        : codes(job.codes), slope(job.slope), offset(job.offset), floor(V::set(job.floor)), place(job.period) {}
    QBENCH_INLINE void seek(i64 i) { place.seek(i); }
    QBENCH_INLINE typename V::F next(i64 i) {
        const i64 c = place.next();
        const auto code = V::to_float(V::load(codes + i));
        return V::max(floor, V::add(V::mul(V::load(slope + c), code), V::load(offset + c)));
    }
};

template <int RULE, class T, template <class> class Source>
bool encode_range(const EncodeJob& job, Range range) {
    using V = Vector;
    using F = typename V::F;
    constexpr bool IS_SIGNED = T(-1) < T(0);
    Source<V> source(job);
    T* const out = static_cast<T*>(job.out);
    const i64 out_from = job.out_from;
    const F scale = V::set(job.scale), zero = V::set(job.zero), low = V::set(job.low), high = V::set(job.high);
    auto nan = V::none();
    source.seek(range.begin);
    const auto value = [&](i64 i) __attribute__((always_inline)) {
        const F x = source.next(i), y = V::add(V::div(x, scale), zero), clipped = V::min(V::max(y, low), high);
        if constexpr (!IS_SIGNED) return clipped;
        nan = V::either(nan, V::is_nan(x));
        return V::keep(V::at_least(y, y), clipped);  // 0 for NaN
    };
    const auto store = [&](i64 i, const typename V::I* codes, int vectors) __attribute__((always_inline)) {
        if constexpr (std::is_same_v<T, float>) {
#pragma GCC unroll 4
            for (int u = 0; u < vectors; ++u) V::store(out + (i - out_from) + u * V::WIDTH, V::to_float(codes[u]));
        } else {
            store_codes<V>(out + (i - out_from), codes, vectors);
        }
    };
    const auto finish = [&]([[maybe_unused]] Range piece) __attribute__((always_inline)) {
        if constexpr (std::is_same_v<T, float>)
            for_each_vector<V>(piece, [&](i64 i, int) __attribute__((always_inline)) {
                V::store(out + (i - out_from), V::mul(V::load(out + (i - out_from)), scale));
            });
    };
    encode_by_rule<V, RULE>(job.key, range, value, store, finish);
    return V::any(nan);
}

// Codes -1 and +1, 0 for NaN where it could be either.
template <int RULE>
bool encode_sign(const EncodeJob& job, Range range) {
    using V = Vector;
    using F = typename V::F;
    Rounder<V, RULE> round(job.key);
    i8* const out = static_cast<i8*>(job.out);
    const F scale = V::set(job.scale);
    auto nan = V::none();
    for_each_group<V>(range, [&](i64 i, int vectors) __attribute__((always_inline)) {
        round.draw(i);
#pragma GCC unroll 4
        for (int u = 0; u < vectors; ++u) {
            const F x = V::load(job.x + i + u * V::WIDTH), y = V::div(x, scale);
            nan = V::either(nan, V::is_nan(x));
            V::store(out + i + u * V::WIDTH, V::drop(V::is_nan(y), round.code(y, x, u, y, y)));
        }
    });
    return V::any(nan);
}

template <class T, template <class> class Source>
bool encode_by_number(const EncodeJob& job, Range range) {
    switch (job.rule) {
        case HALF_UP: return encode_range<HALF_UP, T, Source>(job, range);
        case PHILOX: return encode_range<PHILOX, T, Source>(job, range);
        case HASH: return encode_range<HASH, T, Source>(job, range);
        default: return encode_range<NEAREST, T, Source>(job, range);
    }
}

template <template <class> class Source>
bool encode_by_type(const EncodeJob& job, Range range) {
    switch (job.type) {
        case INT8: return encode_by_number<i8, Source>(job, range);
        case INT16: return encode_by_number<i16, Source>(job, range);
        case INT32: return encode_by_number<i32, Source>(job, range);
        default: return encode_by_number<u8, Source>(job, range);
    }
}

// Whether a NaN was met among the values.
bool encode(const EncodeJob& job, Range range) {
    switch (job.rule) {
        case SIGN: return encode_sign<SIGN>(job, range);
        case SIGN_PHILOX: return encode_sign<SIGN_PHILOX>(job, range);
        case SIGN_HASH: return encode_sign<SIGN_HASH>(job, range);
        default: break;
    }
    if (job.type == FLOAT32) return encode_by_number<float, Plain>(job, range);
    return job.codes ? encode_by_type<View>(job, range) : encode_by_type<Plain>(job, range);
}

// Signed codes, rounded to nearest. Whether a NaN was met among the values.
template <template <class> class Source>
bool encode_near(const EncodeJob& job, Range range) {
    switch (job.type) {
        case INT8: return encode_range<NEAREST, i8, Source>(job, range);
        case INT16: return encode_range<NEAREST, i16, Source>(job, range);
        default: return encode_range<NEAREST, i32, Source>(job, range);
    }
}

template <int RULE, class T>
void encode_at_range(const EncodeJob& job, const i64* at, Range range) {
    using V = Single;
    Rounder<V, RULE> round(job.key);
    T* const out = static_cast<T*>(job.out);
    for (i64 p = range.begin; p < range.end; ++p) {
        const i64 i = at[p], first = i / V::GROUP * V::GROUP;
        round.draw(first);
        const float y = V::add(V::div(job.x[p], job.scale), job.zero);
        V::store(out + i, V::drop(V::is_nan(y), round.code(y, job.x[p], (int)(i - first), job.low, job.high)));
    }
}

template <class T>
void encode_at_by_rule(const EncodeJob& job, const i64* at, Range range) {
    switch (job.rule) {
        case HALF_UP: return encode_at_range<HALF_UP, T>(job, at, range);
        case PHILOX: return encode_at_range<PHILOX, T>(job, at, range);
        case HASH: return encode_at_range<HASH, T>(job, at, range);
        default: return encode_at_range<NEAREST, T>(job, at, range);
    }
}

// Codes of single values: x[p] is that of element at[p].
void encode_at(const EncodeJob& job, const i64* at, Range range) {
    switch (job.type) {
        case INT8: return encode_at_by_rule<i8>(job, at, range);
        case INT16: return encode_at_by_rule<i16>(job, at, range);
        case INT32: return encode_at_by_rule<i32>(job, at, range);
        default: return encode_at_by_rule<u8>(job, at, range);
    }
}

// where |y| >= 1: round(y) within +-(steps - 1), times steps; else round(y * steps). y = x / scale.
bool encode_flag(const EncodeJob& job, Range range) {
    using V = Vector;
    using F = typename V::F;
    i16* const out = static_cast<i16*>(job.out);
    const F scale = V::set(job.scale), steps = V::set(job.high + 1), low = V::set(job.low), high = V::set(job.high);
    const auto whole_steps = V::set_int((i32)job.high + 1);
    auto nan = V::none();
    for_each_vector<V>(range, [&](i64 i, int) __attribute__((always_inline)) {
        const F x = V::load(job.x + i);
        const F y = V::div(x, scale);
        const F near = V::min(V::max(y, V::set(-1.0f)), V::set(1.0f));
        const auto fine = V::nearest(V::mul(near, steps));
        const auto coarse = V::mul(V::nearest(V::min(V::max(y, low), high)), whole_steps);
        const auto is_coarse = V::either(V::at_least(y, V::set(1.0f)), V::at_least(V::set(-1.0f), y));
        nan = V::either(nan, V::is_nan(x));
        V::store(out + i, V::drop(V::is_nan(y), V::select(is_coarse, coarse, fine)));
    });
    return V::any(nan);
}

// (code - zero) * scale.
template <class T>
void decode_range(const void* codes, float scale, float zero, float* out, Range range) {
    using V = Vector;
    const T* const typed = static_cast<const T*>(codes);
    for_each_vector<V>(range, [&](i64 i, int) __attribute__((always_inline)) {
        const auto code = V::to_float(V::load(typed + i));
        V::store(out + i, V::mul(V::sub(code, V::set(zero)), V::set(scale)));
    });
}

void decode(const void* codes, int type, float scale, float zero, float* out, Range range) {
    switch (type) {
        case INT8: return decode_range<i8>(codes, scale, zero, out, range);
        case INT16: return decode_range<i16>(codes, scale, zero, out, range);
        case INT32: return decode_range<i32>(codes, scale, zero, out, range);
        default: return decode_range<u8>(codes, scale, zero, out, range);
    }
}
