// What the files of the integer products share: a call's arguments, prepared operands, plans and scratch memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#include "gemm.h"

#define QBENCH_EXPORT extern "C" __attribute__((visibility("default")))

namespace qbench {

// A call's arguments as Python packs them: 64-bit integers only; pointers are addresses.
struct CallFactor {
    std::int64_t data, zero, scale, scale_count, code, stride[4];
};

struct CallTarget {
    // adds: to float32 that is there already. encoding: scale, zero and largest code of a uint8 result.
    std::int64_t data, kind, adds, bias, extremes, encoding;
};

struct Call {
    CallFactor first, second;
    CallTarget target;
    Geometry where;
};

// The line of a weight gradient's errors. extremes: of each filter.
struct CallLine {
    std::int64_t slope, mean, pull, at, extremes;
};

enum Status : int { STATUS_DONE, STATUS_ZERO_POINT, STATUS_LEVEL, STATUS_MEMORY };

struct ProductError {
    Status status;
};

enum Side { LEFT, RIGHT };

// Memory of a thread that is kept from call to call, a block for each use.
enum Use { USE_PACKED, USE_WINOGRAD, USE_SUMS, USE_LINE, USE_JOB, USES };
void* scratch(Use use, std::int64_t bytes);

const Kernels& kernels_of_level(int level);

Operand operand_of(const CallFactor& factor);
// Chooses digits and zero points for one side of a product.
void prepare(Operand& x, const Kernels& kernels, Side side, int digits);
int fewest_digits(const Operand& x, const Kernels& kernels);

// Lengths of an operand's dimensions.
struct Extents {
    std::int64_t images, height, width, channels;
};
// Whether the bounds of 16-bit codes decide what an instruction set computes a product with.
bool routes_by_bound(const Kernels& level);
// Takes the bound of 16-bit codes from the codes themselves.
void measure_bound(Operand& x, const Extents& size, int threads);
// The largest sum of squares over the channels of a pixel, of 16-bit codes less their zero point.
double largest_pixel(const Operand& x, const Extents& size, int threads);
// Terms that an int32 sum of prepared elements takes.
std::int64_t int32_terms(const Operand& a, const Operand& b);

Target target_of(const Call& call);

void weight_gradient(const Kernels& level, int threads, const Call& call, const Target& target);

// A convolution's plan with the lists it points to.
struct PlannedConv {
    struct Tap {
        std::int64_t y, x, offset;
    };

    ConvPlan plan{};
    std::vector<Phase> phases;
    std::vector<std::vector<Run>> runs;
    std::vector<std::vector<Segment>> segments;
    std::vector<std::vector<Chunk>> chunks;
    std::vector<std::vector<Tap>> taps;  // of each phase, by row and column
    std::vector<std::int64_t> tap_offset;
    std::vector<Job> jobs;

    // After plan's geometry, phases' outputs and taps are set: what the taps span, then the rest.
    void find_span();
    void lay_out(const Kernels& kernels, int threads);
    // Segments of at most `terms` terms; 0 for no limit.
    void limit(const Kernels& kernels, std::int64_t terms);
    // Jobs that count rows of tiles.
    void find_winograd_jobs(const Kernels& kernels, const WinogradForm& form, int threads);
    std::int64_t packed_elements(const Kernels& kernels) const;
    std::int64_t sum_count() const;

  private:
    void find_runs(const Kernels& kernels, std::size_t phase);
    void find_jobs(const Kernels& kernels, int threads);
    std::int64_t image_width() const;
};

// body(job) by `threads` threads; an exception (no memory) in one of them is thrown here.
template <class Body>
void in_jobs(int threads, std::int64_t jobs, const Body& body) {
    int failed = STATUS_DONE;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1 && jobs > 1)
    for (std::int64_t job = 0; job < jobs; ++job) {
        try {
            body(job);
        } catch (const ProductError& error) {
#pragma omp atomic write
            failed = error.status;
        }
    }
    if (failed != STATUS_DONE) throw ProductError{static_cast<Status>(failed)};
}

// A parallel region costs as much as some hundred thousand products.
inline int useful_threads(int threads, double products) {
    constexpr double PER_THREAD = 200e3;
    return products < 2 * PER_THREAD ? 1 : static_cast<int>(std::min<double>(threads, products / PER_THREAD));
}

template <class Body>
int guarded(const Body& body) {
    try {
        body();
    } catch (const ProductError& error) {
        return error.status;
    } catch (const std::bad_alloc&) {
        return STATUS_MEMORY;
    }
    return STATUS_DONE;
}

inline double products_of(const Geometry& g) {
    const double outputs = static_cast<double>(g.images) * g.out_h * g.out_w;
    return outputs * g.filters * (g.channels / std::max<std::int64_t>(1, g.groups)) * g.taps_y * g.taps_x;
}

}  // namespace qbench
