// The weight gradient: jobs over rows of outputs and panels of filters, then the sums of all jobs added up.
#include <algorithm>
#include <cstring>

#include "products.h"

namespace qbench {
namespace {

// Jobs with sums of their own for all filters would otherwise take more memory than this, and more time to clear and
// to add up than jobs that share the filters and prepare the same inputs.
constexpr std::int64_t SUM_BYTES = 16 << 20;
// Errors of two digits cost less than int32 sums of fewer terms: measured with AVX2.
constexpr std::int64_t FEWEST_TERMS = 16;

WgradPlan plan_of(const Call& call, const Kernels& level, int threads) {
    WgradPlan p{call.where};
    p.a = operand_of(call.first);
    p.b = operand_of(call.second);
    p.in_group = p.channels / p.groups;
    p.out_group = p.filters / p.groups;
    // Else products take Winograd's form, or errors of any size in few digits.
    if (p.a.code == CODE_INT16 && routes_by_bound(level)) {
        measure_bound(p.a, {p.images, p.height, p.width, p.channels}, threads);
        measure_bound(p.b, {p.images, p.out_h, p.out_w, p.filters}, threads);
    }
    return p;
}

// Inner products that take as long as the transforms of a tile's input or error, by point and channel, and of the
// products of a chunk of tiles, by point, channel and filter: measured with AVX2, from 8 to 512 channels and from 2x2 to
// 56x56 pixels.
constexpr double TRANSFORM_COST = 12, PRODUCT_COST = 12;

std::int64_t tiles_of(const WgradPlan& p) { return p.images * pieces(p.out_h, 4) * pieces(p.out_w, 4); }

// Digits of errors that fit the transform: one, or two if the centred errors are int16 themselves; 0 if they are not.
int winograd_digits(const Operand& error) {
    if (WGRAD_ERROR_GROWTH * error.bound <= INT16_MAX) return 1;
    return error.zero != 0 && error.bound > INT16_MAX ? 0 : 2;
}

// Costs are times of inner products with AVX2.
double winograd_cost(const WgradPlan& p, const Kernels& kernels, int digits) {
    const double channels = static_cast<double>(p.channels);
    const double filters = static_cast<double>(round_up(p.filters, kernels.columns));
    const double tiles = static_cast<double>(tiles_of(p)), chunks = static_cast<double>(pieces(tiles_of(p), WGRAD_TILES));
    const double products = digits * channels * filters * (kernels.pace * tiles + PRODUCT_COST * chunks);
    return 36 * (products + TRANSFORM_COST * tiles * (channels + digits * filters));
}

double direct_cost(const WgradPlan& p, const Kernels& kernels) {
    const int digits = fewest_digits(p.a, kernels) * fewest_digits(p.b, kernels);
    const double products = static_cast<double>(p.images * p.out_h * p.out_w) * p.in_group * p.filters;
    return kernels.pace * digits * p.taps_y * p.taps_x * products;
}

bool allows_winograd(const WgradPlan& p, const Kernels& kernels) {
    const bool is_3x3 = p.taps_y == 3 && p.taps_x == 3 && p.stride_y == 1 && p.stride_x == 1 && p.dilation_y == 1 &&
                        p.dilation_x == 1;
    return kernels.wgrad_winograd && is_3x3 && p.groups == 1 && p.channels % kernels.rows == 0 &&
           WINOGRAD_FORMS[1].input_growth * p.a.bound <= INT16_MAX;
}

// What a gradient is computed with. digits: of errors in Winograd's form, or 0 for the direct product.
struct Route {
    const Kernels* kernels;
    int digits;
    double cost;
};

Route cheapest(const WgradPlan& p, const Kernels& kernels) {
    const Route direct{&kernels, 0, direct_cost(p, kernels)};
    const int digits = allows_winograd(p, kernels) ? winograd_digits(p.b) : 0;
    if (digits == 0) return direct;
    const Route form{&kernels, digits, winograd_cost(p, kernels, digits)};
    return form.cost < direct.cost ? form : direct;
}

// With bytes, or with words where those are cheaper.
Route route_of(const WgradPlan& p, const Kernels& kernels) {
    const Route own = cheapest(p, kernels);
    if (!kernels.words) return own;
    const Route words = cheapest(p, *kernels.words);
    return words.cost < own.cost ? words : own;
}

void take_route(WgradPlan& p, const Route& route) {
    const Kernels& kernels = *route.kernels;
    prepare(p.a, kernels, LEFT, fewest_digits(p.a, kernels));
    prepare(p.b, kernels, RIGHT, fewest_digits(p.b, kernels));
    if (route.digits == 0) return;
    p.b.digits = route.digits;
    p.b.digit_bound = route.digits == 1 ? p.b.bound : 128;
    const std::int64_t of_tile = 16 * p.a.bound * p.b.digit_bound;
    const std::int64_t exact = (WINOGRAD_FORMS[1].output_bound - 1) / of_tile / kernels.unit * kernels.unit;
    p.winograd_tiles = std::min(exact, WGRAD_TILES);
}

void set_limit(WgradPlan& p, const Kernels& kernels, std::int64_t kind) {
    const std::int64_t terms = p.images * p.out_h * p.out_w;
    const std::int64_t least = std::max(FEWEST_TERMS, kernels.unit * kernels.depth);
    const bool single = p.a.digits == 1 && p.b.digits == 1;
    if (single && kind == RESULT_INT32) return;  // the total fits, so partial sums may wrap
    if (int32_terms(p.a, p.b) < std::min(terms, least)) prepare(p.b, kernels, RIGHT, 2);
    const std::int64_t most = int32_terms(p.a, p.b);
    p.limit = most < terms ? most : 0;
}

WgradSizes sizes_of(const WgradPlan& p, const Kernels& kernels) { return {p, kernels.rows, kernels.columns}; }

void set_parts(WgradPlan& p, const Kernels& kernels, int threads) {
    const WgradSizes size = sizes_of(p, kernels);
    const std::int64_t rows = p.winograd_tiles ? tiles_of(p) : p.images * p.out_h;
    const std::int64_t bytes = size.panel * size.panels * p.groups * (p.limit ? 12 : 4);
    const std::int64_t each = std::max<std::int64_t>(1, SUM_BYTES / std::max<std::int64_t>(1, bytes));
    p.parts_rows = std::max<std::int64_t>(1, std::min<std::int64_t>({threads, rows, each}));
    p.parts_panels = std::min(pieces(threads, p.parts_rows), size.panels * p.groups);
    p.starts_afresh = !p.limit && !p.winograd_tiles && rows > 0;
    p.chunk_rows = std::max<std::int64_t>(1, std::min(kernels.chunk_pixels / std::max<std::int64_t>(1, p.out_w), rows));
}

// Memory of all jobs' sums.
class Parts {
  public:
    Parts(const WgradPlan& p, const WgradSizes& size) {
        const std::int64_t panels_each = pieces(size.panels * p.groups, p.parts_panels);
        const std::int64_t narrow = round_up(panels_each * size.panel * 4, 64);
        const std::int64_t wide = p.limit ? 2 * narrow : 0, rows = round_up(size.rows * 8, 64);
        const std::int64_t jobs = p.parts_rows * p.parts_panels;
        each_ = narrow + wide + rows + round_up(size.columns * 8, 64);
        char* memory = static_cast<char*>(scratch(USE_SUMS, each_ * jobs));
        for (std::int64_t job = 0; job < jobs; ++job, memory += each_) {
            sums_.push_back({reinterpret_cast<std::int32_t*>(memory), reinterpret_cast<std::int64_t*>(memory + narrow),
                             reinterpret_cast<std::int64_t*>(memory + narrow + wide),
                             reinterpret_cast<std::int64_t*>(memory + narrow + wide + rows)});
        }
    }

    // The sums of a job, all 0 but those that the job's first products take the place of.
    const WgradSums& cleared(const WgradPlan& p, std::int64_t job) const {
        const WgradSums& sums = sums_[job];
        char* const all = reinterpret_cast<char*>(sums.narrow);
        char* const first = p.starts_afresh ? reinterpret_cast<char*>(sums.row_sums) : all;
        std::memset(first, 0, static_cast<std::size_t>(all + each_ - first));
        return sums;
    }

    const WgradSums* all() const { return sums_.data(); }

  private:
    std::vector<WgradSums> sums_;
    std::int64_t each_;
};

}  // namespace

void weight_gradient(const Kernels& level, int threads, const Call& call, const Target& target) {
    threads = useful_threads(threads, products_of(call.where));
    WgradPlan p = plan_of(call, level, threads);
    const Route route = route_of(p, level);
    const Kernels& kernels = *route.kernels;
    take_route(p, route);
    set_limit(p, kernels, target.kind);
    set_parts(p, kernels, threads);
    const WgradSizes size = sizes_of(p, kernels);
    const Parts parts(p, size);
    const auto job = p.winograd_tiles ? kernels.wgrad_winograd : kernels.wgrad;
    const std::int64_t bytes = p.winograd_tiles ? kernels.wgrad_winograd_scratch(p) : kernels.wgrad_scratch(p);
    in_jobs(threads, p.parts_rows * p.parts_panels,
            [&](std::int64_t part) { job(p, part, scratch(USE_JOB, bytes), parts.cleared(p, part)); });
    in_jobs(threads, size.panels * p.groups,
            [&](std::int64_t panel) { kernels.wgrad_reduce(p, parts.all(), target, panel); });
}

}  // namespace qbench

QBENCH_EXPORT int qbench_conv2d_weight_grad(int level, int threads, const qbench::Call* call) {
    using namespace qbench;
    return guarded([&] { weight_gradient(kernels_of_level(level), threads, *call, target_of(*call)); });
}
