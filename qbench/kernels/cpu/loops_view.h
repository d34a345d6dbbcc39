// Loops over views of codes and their gradients. Included inside the namespace of one instruction set.
//
// Jobs are copied first: a store of bytes might change what a reference shows, so that every vector would read it again.
#pragma once

// Running extremes; two sets, because one minimum waits for the last.
template <class V>
struct Span {
    typename V::F low[2], high[2];
    typename V::M nan = V::none();

    QBENCH_INLINE Span() {
        low[0] = low[1] = V::set(INFINITY);
        high[0] = high[1] = V::set(-INFINITY);
    }
    QBENCH_INLINE void add(typename V::F x, int u) {
        low[u & 1] = V::min(x, low[u & 1]);
        high[u & 1] = V::max(x, high[u & 1]);
        nan = V::either(nan, V::is_nan(x));
    }
    QBENCH_INLINE Extremes result() const {
        float lows[V::WIDTH], highs[V::WIDTH];
        V::store(lows, V::min(low[0], low[1]));
        V::store(highs, V::max(high[0], high[1]));
        Extremes all = {INFINITY, -INFINITY, V::any(nan)};
        for (int i = 0; i < V::WIDTH; ++i) {
            if (lows[i] < all.low) all.low = lows[i];
            if (highs[i] > all.high) all.high = highs[i];
        }
        return all;
    }
};


Extremes extremes(const float* x, Range range) {
    using V = Vector;
    Span<V> span;
    for_each_vector<V>(range, [&](i64 i, int u) __attribute__((always_inline)) { span.add(V::load(x + i), u); });
    return span.result();
}

Extremes apply_mask(const float* x, const u8* mask, float* out, Range range) {
    using V = Vector;
    Span<V> span;
    for_each_vector<V>(range, [&](i64 i, int u) __attribute__((always_inline)) {
        const auto y = V::keep(V::load_bits(mask, i), V::load(x + i));
        span.add(y, u);
        V::store(out + i, y);
    });
    return span.result();
}

// max(x + trunk, 0), and the bits of what is not 0: NaN is not.
template <bool HAS_TRUNK>
Extremes rectify_range(const float* x, const float* trunk, float* value, u8* mask, Range range) {
    using V = Vector;
    Span<V> span;
    for_each_vector<V>(range, [&](i64 i, int u) __attribute__((always_inline)) {
        auto y = V::load(x + i);
        if constexpr (HAS_TRUNK) y = V::add(y, V::load(trunk + i));
        y = V::max(V::set(0.0f), y);
        span.add(y, u);
        V::store_bits(mask, i, V::not_at_least(V::set(0.0f), y));
        V::store(value + i, y);
    });
    return span.result();
}

Extremes rectify(const float* x, const float* trunk, float* value, u8* mask, Range range) {
    return trunk ? rectify_range<true>(x, trunk, value, mask, range)
                 : rectify_range<false>(x, trunk, value, mask, range);
}

// g + scale * code where the mask is set, else 0.
template <class Code, bool HAS_G, bool HAS_MASK>
void join_range(const JoinJob& given, Range range) {
    using V = Vector;
    const JoinJob job = given;  // which, unlike the caller's, no store can change
    const Code* const codes = static_cast<const Code*>(job.codes);
    for_each_vector<V>(range, [&](i64 i, int) __attribute__((always_inline)) {
        auto y = V::mul(V::to_float(V::load(codes + i)), V::set(job.scale));
        if constexpr (HAS_G) y = V::add(V::load(job.g + i), y);
        if constexpr (HAS_MASK) y = V::keep(V::load_bits(job.mask, i), y);
        V::store(job.out + i, y);
    });
}

template <class Code>
void join_codes(const JoinJob& job, Range range) {
    if (job.g && job.mask) return join_range<Code, true, true>(job, range);
    if (job.g) return join_range<Code, true, false>(job, range);
    if (job.mask) return join_range<Code, false, true>(job, range);
    join_range<Code, false, false>(job, range);
}

void join_gradients(const JoinJob& job, Range range) {
    if (job.type == INT8) return join_codes<i8>(job, range);
    join_codes<i16>(job, range);
}

// How a code is read: ENTRIES 0 as the number itself, 16, 32 or 256 through a table of that many entries.
template <class V, int ENTRIES>
QBENCH_INLINE typename V::F read_code(const u8* codes, const float* table) {
    const auto code = V::load(codes);
    if constexpr (ENTRIES == 0) return V::to_float(code);
    else if constexpr (ENTRIES == 16) return V::look_up16(table, code);
    else if constexpr (ENTRIES == 32) return V::look_up32(table, code);
    else return V::look_up256(table, code);
}

template <int ENTRIES, bool HAS_TRUNK, bool HAS_RELU>
Extremes view_range(const ViewJob& given, Range range) {
    const ViewJob job = given;
    using V = Vector;
    Span<V> span;
    Place<V> place(job.period);
    place.seek(range.begin);
    for_each_vector<V>(range, [&](i64 i, int u) __attribute__((always_inline)) {
        const i64 c = place.next();
        const auto q = read_code<V, ENTRIES>(job.codes + i, job.table);
        auto value = V::add(V::mul(q, V::load(job.slope + c)), V::load(job.offset + c));
        if constexpr (HAS_TRUNK) value = V::add(value, V::load(job.trunk + i));
        if constexpr (HAS_RELU) {
            value = V::max(V::set(0.0f), value);
            V::store_bits(job.mask, i, V::less(V::set(0.0f), value));
        }
        span.add(value, u);
        V::store(job.value + i, value);
    });
    return span.result();
}

template <int ENTRIES>
Extremes view_by_options(const ViewJob& job, Range range) {
    if (job.trunk && job.relu) return view_range<ENTRIES, true, true>(job, range);
    if (job.trunk) return view_range<ENTRIES, true, false>(job, range);
    if (job.relu) return view_range<ENTRIES, false, true>(job, range);
    return view_range<ENTRIES, false, false>(job, range);
}

Extremes view(const ViewJob& job, Range range) {
    if (!job.table) return view_by_options<0>(job, range);
    if (job.entries <= 16) return view_by_options<16>(job, range);
    if (job.entries <= 32) return view_by_options<32>(job, range);
    return view_by_options<256>(job, range);
}

// g where slope[c] * q + offset[c] is positive, 0 elsewhere; all of g without relu.
template <class V, int ENTRIES>
struct Masked {
    typename V::F m, q;

    QBENCH_INLINE Masked(const GradientJob& job, i64 i, i64 c) {
        q = read_code<V, ENTRIES>(job.view.codes + i, job.view.table);
        m = V::load(job.g + (i - job.g_from));
        if (job.view.relu) {
            const auto value = V::add(V::mul(q, V::load(job.view.slope + c)), V::load(job.view.offset + c));
            m = V::keep(V::less(V::set(0.0f), value), m);
        }
    }
};

Extremes gradient_extremes(const GradientJob& given, Range range) {
    const GradientJob job = given;
    using V = Vector;
    Span<V> span;
    Place<V> place(job.view.period);
    place.seek(range.begin);
    for_each_vector<V>(range, [&](i64 i, int u) __attribute__((always_inline)) {
        span.add(Masked<V, 0>(job, i, place.next()).m, u);
    });
    return span.result();
}

// Codes e of masked gradients over the codes of the view, with sums of e and of e * code.
template <class V>
struct GradientCodes {
    u8* const out;
    u32 *const sums, *const products;
    Place<V> place;

    GradientCodes(const GradientJob& job, i64 begin)
        : out(static_cast<u8*>(job.encode.out)), sums(job.sums), products(job.products), place(job.view.period) {
        place.seek(begin);
    }
    QBENCH_INLINE void store(i64 i, const typename V::I* codes, int vectors) {
#pragma GCC unroll 4
        for (int u = 0; u < vectors; ++u) {
            const i64 c = place.next();
            const auto product = V::mul16(codes[u], V::load(out + i + u * V::WIDTH));
            V::store(sums + c, V::add(V::load(sums + c), codes[u]));
            V::store(products + c, V::add(V::load(products + c), product));
        }
        store_codes<V>(out + i, codes, vectors);
    }
};

template <int RULE>
void encode_gradient_range(const GradientJob& given, Range range) {
    const GradientJob job = given;
    using V = Vector;
    using F = typename V::F;
    const EncodeJob& encode = job.encode;
    const F scale = V::set(encode.scale), zero = V::set(encode.zero), low = V::set(0.0f), high = V::set(encode.high);
    Place<V> place(job.view.period);
    place.seek(range.begin);
    GradientCodes<V> codes(job, range.begin);
    encode_by_rule<V, RULE>(
        encode.key, range,
        [&](i64 i) __attribute__((always_inline)) {
            const F y = V::add(V::div(Masked<V, 0>(job, i, place.next()).m, scale), zero);
            return V::min(V::max(y, low), high);
        },
        [&](i64 i, const typename V::I* found, int vectors) __attribute__((always_inline)) {
            codes.store(i, found, vectors);
        });
}

void encode_gradient(const GradientJob& job, Range range) {
    switch (job.encode.rule) {
        case PHILOX: return encode_gradient_range<PHILOX>(job, range);
        case HASH: return encode_gradient_range<HASH>(job, range);
        default: return encode_gradient_range<NEAREST>(job, range);
    }
}

template <int ENTRIES>
void level_gradient_range(const GradientJob& given, Range range) {
    const GradientJob job = given;
    using V = Vector;
    Place<V> place(job.view.period);
    place.seek(range.begin);
    for_each_vector<V>(range, [&](i64 i, int) __attribute__((always_inline)) {
        const i64 c = place.next();
        const Masked<V, ENTRIES> masked(job, i, c);
        const auto linear = V::add(V::mul(V::load(job.a + c), masked.m), V::load(job.b + c));
        V::store(job.out + i, V::add(linear, V::mul(V::load(job.c + c), masked.q)));
    });
}

void level_gradient(const GradientJob& job, Range range) {
    if (job.view.entries <= 16) return level_gradient_range<16>(job, range);
    if (job.view.entries <= 32) return level_gradient_range<32>(job, range);
    level_gradient_range<256>(job, range);
}
