// Reductions over the rows of a [rows, channels] tensor, one result per channel.
#include "elements.cuh"

const int COLUMN_THREADS = 256;
const int COLUMN_BLOCKS = 4;  // of a multiprocessor, as many as the launchers ask for: a second wave would be of few

// How a block of COLUMN_THREADS threads lies on the tensor: `width` neighbouring groups of V channels, and as many
// rows at a time as threads are left. blockIdx.x counts parts of the rows, blockIdx.y tiles of groups.
template <int V> struct ColumnTile {
    i64 group, row_step;
    int width, lane_row;
    bool is_active;

    DEVICE explicit ColumnTile(i64 channels) {
        const i64 groups = channels / V;
        width = groups < WARP ? (int)groups : WARP;
        row_step = COLUMN_THREADS / width;
        lane_row = threadIdx.x / width;
        group = (i64)blockIdx.y * width + threadIdx.x % width;
        is_active = lane_row < row_step && group < groups;
    }

    DEVICE i64 channel() const { return group * V; }
};

// A range of rows: part `part` of `parts` nearly equal consecutive ones of [begin, end).
struct RowRange {
    i64 begin, end;

    DEVICE RowRange(i64 first, i64 last, i64 part, i64 parts) {
        const i64 length = (last - first + parts - 1) / parts;
        begin = smaller(first + part * length, last);
        end = smaller(begin + length, last);
    }
};

// Rows that a thread reads before it works on the first; fewer where registers for them would cost a block.
const int UNROLLED_ROWS = 4;

// item = load(row) and then use(item, row) for every row of a thread, from the first to the last. partial(j) is then what
// the thread has found for its j-th channel, and publish(channel, partial) hands out the block's result. Partials are
// merged with merge(other), always in the same order.
template <int V, typename Partial, int ROWS = UNROLLED_ROWS, typename Load, typename Use, typename Find, typename Publish>
DEVICE void reduce_columns(const ColumnTile<V>& tile, RowRange rows, Load load, Use use, Find partial,
                           Publish publish) {
    using Item = decltype(load((i64)0));
    __shared__ __align__(16) u8 memory[COLUMN_THREADS * V * sizeof(Partial)];
    Partial(*shared)[V] = reinterpret_cast<Partial(*)[V]>(memory);
    for (i64 row = rows.begin + tile.lane_row; tile.is_active && row < rows.end; row += ROWS * tile.row_step) {
        Item items[ROWS];
#pragma unroll
        for (int u = 0; u < ROWS; ++u)
            if (row + u * tile.row_step < rows.end) items[u] = load(row + u * tile.row_step);
#pragma unroll
        for (int u = 0; u < ROWS; ++u)
            if (row + u * tile.row_step < rows.end) use(items[u], row + u * tile.row_step);
    }
#pragma unroll
    for (int j = 0; j < V; ++j) shared[threadIdx.x][j] = partial(j);
    __syncthreads();  // every thread's partials are there
    int alive = (int)tile.row_step;
    while (alive > 1) {
        const int half = (alive + 1) / 2;
        if (tile.lane_row + half < alive)
#pragma unroll
            for (int j = 0; j < V; ++j) shared[threadIdx.x][j].merge(shared[threadIdx.x + half * tile.width][j]);
        __syncthreads();  // the stage is done
        alive = half;
    }
    if (tile.is_active && tile.lane_row == 0)
#pragma unroll
        for (int j = 0; j < V; ++j) publish(tile.channel() + j, shared[threadIdx.x][j]);
}

// Threads of one block merge `parts` partials of one channel, in an order that depends on `parts` alone.
template <typename Partial> DEVICE Partial merged_parts(const Partial* partials, i64 parts, i64 channels, i64 channel) {
    __shared__ __align__(16) u8 memory[COLUMN_THREADS * sizeof(Partial)];
    Partial* shared = reinterpret_cast<Partial*>(memory);
    Partial mine;
    mine.clear();
    for (i64 part = threadIdx.x; part < parts; part += COLUMN_THREADS) mine.merge(partials[part * channels + channel]);
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (int half = COLUMN_THREADS / 2; half; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x].merge(shared[threadIdx.x + half]);
        __syncthreads();  // the parts are merged
    }
    return shared[0];
}

// V consecutive elements of a row; a launcher lets V be 4 only where all memory is aligned to groups of four.
template <int V, typename T> DEVICE void load_row(const T* source, i64 first, T (&out)[V]) {
#pragma unroll
    for (int j = 0; j < V; ++j) out[j] = source[first + j];
}
template <typename T> DEVICE void load_row(const T* source, i64 first, T (&out)[4]) {
    const Packed<T> packed = *(const Packed<T>*)(source + first);
#pragma unroll
    for (int j = 0; j < 4; ++j) out[j] = packed.element[j];
}
template <int V, typename T> DEVICE void store_row(T* target, i64 first, const T (&in)[V]) {
#pragma unroll
    for (int j = 0; j < V; ++j) target[first + j] = in[j];
}
template <typename T> DEVICE void store_row(T* target, i64 first, const T (&in)[4]) {
    Packed<T> packed;
#pragma unroll
    for (int j = 0; j < 4; ++j) packed.element[j] = in[j];
    *(Packed<T>*)(target + first) = packed;
}

// V consecutive elements of a row.
template <int V, typename T> struct Cells {
    T element[V];

    DEVICE static Cells of(const T* source, i64 first) {
        Cells cells;
        load_row(source, first, cells.element);
        return cells;
    }
};
