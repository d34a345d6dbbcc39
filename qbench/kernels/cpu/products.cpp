// Entry points of the integer products. They trust their arguments, but for zero points outside their type.
#include "products.h"

#include <algorithm>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "isa.h"

namespace qbench {
namespace {

// Large blocks are read at more places at once than there are entries for small pages.
constexpr std::int64_t HUGE_PAGE = 2 << 20;

// Memory that grows and is not moved.
class Block {
  public:
    ~Block() { release(); }

    void* get(std::int64_t bytes) {
        if (bytes > size_) {
            release();
            take(static_cast<std::size_t>(round_up(bytes, bytes < HUGE_PAGE ? 4096 : HUGE_PAGE)));
        }
        return data_;
    }

  private:
    void take(std::size_t bytes) {
#if defined(__linux__)
        if (bytes >= HUGE_PAGE) {  // from the system, because memory that was in use keeps its small pages
            void* pages = mmap(nullptr, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (pages == MAP_FAILED) throw ProductError{STATUS_MEMORY};
            mapped_ = pages;
            data_ = reinterpret_cast<void*>(round_up(reinterpret_cast<std::intptr_t>(pages), HUGE_PAGE));
            size_ = static_cast<std::int64_t>(bytes);
            madvise(data_, bytes, MADV_HUGEPAGE);
            return;
        }
#endif
        data_ = std::aligned_alloc(64, bytes);
        if (!data_) throw ProductError{STATUS_MEMORY};
        size_ = static_cast<std::int64_t>(bytes);
    }

    void release() {
        if (mapped_) {
#if defined(__linux__)
            munmap(mapped_, static_cast<std::size_t>(size_ + HUGE_PAGE));
#endif
        } else {
            std::free(data_);
        }
        mapped_ = data_ = nullptr;
        size_ = 0;
    }

    void *data_ = nullptr, *mapped_ = nullptr;
    std::int64_t size_ = 0;
};

}  // namespace

void* scratch(Use use, std::int64_t bytes) {
    thread_local Block blocks[USES];
    return blocks[use].get(bytes);
}

const Kernels& kernels_of_level(int level) {
    if (!level_available(level)) throw ProductError{STATUS_LEVEL};
    switch (level) {
#if defined(__x86_64__)
        case LEVEL_AVX2: return avx2_kernels;
        case LEVEL_AVX512: return avx512_kernels;
        case LEVEL_AVXVNNI: return avxvnni_kernels;
        case LEVEL_AVX512VNNI: return avx512vnni_kernels;
        case LEVEL_AMX: return amx_kernels;
#elif defined(__aarch64__)
        case LEVEL_NEON: return neon_kernels;
#endif
        default: return scalar_kernels;
    }
}

namespace {

void pack(PlannedConv& conv, const Kernels& kernels, int threads) {
    ConvPlan& p = conv.plan;
    const std::int64_t sums = round_up(conv.sum_count(), 8);
    const std::int64_t elements = round_up(conv.packed_elements(kernels), 64);
    char* memory = static_cast<char*>(scratch(USE_PACKED, elements * kernels.element_bytes + 16 * sums + SLACK));
    p.packed = memory;
    p.column_sums = reinterpret_cast<std::int64_t*>(memory + elements * kernels.element_bytes);
    p.column_magnitudes = p.column_sums + sums;
    const std::int64_t tasks = p.phase_count * p.groups * p.b.digits * pieces(p.out_group, kernels.columns);
    in_jobs(elements < 32768 ? 1 : threads, tasks, [&](std::int64_t task) { kernels.pack(p, task); });
}

// Whether all results fit int32. What the caller wants as int32 does. Sums on the way may wrap.
bool is_narrow(const PlannedConv& conv) {
    const ConvPlan& p = conv.plan;
    if (p.target.kind == RESULT_INT32) return true;
    const std::int64_t largest = *std::max_element(p.column_magnitudes, p.column_magnitudes + conv.sum_count());
    return largest <= INT32_MAX / p.a.bound;
}

// The largest sum of squares over the terms of one filter of a phase, in centred codes.
double largest_filter(const ConvPlan& p, const std::vector<PlannedConv::Tap>& taps) {
    const auto* codes = static_cast<const std::int16_t*>(p.b.data);
    double largest = 0;
    for (std::int64_t group = 0; group < p.groups; ++group) {
        for (std::int64_t column = 0; column < p.out_group; ++column) {
            double sum = 0;
            for (const PlannedConv::Tap& tap : taps) {
                const auto* from = codes + tap.offset + group * p.group_stride + column * p.column_stride;
                for (std::int64_t i = 0; i < p.in_group; ++i) {
                    const double value = from[i * p.contract_stride] - p.b.zero;
                    sum += value * value;
                }
            }
            largest = std::max(largest, sum);
        }
    }
    return largest;
}

// Whether all results of 16-bit codes fit int32 by Cauchy and Schwarz, often where the largest magnitudes say nothing:
// no result is larger than the norm of its window, whose square is at most the largest pixel's times the taps, times
// that of its filter.
bool is_narrow_by_norms(const PlannedConv& conv, int threads) {
    constexpr double LARGEST = 0.999 * INT32_MAX;  // sums of 2^40 terms are rounded to less than a thousandth
    const ConvPlan& p = conv.plan;
    const double pixel = largest_pixel(p.a, {p.images, p.height, p.width, p.channels}, threads);
    for (const std::vector<PlannedConv::Tap>& taps : conv.taps) {
        const double window = pixel * static_cast<double>(taps.size());
        if (window * largest_filter(p, taps) > LARGEST * LARGEST) return false;
    }
    return true;
}

// Terms of an int32 sum, so few that a look at all operands costs less than sums cut so short.
constexpr std::int64_t SHORT_SUM = 256;

// Whether Winograd's forms compute this: 3x3 taps and stride 1.
bool allows_winograd(const PlannedConv& conv, const Kernels& kernels) {
    const ConvPlan& p = conv.plan;
    const bool is_3x3 = conv.phases.size() == 1 && conv.taps[0].size() == 9 && p.step_y == 1 && p.step_x == 1 &&
                        p.high_y - p.low_y == 2 && p.high_x - p.low_x == 2;
    return kernels.winograd[0].job && is_3x3 && p.groups == 1 && p.in_group % kernels.unit == 0;
}

// Inner products that take as long as the transforms of an input or an output, each by point and channel: measured with
// AVX2, from 8 to 512 channels and from 2x2 to 56x56 pixels.
constexpr double TRANSFORM_COST = 12;

// Costs are times of inner products with AVX2.
double winograd_cost(const PlannedConv& conv, const Kernels& kernels, const WinogradForm& form, int digits) {
    const ConvPlan& p = conv.plan;
    const double channels = static_cast<double>(p.in_group);
    const double filters = static_cast<double>(round_up(p.out_group, kernels.lanes));
    const std::int64_t of_image = pieces(conv.phases[0].rows, form.outputs) * pieces(conv.phases[0].cols, form.outputs);
    const double of_tile = kernels.pace * channels * filters + TRANSFORM_COST * (channels + filters);
    return form.points * (digits * p.images * of_image * of_tile + kernels.filter_cost * channels * filters);
}

double direct_cost(const PlannedConv& conv, const Kernels& kernels) {
    const ConvPlan& p = conv.plan;
    double windows = 0;
    for (std::size_t f = 0; f < conv.phases.size(); ++f) {
        windows += static_cast<double>(conv.phases[f].rows * conv.phases[f].cols) * conv.taps[f].size();
    }
    const int digits = fewest_digits(p.a, kernels) * fewest_digits(p.b, kernels);
    const std::int64_t products = p.groups * p.in_group * round_up(p.out_group, kernels.lanes);
    return kernels.pace * digits * windows * p.images * products;
}

// What a product is computed with. form: of WINOGRAD_FORMS, or -1 for the direct product; digits: of the form's inputs.
struct Route {
    const Kernels* kernels;
    int form, digits;
    double cost;
};

// The direct product, or the form that costs least among those whose transformed operands fit int16.
Route cheapest(const PlannedConv& conv, const Kernels& kernels) {
    const ConvPlan& p = conv.plan;
    Route best{&kernels, -1, 1, direct_cost(conv, kernels)};
    if (!allows_winograd(conv, kernels)) return best;
    for (int form = 0; form < 2; ++form) {
        const WinogradForm& f = WINOGRAD_FORMS[form];
        const int digits = f.input_growth * p.a.bound > INT16_MAX ? 2 : 1;
        if (digits == 2 && p.a.code != CODE_INT16) continue;
        if (f.filter_growth * p.b.bound > INT16_MAX) continue;
        const double cost = winograd_cost(conv, kernels, f, digits);
        if (cost < best.cost) best = {&kernels, form, digits, cost};
    }
    return best;
}

// With bytes, or with words where those are cheaper.
Route route_of(const PlannedConv& conv, const Kernels& kernels) {
    const Route own = cheapest(conv, kernels);
    if (!kernels.words) return own;
    const Route words = cheapest(conv, *kernels.words);
    return words.cost < own.cost ? words : own;
}

void pack_winograd(PlannedConv& conv, const Kernels& kernels, int form, int threads) {
    ConvPlan& p = conv.plan;
    const std::int64_t panels = pieces(p.out_group, kernels.columns), points = WINOGRAD_FORMS[form].points;
    const std::int64_t filters = round_up(points * p.in_group * p.padded_columns * kernels.element_bytes, 64) + SLACK;
    char* memory = static_cast<char*>(scratch(USE_WINOGRAD, filters + panels * p.in_group / kernels.unit * 4));
    p.winograd = memory;
    p.winograd_ends = reinterpret_cast<std::int32_t*>(memory + filters);
    p.winograd_most = (WINOGRAD_FORMS[form].output_bound - 1) / p.a.digit_bound;
    in_jobs(threads, panels, [&](std::int64_t i) { kernels.winograd[form].pack(p, i); });
}

void finish_extremes(const ConvPlan& p, float* result) {
    Extremes all{__builtin_inff(), -__builtin_inff(), false};
    for (std::int64_t i = 0; i < p.job_count; ++i) {
        all.low = std::min(all.low, p.extremes[i].low);
        all.high = std::max(all.high, p.extremes[i].high);
        all.nan |= p.extremes[i].nan;
    }
    const float nan = __builtin_nanf("");
    result[0] = all.nan ? nan : all.low;
    result[1] = all.nan ? nan : all.high;
}

void run(PlannedConv& conv, const Kernels& level, int threads, float* extremes) {
    ConvPlan& p = conv.plan;
    const Extents input{p.images, p.height, p.width, p.channels};
    if (routes_by_bound(level)) measure_bound(p.a, input, threads);
    conv.find_span();
    const Route route = route_of(conv, level);
    const Kernels& kernels = *route.kernels;
    prepare(p.a, kernels, LEFT, fewest_digits(p.a, kernels));
    prepare(p.b, kernels, RIGHT, fewest_digits(p.b, kernels));
    conv.lay_out(kernels, threads);
    pack(conv, kernels, threads);
    p.narrow = is_narrow(conv);
    if (!p.narrow && p.a.code == CODE_INT16 && !routes_by_bound(level)) {
        measure_bound(p.a, input, threads);
        p.narrow = is_narrow(conv);
    }
    if (!p.narrow && p.a.code == CODE_INT16 && p.b.code == CODE_INT16 && int32_terms(p.a, p.b) < SHORT_SUM) {
        p.narrow = is_narrow_by_norms(conv, threads);
    }
    if (!p.narrow && int32_terms(p.a, p.b) < kernels.unit) {
        prepare(p.b, kernels, RIGHT, 2);
        conv.lay_out(kernels, threads);
        pack(conv, kernels, threads);
    }
    conv.limit(kernels, p.narrow ? 0 : int32_terms(p.a, p.b));
    const bool by_winograd = p.narrow && route.form >= 0;
    if (by_winograd) {
        prepare(p.a, kernels, LEFT, route.digits);
        pack_winograd(conv, kernels, route.form, threads);
        conv.find_winograd_jobs(kernels, WINOGRAD_FORMS[route.form], threads);
    }
    const auto job = by_winograd ? kernels.winograd[route.form].job : kernels.conv;
    std::vector<Extremes> seen(extremes ? conv.jobs.size() : 0);
    p.extremes = extremes ? seen.data() : nullptr;
    in_jobs(threads, p.job_count, [&](std::int64_t index) { job(p, index, scratch(USE_JOB, p.scratch_bytes)); });
    if (extremes) finish_extremes(p, extremes);
}

void set_input(ConvPlan& p, const Operand& x, std::int64_t images, std::int64_t channels, std::int64_t height,
               std::int64_t width) {
    p.a = x;
    p.images = images;
    p.channels = channels;
    p.height = height;
    p.width = width;
}

void set_target(ConvPlan& p, const Call& call, std::int64_t channels, std::int64_t height, std::int64_t width) {
    p.target = target_of(call);
    p.target.stride[0] = height * width * channels;
    p.target.stride[1] = width * channels;
    p.target.stride[2] = channels;
}

// Elements at equal distances; none of them stands for those that are not.
struct Line {
    std::int64_t count, stride;
};

// The lines `inner` that start at the elements of `outer`, as one.
Line joined(const Line& inner, const Line& outer) {
    if (outer.count == 1 || inner.count == 0) return inner;
    if (inner.count == 1) return outer;
    return inner.count * inner.stride == outer.stride ? Line{inner.count * outer.count, inner.stride} : Line{0, 0};
}

// A 1x1 convolution without padding reads its pixels with a stride, and where they follow each other, as one row.
void flatten(PlannedConv& conv, const Geometry& g) {
    ConvPlan& p = conv.plan;
    if (g.taps_y * g.taps_x != 1 || g.pad_y || g.pad_x) return;
    p.a.stride[1] *= p.step_y;
    p.a.stride[2] *= p.step_x;
    p.step_y = p.step_x = 1;
    p.height = g.out_h;
    p.width = g.out_w;
    const Line pixels = joined({p.width, p.a.stride[2]}, {p.height, p.a.stride[1]});
    const Line all = joined(pixels, {p.images, p.a.stride[0]});
    if (all.count == 0) return;
    p.a.stride[2] = all.stride;
    p.width = all.count;
    p.height = p.images = 1;
    conv.phases[0].rows = 1;
    conv.phases[0].cols = p.width;
}

void plan_forward(PlannedConv& conv, const Call& call) {
    const Geometry& g = call.where;
    ConvPlan& p = conv.plan;
    set_input(p, operand_of(call.first), g.images, g.channels, g.height, g.width);
    p.b = operand_of(call.second);
    p.groups = g.groups;
    p.in_group = g.channels / g.groups;
    p.out_group = g.filters / g.groups;
    p.step_y = g.stride_y;
    p.step_x = g.stride_x;
    p.out_step_y = p.out_step_x = 1;
    p.contract_stride = p.b.stride[3];
    p.column_stride = p.b.stride[0];
    p.group_stride = p.out_group * p.b.stride[0];
    set_target(p, call, g.filters, g.out_h, g.out_w);
    Phase phase{};
    phase.rows = g.out_h;
    phase.cols = g.out_w;
    conv.phases = {phase};
    conv.taps.resize(1);
    for (std::int64_t r = 0; r < g.taps_y; ++r) {
        for (std::int64_t s = 0; s < g.taps_x; ++s) {
            conv.taps[0].push_back({r * g.dilation_y - g.pad_y, s * g.dilation_x - g.pad_x,
                                    r * p.b.stride[1] + s * p.b.stride[2]});
        }
    }
    flatten(conv, g);
}

// The input pixels with one remainder modulo the stride meet the same taps.
void add_phase(PlannedConv& conv, const Geometry& g, std::int64_t y, std::int64_t x) {
    const Operand& w = conv.plan.b;
    Phase phase{};
    phase.out_y = y;
    phase.out_x = x;
    phase.rows = pieces(g.height - y, g.stride_y);
    phase.cols = pieces(g.width - x, g.stride_x);
    std::vector<PlannedConv::Tap> taps;
    for (std::int64_t r = g.taps_y - 1; r >= 0; --r) {
        const std::int64_t above = y + g.pad_y - r * g.dilation_y;
        if (above % g.stride_y) continue;
        for (std::int64_t s = g.taps_x - 1; s >= 0; --s) {
            const std::int64_t before = x + g.pad_x - s * g.dilation_x;
            if (before % g.stride_x) continue;
            taps.push_back({above / g.stride_y, before / g.stride_x, r * w.stride[1] + s * w.stride[2]});
        }
    }
    conv.phases.push_back(phase);
    conv.taps.push_back(taps);
}

void plan_input_grad(PlannedConv& conv, const Call& call) {
    const Geometry& g = call.where;
    ConvPlan& p = conv.plan;
    set_input(p, operand_of(call.first), g.images, g.filters, g.out_h, g.out_w);
    p.b = operand_of(call.second);
    p.groups = g.groups;
    p.in_group = g.filters / g.groups;
    p.out_group = g.channels / g.groups;
    p.step_y = p.step_x = 1;
    p.out_step_y = g.stride_y;
    p.out_step_x = g.stride_x;
    p.contract_stride = p.b.stride[0];
    p.column_stride = p.b.stride[3];
    p.group_stride = p.in_group * p.b.stride[0];
    set_target(p, call, g.channels, g.height, g.width);
    for (std::int64_t y = 0; y < std::min(g.stride_y, g.height); ++y) {
        for (std::int64_t x = 0; x < std::min(g.stride_x, g.width); ++x) add_phase(conv, g, y, x);
    }
}

}  // namespace
}  // namespace qbench

using qbench::Call;

QBENCH_EXPORT int qbench_conv2d(int level, int threads, const Call* call) {
    return qbench::guarded([&] {
        qbench::PlannedConv conv;
        qbench::plan_forward(conv, *call);
        qbench::run(conv, qbench::kernels_of_level(level), qbench::useful_threads(threads, products_of(call->where)),
                    reinterpret_cast<float*>(call->target.extremes));
    });
}

QBENCH_EXPORT int qbench_conv2d_input_grad(int level, int threads, const Call* call) {
    return qbench::guarded([&] {
        qbench::PlannedConv conv;
        qbench::plan_input_grad(conv, *call);
        qbench::run(conv, qbench::kernels_of_level(level), qbench::useful_threads(threads, products_of(call->where)),
                    nullptr);
    });
}
