// Winograd's forms of a 3x3 convolution (Lavin and Gray 2016, arXiv:1509.09308) along one dimension, in integers.
// Included inside each instruction set's namespace.
//
// A form is outputs = A (G filter * B input), a product per point. G is scaled so that it is integral, and A so that
// the outputs come out SCALE times too large along each dimension; quotient() takes that off. Sums are modulo 2^32.
// WINOGRAD_FORMS says how much the transforms enlarge and how large an output may be.

// OUT x OUT values from IN x IN: a form's transform down the columns, then along the rows. at(y, x) is the address of a
// value, along(from, to) makes OUT values of IN, write(y, x, value) takes a result.
template <class Type, int IN, int OUT, class At, class Along, class Write>
QBENCH_INLINE void along_both(const At& at, const Along& along, const Write& write) {
    Type half[OUT][IN];
#pragma GCC unroll 6
    for (int x = 0; x < IN; ++x) {
        Type from[IN], to[OUT];
#pragma GCC unroll 6
        for (int y = 0; y < IN; ++y) __builtin_memcpy(&from[y], at(y, x), sizeof(Type));
        along(from, to);
#pragma GCC unroll 6
        for (int y = 0; y < OUT; ++y) half[y][x] = to[y];
    }
#pragma GCC unroll 6
    for (int y = 0; y < OUT; ++y) {
        Type to[OUT];
        along(half[y], to);
#pragma GCC unroll 6
        for (int x = 0; x < OUT; ++x) write(y, x, to[x]);
    }
}

// F(2, 3), of the points 0, 1, -1 and infinity. Outputs are 2 * 2 times too large.
struct Winograd2 {
    static constexpr int OUTPUTS = 2, SIDE = 4;

    template <class Type>
    static QBENCH_INLINE void filter(const Type* w, Type* out) {
        out[0] = w[0] + w[0];
        out[1] = w[0] + w[1] + w[2];
        out[2] = w[0] - w[1] + w[2];
        out[3] = w[2] + w[2];
    }

    template <class Type>
    static QBENCH_INLINE void input(const Type* d, Type* out) {
        out[0] = static_cast<Type>(d[0] - d[2]);
        out[1] = static_cast<Type>(d[1] + d[2]);
        out[2] = static_cast<Type>(d[2] - d[1]);
        out[3] = static_cast<Type>(d[1] - d[3]);
    }

    template <class Bits>
    static QBENCH_INLINE void output(const Bits* m, Bits* out) {
        out[0] = m[0] + m[1] + m[2];
        out[1] = m[1] - m[2] - m[3];
    }

    template <class Ints, class Bits>
    static QBENCH_INLINE Ints quotient(Bits sum) {
        return reinterpret_cast<Ints>(sum) >> 2;
    }
};

// F(4, 3), of the points 0, 1, -1, 2, -2 and infinity. Outputs are 24 * 24 times too large.
struct Winograd4 {
    static constexpr int OUTPUTS = 4, SIDE = 6;

    // Rows [6,0,0], -[1,1,1], -[1,-1,1], [1,2,4], [1,-2,4], [0,0,6].
    template <class Type>
    static QBENCH_INLINE void filter(const Type* w, Type* out) {
        const Type sum = w[0] + w[2], wide = w[0] + w[2] * 4, twice = w[1] + w[1];
        out[0] = w[0] * 6;
        out[1] = -sum - w[1];
        out[2] = w[1] - sum;
        out[3] = wide + twice;
        out[4] = wide - twice;
        out[5] = w[2] * 6;
    }

    // Rows [4,0,-5,0,1,0], [0,-4,-4,1,1,0], [0,4,-4,-1,1,0], [0,-2,-1,2,1,0], [0,2,-1,-2,1,0], [0,4,0,-5,0,1].
    template <class Type>
    static QBENCH_INLINE void input(const Type* d, Type* out) {
        const Type even = static_cast<Type>(d[4] - d[2] * 4), odd = static_cast<Type>(d[3] - d[1] * 4);
        const Type far = static_cast<Type>(d[4] - d[2]), twice = static_cast<Type>((d[3] - d[1]) * 2);
        out[0] = static_cast<Type>((d[0] - d[2]) * 4 + far);
        out[1] = static_cast<Type>(even + odd);
        out[2] = static_cast<Type>(even - odd);
        out[3] = static_cast<Type>(far + twice);
        out[4] = static_cast<Type>(far - twice);
        out[5] = static_cast<Type>(d[5] - d[3] - twice * 2);
    }

    // Rows [1,4,4,1,1,0], [0,4,-4,2,-2,0], [0,4,4,4,4,0], [0,4,-4,8,-8,4].
    template <class Bits>
    static QBENCH_INLINE void output(const Bits* m, Bits* out) {
        const Bits near_sum = m[1] + m[2], near = m[1] - m[2], far_sum = m[3] + m[4], far = m[3] - m[4];
        out[0] = m[0] + (near_sum << 2) + far_sum;
        out[1] = (near + near + far) << 1;
        out[2] = (near_sum + far_sum) << 2;
        out[3] = (near + far + far + m[5]) << 2;
    }

    // 576 = 9 * 2^6; the inverse of 9 modulo 2^32.
    template <class Ints, class Bits>
    static QBENCH_INLINE Ints quotient(Bits sum) {
        return reinterpret_cast<Ints>(sum * 954437177u) >> 6;
    }
};
