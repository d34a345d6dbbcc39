// The weight gradient whose error is a line of codes: one product of bytes, and what the line makes of it.
#include <algorithm>

#include "products.h"

namespace qbench {
namespace {

// With their middle taken off, codes fit where all of them would not: signed bytes, and one digit of Winograd's form.
constexpr float MIDDLE = LINE_MIDDLE;
// Elements that a job adds up: of an image, of a row.
constexpr std::int64_t IMAGE_PART = 8192, ROW_PART = 1024;

LinePlan plan_of(const Call& call, const CallLine& line) {
    LinePlan p{call.where};
    p.x = reinterpret_cast<const std::uint8_t*>(call.first.data);
    p.zero = static_cast<std::uint16_t>(operand_of(call.first).zero);
    p.at = reinterpret_cast<const std::int64_t*>(line.at);
    p.extremes = line.extremes;
    p.pulled = reinterpret_cast<std::int32_t*>(call.target.data);  // until the gradient takes its place
    p.in_group = p.channels / p.groups;
    p.out_group = p.filters / p.groups;
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

// Of rows [tap row][column][channel]: the sums over images, added up over the rows that the tap's row meets.
void sum_rows(const LinePlan& p, int threads, std::int64_t* rows) {
    const std::int64_t length = p.width * p.channels, parts = pieces(length, ROW_PART);
    const double sums = static_cast<double>(p.taps_y * length) * p.out_h;
    in_jobs(useful_threads(threads, sums), p.taps_y * parts, [&](std::int64_t job) {
        const std::int64_t r = job / parts, begin = job % parts * ROW_PART, count = std::min(ROW_PART, length - begin);
        const std::int64_t first = r * p.dilation_y - p.pad_y;
        const Inside inside(first, p.stride_y, p.height, p.out_h);
        std::int64_t* __restrict const to = rows + r * length + begin;
        std::fill_n(to, count, 0);
        for (std::int64_t y = inside.begin; y < inside.end; ++y) {
            const std::int64_t* __restrict const from = p.image_sums + (first + y * p.stride_y) * length + begin;
            for (std::int64_t i = 0; i < count; ++i) to[i] += from[i];
        }
    });
}

// Sums of x - zero over all that an element of a filter meets, from those of its tap's row.
void sum_windows(const LinePlan& p, int threads, const std::int64_t* rows, std::int64_t* met) {
    const std::int64_t taps = p.taps_y * p.taps_x, in_group = p.in_group;
    const double sums = static_cast<double>(taps * p.channels) * p.out_w;
    in_jobs(useful_threads(threads, sums), taps, [&](std::int64_t tap) {
        const std::int64_t r = tap / p.taps_x, first = tap % p.taps_x * p.dilation_x - p.pad_x;
        const Inside down(r * p.dilation_y - p.pad_y, p.stride_y, p.height, p.out_h);
        const Inside inside(first, p.stride_x, p.width, p.out_w);
        const std::int64_t pixels = p.images * (down.end - down.begin) * (inside.end - inside.begin);
        for (std::int64_t channel = 0; channel < p.channels; channel += in_group) {
            std::int64_t* __restrict const to = met + channel * taps + tap * in_group;
            std::fill_n(to, in_group, -std::int64_t{p.zero} * pixels);
            for (std::int64_t x = inside.begin; x < inside.end; ++x) {
                const std::int64_t* __restrict const from =
                    rows + (r * p.width + first + x * p.stride_x) * p.channels + channel;
                for (std::int64_t c = 0; c < in_group; ++c) to[c] += from[c];
            }
        }
    });
}

}  // namespace
}  // namespace qbench

QBENCH_EXPORT int qbench_conv2d_weight_grad_line(int level, int threads, const qbench::Call* call,
                                                 const qbench::CallLine* line) {
    using namespace qbench;
    return guarded([&] {
        const Kernels& kernels = kernels_of_level(level);
        LinePlan p = plan_of(*call, *line);
        const std::int64_t row = p.width * p.channels, size = p.height * row, length = p.taps_x * p.channels;
        std::int64_t* const memory =
            static_cast<std::int64_t*>(scratch(USE_LINE, 8 * (size + p.taps_y * (row + length))));
        p.image_sums = memory;
        std::int64_t *const rows = memory + size, *const met = rows + p.taps_y * row;
        const std::int64_t parts = pieces(size, IMAGE_PART), filter = p.taps_y * p.taps_x * p.in_group;
        in_jobs(useful_threads(threads, products_of(call->where)), p.filters + parts, [&](std::int64_t job) {
            if (job < p.filters) {
                return kernels.met_by_extremes(p, job, static_cast<std::uint16_t*>(scratch(USE_JOB, 2 * filter)));
            }
            const std::int64_t begin = (job - p.filters) * IMAGE_PART;
            kernels.sum_images(p, begin, std::min(begin + IMAGE_PART, size));
        });
        sum_rows(p, threads, rows);
        sum_windows(p, threads, rows, met);
        Call centred = *call;
        centred.second.zero = reinterpret_cast<std::int64_t>(&MIDDLE);
        Target target = target_of(centred);
        target.slope = reinterpret_cast<const float*>(line->slope);
        target.mean = reinterpret_cast<const double*>(line->mean);
        target.pull = reinterpret_cast<const float*>(line->pull);
        target.met = met;
        weight_gradient(kernels, threads, centred, target);
    });
}
