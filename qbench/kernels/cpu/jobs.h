// What the loops of each instruction set offer to the functions that Python calls, and the arguments of the larger ones.
// Tables per channel have `period` channels, a multiple of the tensor's, and go on for TABLE_MARGIN elements more, so
// that a vector may start at any channel.
#pragma once

#include "elementwise.h"

namespace qbench {

constexpr i64 TABLE_MARGIN = 16, BYTES_MARGIN = 64;

// Places of a level in a tree of thresholds.
constexpr int TREE_LEVEL = 128;

// Rows x on a direct grid, t = round((x - mean[c]) * inverse[c] * unit) within +-top, and the view slope[c] * t +
// offset[c] of them; a gradient of that view, in floats or, where g_type names a type, in codes with their scale; and
// what the gradient of x is made with.
struct DirectJob {
    const float* x = nullptr;
    const float *mean = nullptr, *inverse = nullptr, *slope = nullptr, *offset = nullptr;
    i64 period = 1;
    float unit = 1, top = 0;
    bool relu = false;
    const float* trunk = nullptr;
    float* value = nullptr;
    u8* mask = nullptr;
    const void* g = nullptr;
    int g_type = -1;
    float g_scale = 1;
    const float *a = nullptr, *b = nullptr, *c = nullptr;
    float* out = nullptr;
};

// Values y * inverse plus a trunk (none, floats, or codes with a scale where trunk_type names a type), bounded to
// +-limit, by 0 from below with relu; bits of those whose gradient passes, and of those that were not clipped.
struct BoundedJob {
    const float* y = nullptr;
    float inverse = 1;
    const void* trunk = nullptr;
    int trunk_type = -1;
    float trunk_scale = 1;
    bool relu = false;
    float limit = INFINITY;
    float* value = nullptr;
    u8 *passed = nullptr, *unclipped = nullptr;
};

// A gradient g of those values, plus what stands beside it: codes with a scale, or nothing.
struct BoundedErrorJob {
    const float* g = nullptr;
    const void* joined = nullptr;
    int joined_type = INT8;
    float joined_scale = 1;
    const u8 *passed = nullptr, *unclipped = nullptr;
};

// Codes out = clip(round(value / scale + zero), low, high); the values are x, the view of `codes` or of `direct`, or
// those of `bounded` or `bounded_error`.
// With the type FLOAT32 and without a zero, code * scale.
struct EncodeJob {
    const float* x = nullptr;
    i64 x_from = 0;  // the element that stands first in `x`
    const u8* codes = nullptr;
    const DirectJob* direct = nullptr;
    const BoundedJob* bounded = nullptr;
    const BoundedErrorJob* bounded_error = nullptr;
    const float *slope = nullptr, *offset = nullptr;
    i64 period = 1;
    float floor = 0;
    float scale = 1, zero = 0, low = 0, high = 0;
    int rule = NEAREST, type = UINT8;
    Key key = {};
    void* out = nullptr;
    i64 out_from = 0;  // the element whose code stands first in `out`
};

// Smallest and largest of some values, and whether a NaN was among them.
struct Extremes {
    float low, high;
    bool nan;
};

inline Extremes no_extremes() { return {INFINITY, -INFINITY, false}; }

inline Extremes joined(Extremes a, Extremes b) {
    return {a.low < b.low ? a.low : b.low, a.high > b.high ? a.high : b.high, a.nan || b.nan};
}

// The view slope[c] * q + offset[c] of codes, q = code, or table[code] where there is a table (256 entries).
struct ViewJob {
    const u8* codes = nullptr;
    const float* table = nullptr;
    int entries = 0;
    const float *slope = nullptr, *offset = nullptr;
    i64 period = 1;
    bool relu = false;
    const float* trunk = nullptr;
    float* value = nullptr;
    u8* mask = nullptr;
};

// A gradient g of that view: its masked values, encoded as in `encode` over the codes with the sums of codes e and
// e * code per place of the table (period + TABLE_MARGIN of them), or combined as (a * m + b) + c * q.
struct GradientJob {
    ViewJob view;
    const float* g = nullptr;
    i64 g_from = 0;  // the element that stands first in `g`
    EncodeJob encode;
    u32 *sums = nullptr, *products = nullptr;
    const float *a = nullptr, *b = nullptr, *c = nullptr;
    float* out = nullptr;
};

// Sums over the rows of a block, per place of the table: of x - shift and its square, or of a gradient's m and m * q, or
// of one's m, m * t and m * z.
struct SumsJob {
    const float* x = nullptr;
    const float* shift = nullptr;
    const GradientJob* gradient = nullptr;
    const DirectJob* direct = nullptr;
    i64 period = 1;
    double *first = nullptr, *second = nullptr, *third = nullptr;
    float *lows = nullptr, *highs = nullptr;
};

// Lowest and highest code of each of `columns` columns of rows, with the first row that has it, and the sum.
struct ColumnsJob {
    const u8* codes = nullptr;
    i64 rows = 0, columns = 0;
    u8 *lows = nullptr, *highs = nullptr;
    i64 *low_at = nullptr, *high_at = nullptr;
    i64* sums = nullptr;
};

struct JoinJob {
    const void* codes = nullptr;
    int type = INT8;
    float scale = 1;
    const float* g = nullptr;   // or none
    const u8* mask = nullptr;  // or none
    float* out = nullptr;
};

struct LevelsJob {
    const float* x = nullptr;
    const float *mean = nullptr, *inverse = nullptr;
    i64 period = 1;
    const float* tree = nullptr;  // the thresholds in the order of levels_below
    int bits = 0, count = 0;
    u8* out = nullptr;
};

struct UpdateJob {
    void* codes = nullptr;
    const float* grad = nullptr;
    float *momentum = nullptr, *second = nullptr;
    float lr = 0, weight_decay = 0, mu = 0;
    float beta1 = 0, beta2 = 0, rest1 = 0, rest2 = 0, eps = 0, correction = 1;
    bool nesterov = false, first = false;
    float scale = 1, low = 0, high = 0;
    int rule = NEAREST, type = INT8;
    Key key = {};
};

struct MomentumJob {
    i32 *weight = nullptr, *accumulator = nullptr;
    const float* grad = nullptr;
    float scale = 1, weight_decay = 0;
    i64 momentum_quarters = 0, lr_code = 0, limit = 0;
};

// Max pooling of images; backwards from the gradient x of the output to that of the input.
struct PoolJob {
    const float* x = nullptr;  // backwards
    float* y = nullptr;
    i64 y_from = 0;  // backwards: the element that stands first in `y`
    u8* window = nullptr;
    i64 height = 0, width = 0, channels = 0, out_height = 0, out_width = 0;
    i64 kernel[2], stride[2], padding[2];
    const Range *down = nullptr, *across = nullptr;  // backwards: which outputs' windows hold a row, and a column
};

// Keys max(code ^ flip[c], least[c]) of `count` codes that start at channel 0. The tables have `channels` places and
// BYTES_MARGIN more.
struct KeysJob {
    const u8 *codes = nullptr, *flip = nullptr, *least = nullptr;
    i64 channels = 0, count = 0;
    u8* keys = nullptr;
};

// One row of outputs of max pooling, from `height` rows of the input. Bytes are read, and results written, as far as
// BYTES_MARGIN behind a row. place: in the window, of the first row's first pixel.
template <class T>
struct PoolRowJob {
    const T* const* rows = nullptr;
    i64 height = 0, place = 0;
    i64 channels = 0, width = 0, out_width = 0, kernel = 0, stride = 0, padding = 0;  // across
    T* best = nullptr;
    u8* window = nullptr;
};

// The loops of one instruction set. Ranges are of elements, whole groups of `group` of them, or of rows of columns and
// of images.
struct Loops {
    i64 group;
    bool (*encode)(const EncodeJob&, Range);
    bool (*encode_flag)(const EncodeJob&, Range);
    void (*decode)(const void* codes, int type, float scale, float zero, float* out, Range);
    Extremes (*extremes)(const float* x, Range);
    Extremes (*apply_mask)(const float* x, const u8* mask, float* out, Range);
    Extremes (*rectify)(const float* x, const float* trunk, float* value, u8* mask, Range);
    void (*join_gradients)(const JoinJob&, Range);
    Extremes (*view)(const ViewJob&, Range);
    Extremes (*gradient_extremes)(const GradientJob&, Range);
    void (*encode_gradient)(const GradientJob&, Range);
    void (*level_gradient)(const GradientJob&, Range);
    void (*column_ends)(const u8* codes, i64 columns, Range rows, u8* lows, u8* highs);
    void (*column_statistics)(const ColumnsJob&);
    void (*moments)(const SumsJob&, Range);
    void (*gradient_sums)(const SumsJob&, Range);
    void (*encode_levels)(const LevelsJob&, Range);
    void (*look_up)(const u8* codes, const float* table, int entries, float* out, Range);
    void (*encode_at)(const EncodeJob&, const i64* at, Range);
    void (*sgd)(const UpdateJob&, Range);
    void (*adam)(const UpdateJob&, Range);
    void (*decayed)(const MomentumJob&, float* out, Range);
    void (*momentum)(const MomentumJob&, const i32* gradient, Range);
    void (*subtract_steps)(void* codes, int type, const i32* steps, i32 limit, Range);
    void (*max_pool_backward)(const PoolJob&, Range);
    void (*pool_keys)(const KeysJob&);
    void (*pool_bytes)(const PoolRowJob<u8>&);
    void (*pool_floats)(const PoolRowJob<float>&);
    bool (*encode_direct)(const EncodeJob&, Range);
    void (*direct_view)(const DirectJob&, Range);
    void (*direct_sums)(const SumsJob&, Range);
    Extremes (*direct_gradient)(const DirectJob&, Range);
    void (*bounded_values)(const BoundedJob&, Range);
    bool (*encode_bounded)(const EncodeJob&, Range);
    Extremes (*bounded_error_extremes)(const BoundedErrorJob&, Range);
    void (*encode_bounded_error)(const EncodeJob&, Range);
};

extern const Loops scalar_loops;
#if defined(__x86_64__)
extern const Loops avx2_loops, avx512_loops;
#elif defined(__aarch64__)
extern const Loops neon_loops;
#endif

// The loops of the instruction set that Python names by its number.
inline const Loops& loops_for(int isa) {
#if defined(__x86_64__)
    if (isa == AVX512) return avx512_loops;
    if (isa == AVX2) return avx2_loops;
#elif defined(__aarch64__)
    if (isa == NEON) return neon_loops;
#endif
    return scalar_loops;
}

// body(loops, range): whole groups by the loops given, what is left of one at the end by the scalar loops.
template <class Body>
void in_groups(const Loops& loops, Range range, const Body& body) {
    const i64 whole = range.begin + (range.end - range.begin) / loops.group * loops.group;
    if (range.begin < whole) body(loops, Range{range.begin, whole});
    if (whole < range.end) body(scalar_loops, Range{whole, range.end});
}

// The same for n elements on several threads.
template <class Body>
void for_elements(int threads, i64 n, int isa, const Body& body) {
    const Loops& loops = loops_for(isa);
    in_parallel(threads, n, GRAIN, [&](int, Range range) { in_groups(loops, range, body); });
}

// An array at the start of a cache line: vectors that lie across two lines cost as much as two.
template <class T>
class Aligned {
public:
    explicit Aligned(i64 count) : memory_(static_cast<std::size_t>(count) * sizeof(T) + LINE), count_(count) {}
    T* data() {
        const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
        return reinterpret_cast<T*>((address + LINE - 1) / LINE * LINE);
    }
    void clear() { std::memset(data(), 0, static_cast<std::size_t>(count_) * sizeof(T)); }

private:
    static constexpr std::size_t LINE = 64;
    std::vector<unsigned char> memory_;
    i64 count_;
};

// `values` [channels] repeated up to `period` and TABLE_MARGIN more.
inline Aligned<float> repeated(const float* values, i64 channels, i64 period) {
    Aligned<float> table(period + TABLE_MARGIN);
    float* const to = table.data();
    for (i64 i = 0, c = 0; i < period + TABLE_MARGIN; ++i) {
        to[i] = values[c];
        if (++c == channels) c = 0;
    }
    return table;
}

// A multiple of `channels` that is at least `width`, so that neighbouring vectors meet different places.
inline i64 period_of(i64 channels, i64 width) { return channels * ((width + channels - 1) / channels); }

}  // namespace qbench
