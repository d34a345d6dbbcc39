// Walks over elements. Included inside the namespace of one instruction set.
#pragma once

// Calls body(i, vectors) for each group of vectors; for single elements the last one may have fewer.
template <class V, class Body>
QBENCH_INLINE void for_each_group(Range range, const Body& body) {
    constexpr i64 GROUP = V::GROUP * V::WIDTH;
    i64 i = range.begin;
    for (; i + GROUP <= range.end; i += GROUP) body(i, V::GROUP);
    if (V::WIDTH == 1 && i < range.end) body(i, (int)((u64)(range.end - i) % V::GROUP));
}

// Codes of a group, of which single elements may be fewer.
template <class V, class T>
QBENCH_INLINE void store_codes(T* out, const typename V::I* codes, int vectors) {
    if (vectors == V::GROUP) return V::store_group(out, codes);
    for (int u = 0; u < vectors; ++u) V::store(out + u * V::WIDTH, codes[u]);
}

// The same with body(i, u) for each vector, u its place in the group.
template <class V, class Body>
QBENCH_INLINE void for_each_vector(Range range, const Body& body) {
    for_each_group<V>(range, [&](i64 i, int vectors) __attribute__((always_inline)) {
#pragma GCC unroll 4
        for (int u = 0; u < vectors; ++u) body(i + u * V::WIDTH, u);
    });
}
