// The integer products as the instruction sets see them: plans made once per call, jobs run by threads.
//
// Every product is a sum of A x B tiles. A: rows of units along the reduction, read where they lie in a prepared image.
// B: panels of columns, packed. A unit is as many consecutive terms as one instruction adds up (1, 2 or 4).
//
// Prepared operands are int16 with the zero point taken off, or bytes that keep it ("raw", for 8-bit dot products:
// A unsigned, B signed, but for low digits where tiles take both); then sums over rows and columns of the prepared
// operands correct the result.
// An operand that does not fit is prepared as two digits, value = low + 256 * high.
#pragma once

#include <cstddef>
#include <cstdint>

#define QBENCH_INLINE inline __attribute__((always_inline))

namespace qbench {

// Bytes past the last element that a tile may read.
constexpr std::int64_t SLACK = 4096;

constexpr std::int64_t round_up(std::int64_t n, std::int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
constexpr std::int64_t pieces(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }
// Bytes, as an odd number of cache lines: at such distances places do not fall into the same sets of a cache.
constexpr std::int64_t odd_cache_lines(std::int64_t bytes) { return (bytes + 63) / 64 * 64 / 128 * 128 + 64; }

enum Code : std::int32_t { CODE_UINT8, CODE_INT8, CODE_INT16 };
enum Result : std::int32_t { RESULT_INT32, RESULT_INT64, RESULT_FLOAT32, RESULT_UINT8, RESULT_LINE };

// Prepared element = ((code + add) >> shift) & mask, cut to the element's width.
struct Recode {
    std::int32_t add, shift, mask;
};

// Of a convolution, as a call has it.
struct Geometry {
    std::int64_t images, channels, height, width, filters, taps_y, taps_x, out_h, out_w;
    std::int64_t stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x, groups;
};

struct Operand {
    const void* data;
    std::int64_t stride[4];  // in elements: image, row, column, channel; of filters: filter, row, column, channel
    std::int32_t code, zero;
    std::int64_t bound;  // largest magnitude of code - zero, at least 1: of the type, or of the codes themselves
    std::int32_t digits;
    Recode recode[2];
    std::int32_t digit_zero[2];  // what a raw digit still has to lose
    bool digit_signed[2];        // of filters or errors: whether raw digits are signed bytes
    std::int64_t digit_bound;    // largest magnitude of a prepared digit, of the true value where there is one digit
};

// Terms of the reduction that lie one after the other, as counts of units.
struct Segment {
    std::int64_t a, b, count;  // offsets: elements of A, units of B
};

struct Chunk {
    const Segment* segments;
    std::int32_t count;
};

// Filter taps whose pixels follow each other in an image row.
struct Run {
    std::int32_t tap, taps;
    std::int64_t a, units;  // offset of the first pixel in the prepared image; length in units
    std::int64_t pixel;     // number of that pixel
};

// Outputs that meet the same taps: all of them, or for a strided input gradient those of one remainder.
struct Phase {
    std::int64_t out_y, out_x, rows, cols;
    const Run* runs;
    std::int32_t run_count;
    const Chunk* chunks;
    std::int32_t chunk_count;
    std::int64_t units;   // of a panel, over all runs
    std::int64_t terms;   // of a sum
    std::int64_t packed;  // offset of the phase's panels, in elements
    std::int64_t sums;    // offset of its column sums
};

struct Target {
    void* data;
    std::int32_t kind;
    bool adds;               // a RESULT_FLOAT32 to what is there, which has no bias and no extremes
    std::int64_t stride[3];  // image, row, column; channels lie next to each other
    float first_scale;
    const float* second_scale;
    std::int64_t second_step;  // 1: a scale per channel, 0: one for all
    const float* bias;
    float code_scale, code_zero, code_top;  // of RESULT_UINT8: codes round(result / scale + zero) from 0 to top
    // Of RESULT_LINE, a weight gradient as first_scale * (slope * (sum - mean * met) + pull * what is there, an int32):
    // the numbers of each filter, and the sums of what its elements meet, [group][tap row][tap column][channel].
    const float *slope, *pull;
    const double* mean;
    const std::int64_t* met;
};

struct Extremes {
    float low, high;
    bool nan;
};

// Images [begin, end) and the rows and columns of each phase that a job computes.
struct Job {
    std::int64_t image[2], row[2], col[2];
};

struct ConvPlan {
    Operand a, b;
    std::int64_t images, channels, height, width;  // of the input
    std::int64_t groups, in_group, out_group;      // channels of a group
    std::int64_t step_y, step_x, out_step_y, out_step_x;
    std::int64_t low_y, high_y, low_x, high_x;     // of all taps, relative to step * output
    const std::int64_t* tap_offset;                // of each tap's filter element
    std::int64_t contract_stride, column_stride, group_stride;  // of the filters
    const Phase* phases;
    std::int64_t phase_count;
    std::int64_t padded_columns;                   // out_group, rounded up to whole vectors
    void* packed;
    void* winograd;                                // filters in Winograd's form, or null
    std::int32_t* winograd_ends;                   // of each panel, the units where the parts of its channels end
    std::int64_t winograd_most;                    // sum of the magnitudes of a part's filters
    std::int64_t* column_sums;
    std::int64_t* column_magnitudes;               // sums of the magnitudes of the centred filters, a phase after another
    bool narrow;                                   // int32 sums are exact, or exact modulo 2^32 and that is enough
    const Job* jobs;
    std::int64_t job_count;
    std::int64_t scratch_bytes;
    Target target;
    Extremes* extremes;  // one per job, or null
};

struct WgradPlan : Geometry {
    Operand a, b;                                  // input, error
    std::int64_t in_group, out_group;              // channels and filters of a group
    std::int64_t chunk_rows, parts_rows, parts_panels;
    bool starts_afresh;                            // whether a job's first products take the place of its sums
    std::int64_t limit;                            // pixels that an int32 sum may take, 0 for no limit
    std::int64_t winograd_tiles;                   // tiles of errors whose sums are recovered, 0 for the direct product
};

// What one job leaves, in the order panel (of all groups), block of rows, tap row, digit of A, digit of B, row, column.
struct WgradSums {
    std::int32_t* narrow;
    std::int64_t* wide;
    std::int64_t* row_sums;     // [digit of A][group][tap row][padded rows]
    std::int64_t* column_sums;  // [digit of B][group][padded columns]
};

// What the weight gradient whose error is a line of codes is made of beside their product; see products_line.cpp.
struct LinePlan : Geometry {
    const std::uint8_t* x;   // channels last
    std::uint16_t zero;      // of x
    const std::int64_t* at;  // [extremes][filters]: elements of e at the maxima, then at the minima
    std::int64_t extremes;   // of each filter
    std::int32_t* pulled;    // what a filter's minima meet less what its maxima meet
    std::int64_t in_group, out_group;
    std::int64_t* image_sums;  // of x over the images, [height][width][channels]
};

// What is taken off the codes of a line's errors before they are multiplied.
constexpr std::int32_t LINE_MIDDLE = 128;

// Numbers of panels of a group and of blocks of rows; sums of a panel, of rows and of columns of a job.
struct WgradSizes {
    std::int64_t panels, blocks, panel, rows, columns;

    WgradSizes(const WgradPlan& p, std::int64_t tile_rows, std::int64_t tile_columns) {
        panels = pieces(p.out_group, tile_columns);
        blocks = pieces(p.taps_x * p.in_group, tile_rows);
        panel = p.a.digits * p.b.digits * p.taps_y * blocks * tile_rows * tile_columns;
        rows = p.a.digits * p.groups * p.taps_y * blocks * tile_rows;
        columns = p.b.digits * p.groups * panels * tile_columns;
    }
};

// One of Winograd's forms of 3x3 convolutions; see gemm_winograd_forms.h.
struct WinogradForm {
    std::int64_t outputs, points;              // of a side of a tile; of a tile
    std::int64_t input_growth, filter_growth;  // by which the transforms multiply the largest magnitude
    std::int64_t output_bound;                 // smaller magnitudes of outputs are recovered from sums modulo 2^32
};
// The growth is the square of the largest sum of magnitudes of a row of B or G; 2^31 is divided by the power of two by
// which outputs are too large.
constexpr WinogradForm WINOGRAD_FORMS[] = {{2, 16, 2 * 2, 3 * 3, 1 << 29}, {4, 36, 10 * 10, 7 * 7, 1 << 25}};
// Blocks of tiles whose sums are held at once.
constexpr std::int64_t WINOGRAD_BLOCKS = 8;
// Of the weight gradient: tiles whose sums a register takes at most, blocks of channels whose products are held at once.
constexpr std::int64_t WGRAD_TILES = 64, WGRAD_BLOCKS = 8;
// By which the transform of 4x4 errors multiplies the largest magnitude; see gemm_wgrad_winograd.h.
constexpr std::int64_t WGRAD_ERROR_GROWTH = 15 * 15;

struct WinogradKernels {
    void (*pack)(const ConvPlan&, std::int64_t panel);
    void (*job)(const ConvPlan&, std::int64_t job, void* scratch);
};

struct Kernels {
    std::int64_t rows, columns, lanes;   // of a tile; columns of one vector
    std::int64_t unit, depth;            // terms of a unit; units that a segment's length is a multiple of
    std::int64_t element_bytes;
    std::int64_t chunk_pixels;  // of the weight gradient: whose operands are packed at once
    bool raw;
    bool low_digits_unsigned;  // whether raw low digits of filters or errors are unsigned, which spares their offset
    double pace;           // time of an inner product of one digit each, relative to AVX2's and AVX-512's
    double filter_cost;    // such products that take as long as Winograd's transform of a filter's element, by point
    const Kernels* words;  // int16 kernels of the same instruction set, which outrun bytes in Winograd's form; or null
    void (*pack)(const ConvPlan&, std::int64_t task);
    void (*conv)(const ConvPlan&, std::int64_t job, void* scratch);
    WinogradKernels winograd[2];  // by form; null where direct products are faster
    void (*wgrad)(const WgradPlan&, std::int64_t part, void* scratch, const WgradSums&);
    std::int64_t (*wgrad_scratch)(const WgradPlan&);
    // Adds up what all jobs have for one panel and writes its filters.
    void (*wgrad_reduce)(const WgradPlan&, const WgradSums* of_jobs, const Target&, std::int64_t panel);
    void (*sum_images)(const LinePlan&, std::int64_t begin, std::int64_t end);
    void (*met_by_extremes)(const LinePlan&, std::int64_t filter, std::uint16_t* sums);
    // In Winograd's form; null where direct products are faster.
    void (*wgrad_winograd)(const WgradPlan&, std::int64_t part, void* scratch, const WgradSums&);
    std::int64_t (*wgrad_winograd_scratch)(const WgradPlan&);
};

extern const Kernels scalar_kernels, neon_kernels, avx2_kernels, avx512_kernels, avxvnni_kernels, avx512vnni_kernels,
    amx_kernels;

}  // namespace qbench
