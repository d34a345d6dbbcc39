// The weight gradient whose error is a line of codes: one product of bytes, and what the line makes of it.
#include <algorithm>

#include "products.h"

namespace qbench {
namespace {

// With their middle taken off, codes fit where all of them would not: signed bytes, and one digit of Winograd's form.
constexpr float MIDDLE = LINE_MIDDLE;
// Elements of an image that a job adds up.
constexpr std::int64_t IMAGE_PART = 8192;

LinePlan plan_of(const Call& call, const CallLine& line) {
    const Geometry& g = call.where;
    LinePlan p{};
    p.x = reinterpret_cast<const std::uint8_t*>(call.first.data);
    p.e = reinterpret_cast<const std::uint8_t*>(call.second.data);
    p.zero = static_cast<float>(operand_of(call.first).zero);
    p.slope = reinterpret_cast<const float*>(line.slope);
    p.offset = reinterpret_cast<const float*>(line.offset);
    p.at = reinterpret_cast<const std::int64_t*>(line.at);
    p.values = reinterpret_cast<const float*>(line.values);
    p.replaced = line.replaced;
    p.to = reinterpret_cast<float*>(call.target.data);
    p.images = g.images;
    p.channels = g.channels;
    p.height = g.height;
    p.width = g.width;
    p.filters = g.filters;
    p.in_group = g.channels / g.groups;
    p.out_group = g.filters / g.groups;
    p.out_h = g.out_h;
    p.out_w = g.out_w;
    p.taps_y = g.taps_y;
    p.taps_x = g.taps_x;
    p.stride_y = g.stride_y;
    p.stride_x = g.stride_x;
    p.pad_y = g.pad_y;
    p.pad_x = g.pad_x;
    p.dilation_y = g.dilation_y;
    p.dilation_x = g.dilation_x;
    return p;
}

// Outputs whose window has a pixel of the input at a tap: [begin, end) along one dimension.
struct Inside {
    std::int64_t begin, end;

    Inside(std::int64_t first, std::int64_t stride, std::int64_t size, std::int64_t outputs) {
        begin = std::min(outputs, first < 0 ? pieces(-first, stride) : 0);
        end = std::max(begin, first < size ? std::min(outputs, pieces(size - first, stride)) : 0);
    }
};

// Sums of x - zero over all that an element of a filter meets, from the sums over images.
void sum_windows(const LinePlan& p, std::int64_t* row_sums, std::int64_t* met) {
    const std::int64_t groups = p.channels / p.in_group, row = p.taps_x * p.channels;
    std::fill_n(row_sums, p.height * row, 0);
    std::fill_n(met, p.taps_y * row, 0);
    std::vector<std::int64_t> across;
    for (std::int64_t s = 0; s < p.taps_x; ++s) {
        const std::int64_t first = s * p.dilation_x - p.pad_x;
        const Inside inside(first, p.stride_x, p.width, p.out_w);
        across.push_back(inside.end - inside.begin);
        for (std::int64_t y = 0; y < p.height; ++y) {
            std::int64_t* __restrict const to = row_sums + y * row + s * p.channels;
            for (std::int64_t x = inside.begin; x < inside.end; ++x) {
                const std::int64_t* __restrict const from =
                    p.image_sums + (y * p.width + first + x * p.stride_x) * p.channels;
                for (std::int64_t c = 0; c < p.channels; ++c) to[c] += from[c];
            }
        }
    }
    for (std::int64_t r = 0; r < p.taps_y; ++r) {
        const std::int64_t first = r * p.dilation_y - p.pad_y;
        const Inside inside(first, p.stride_y, p.height, p.out_h);
        for (std::int64_t s = 0; s < p.taps_x; ++s) {
            const std::int64_t pixels = p.images * (inside.end - inside.begin) * across[static_cast<std::size_t>(s)];
            for (std::int64_t group = 0; group < groups; ++group) {
                std::int64_t* const to = met + ((group * p.taps_y + r) * p.taps_x + s) * p.in_group;
                for (std::int64_t y = inside.begin; y < inside.end; ++y) {
                    const std::int64_t* const from =
                        row_sums + (first + y * p.stride_y) * row + s * p.channels + group * p.in_group;
                    for (std::int64_t c = 0; c < p.in_group; ++c) to[c] += from[c];
                }
                for (std::int64_t c = 0; c < p.in_group; ++c) to[c] -= static_cast<std::int64_t>(p.zero) * pixels;
            }
        }
    }
}

}  // namespace
}  // namespace qbench

QBENCH_EXPORT int qbench_conv2d_weight_grad_line(int level, int threads, const qbench::Call* call,
                                                 const qbench::CallLine* line) {
    using namespace qbench;
    return guarded([&] {
        const Kernels& kernels = kernels_of_level(level);
        LinePlan p = plan_of(*call, *line);
        const std::int64_t size = p.height * p.width * p.channels, row = p.taps_x * p.channels;
        std::int64_t* const memory =
            static_cast<std::int64_t*>(scratch(USE_LINE, 8 * (size + (p.height + p.taps_y) * row)));
        p.image_sums = memory;
        std::int64_t *const row_sums = memory + size, *const met = row_sums + p.height * row;
        const std::int64_t parts = pieces(size, IMAGE_PART);
        in_jobs(useful_threads(threads, products_of(call->where)), p.filters + parts, [&](std::int64_t job) {
            if (job < p.filters) return kernels.replaced_elements(p, job);
            const std::int64_t begin = (job - p.filters) * IMAGE_PART;
            kernels.sum_images(p, begin, std::min(begin + IMAGE_PART, size));
        });
        sum_windows(p, row_sums, met);
        Call centred = *call;
        centred.second.zero = reinterpret_cast<std::int64_t>(&MIDDLE);
        Target target = target_of(centred);
        target.slope = p.slope;
        target.offset = p.offset;
        target.met = met;
        weight_gradient(kernels, threads, centred, target);
    });
}
