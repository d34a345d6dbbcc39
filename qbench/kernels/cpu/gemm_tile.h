// The inner loops: tiles of sums over segments. Included inside each instruction set's namespace.
//
// An instruction set gives the types A, B (prepared elements), Sum, Left, Right (vectors), the numbers rows, lanes,
// vectors and unit, and: zero(), load(int32*), store(int32*, Sum), broadcast(A*) a unit to all lanes, panel(B*) a unit
// of `lanes` columns, and add(Sum, Left, Right), which adds up the products of each unit.

// M rows at a + m * row_step, whose units follow each other at `unit_step`; V vectors of columns.
template <class Isa, int M, int V>
QBENCH_INLINE void tile(const typename Isa::A* a, std::int64_t row_step, std::int64_t unit_step,
                        const typename Isa::B* b, const Segment* segments, std::int64_t count, std::int32_t* sums,
                        bool fresh) {
    typename Isa::Sum total[M][V];
#pragma GCC unroll 32
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            total[m][v] = fresh ? Isa::zero() : Isa::load(sums + m * Isa::columns + v * Isa::lanes);
        }
    }
    for (std::int64_t s = 0; s < count; ++s) {
        const typename Isa::A *upper = a + segments[s].a, *lower = upper + 4 * row_step;
        const typename Isa::B* right = b + segments[s].b * V * Isa::lanes * Isa::unit;
        for (std::int64_t u = segments[s].count; u > 0; --u) {
            typename Isa::Right columns[V];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) columns[v] = Isa::panel(right + v * Isa::lanes * Isa::unit);
#pragma GCC unroll 32
            for (int m = 0; m < M; ++m) {
                const typename Isa::Left left =
                    Isa::broadcast(m < 4 ? upper + m * row_step : lower + (m - 4) * row_step);
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) total[m][v] = Isa::add(total[m][v], left, columns[v]);
            }
            upper += unit_step;
            lower += unit_step;
            right += V * Isa::lanes * Isa::unit;
        }
    }
#pragma GCC unroll 32
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) Isa::store(sums + m * Isa::columns + v * Isa::lanes, total[m][v]);
    }
}

template <class Isa, int M>
void rows_of_image(const typename Isa::A* a, std::int64_t row_step, const typename Isa::B* b, const Segment* segments,
                   std::int64_t count, std::int64_t vectors, std::int32_t* sums) {
    if (vectors == 1) return tile<Isa, M, 1>(a, row_step, Isa::unit, b, segments, count, sums, true);
    tile<Isa, M, Isa::vectors>(a, row_step, Isa::unit, b, segments, count, sums, true);
}

// What the loops over outputs call for vector instruction sets.
template <class Isa>
struct VectorTiles {
    static void begin() {}
    static void end() {}

    // `rows` rows of an image, row_step elements apart. b_signed: what tiles of bytes ask for.
    static void image(std::int64_t rows, const typename Isa::A* a, std::int64_t row_step, const typename Isa::B* b,
                      bool /* b_signed */, const Segment* segments, std::int64_t count, std::int64_t vectors,
                      std::int32_t* sums) {
        image_from<Isa::rows>(rows, a, row_step, b, segments, count, vectors, sums);
    }

    // All rows of a block that was packed as [unit][row][term], added to `sums` unless they are fresh.
    static void packed(const typename Isa::A* a, std::int64_t, const typename Isa::B* b, bool /* b_signed */,
                       const Segment* segments, std::int64_t count, std::int64_t vectors, std::int32_t* sums, bool fresh) {
        constexpr std::int64_t unit_step = Isa::rows * Isa::unit;
        if (vectors == 1) {
            tile<Isa, Isa::rows, 1>(a, Isa::unit, unit_step, b, segments, count, sums, fresh);
        } else {
            tile<Isa, Isa::rows, Isa::vectors>(a, Isa::unit, unit_step, b, segments, count, sums, fresh);
        }
    }

  private:
    template <int M>
    static void image_from(std::int64_t rows, const typename Isa::A* a, std::int64_t row_step,
                           const typename Isa::B* b, const Segment* segments, std::int64_t count, std::int64_t vectors,
                           std::int32_t* sums) {
        if (rows == M) return rows_of_image<Isa, M>(a, row_step, b, segments, count, vectors, sums);
        if constexpr (M > 1) image_from<M - 1>(rows, a, row_step, b, segments, count, vectors, sums);
    }
};
