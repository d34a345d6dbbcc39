// Plans of convolutions, matrix products and input gradients: runs of taps, segments, jobs.
#include <algorithm>

#include "products.h"

namespace qbench {
namespace {

// Prepared input of a job, chosen to stay in a core's second cache beside a panel of filters.
constexpr std::int64_t JOB_BYTES = 256 << 10;
constexpr std::int64_t JOBS_PER_THREAD = 4;
// Transformed input of a job, and tiles that it has at least, because the transformed filters are read once for each.
constexpr std::int64_t WINOGRAD_JOB_BYTES = 256 << 10;
constexpr std::int64_t WINOGRAD_JOB_TILES = 32;

}  // namespace

void PlannedConv::lay_out(const Kernels& kernels, int threads) {
    const std::size_t count = phases.size();
    runs.assign(count, {});
    segments.assign(count, {});
    chunks.assign(count, {});
    tap_offset.clear();
    jobs.clear();
    plan.padded_columns = round_up(plan.out_group, kernels.lanes);
    std::int64_t packed = 0, sums = 0;
    for (std::size_t f = 0; f < count; ++f) {
        find_runs(kernels, f);
        phases[f].packed = packed;
        phases[f].sums = sums;
        packed += phases[f].units * kernels.unit * plan.padded_columns * plan.groups * plan.b.digits;
        packed = round_up(packed, 64);
        sums += plan.padded_columns * plan.groups * plan.b.digits;
    }
    find_jobs(kernels, threads);
    plan.phases = phases.data();
    plan.phase_count = static_cast<std::int64_t>(count);
    plan.tap_offset = tap_offset.data();
    plan.jobs = jobs.data();
    plan.job_count = static_cast<std::int64_t>(jobs.size());
}

std::int64_t PlannedConv::packed_elements(const Kernels& kernels) const {
    const Phase& last = phases.back();
    return last.packed + last.units * kernels.unit * plan.padded_columns * plan.groups * plan.b.digits;
}

std::int64_t PlannedConv::sum_count() const {
    return phases.back().sums + plan.padded_columns * plan.groups * plan.b.digits;
}

void PlannedConv::find_span() {
    bool first = true;
    for (const auto& of_phase : taps) {
        for (const Tap& tap : of_phase) {
            plan.low_y = first ? tap.y : std::min(plan.low_y, tap.y);
            plan.high_y = first ? tap.y : std::max(plan.high_y, tap.y);
            plan.low_x = first ? tap.x : std::min(plan.low_x, tap.x);
            plan.high_x = first ? tap.x : std::max(plan.high_x, tap.x);
            first = false;
        }
    }
}

std::int64_t PlannedConv::image_width() const {
    std::int64_t cols = 1;
    for (const Phase& phase : phases) cols = std::max(cols, phase.cols);
    return (cols - 1) * plan.step_x + plan.high_x - plan.low_x + 1;
}

void PlannedConv::find_runs(const Kernels& kernels, std::size_t f) {
    Phase& phase = phases[f];
    phase.units = 0;
    const bool whole_pixels = plan.in_group == plan.channels;
    const std::vector<Tap>& list = taps[f];
    for (std::size_t t = 0; t < list.size(); ++t) {
        const bool next = t > 0 && whole_pixels && list[t].y == list[t - 1].y && list[t].x == list[t - 1].x + 1;
        if (next) {
            ++runs[f].back().taps;
        } else {
            const std::int64_t y = list[t].y - plan.low_y, x = list[t].x - plan.low_x;
            const std::int64_t pixel = y * image_width() + x;
            runs[f].push_back({static_cast<std::int32_t>(tap_offset.size()), 1, pixel * plan.channels, 0, pixel});
        }
        tap_offset.push_back(list[t].offset);
    }
    phase.terms = static_cast<std::int64_t>(list.size()) * plan.in_group;
    for (Run& run : runs[f]) {
        run.units = round_up(pieces(run.taps * plan.in_group, kernels.unit), kernels.depth);
        phase.units += run.units;
    }
    phase.runs = runs[f].data();
    phase.run_count = static_cast<std::int32_t>(runs[f].size());
}

void PlannedConv::limit(const Kernels& kernels, std::int64_t terms) {
    const std::int64_t step = kernels.depth;
    const std::int64_t most = terms ? std::max(step, terms / kernels.unit / step * step) : INT64_MAX;
    for (std::size_t f = 0; f < phases.size(); ++f) {
        segments[f].clear();
        chunks[f].clear();
        std::vector<std::size_t> starts{0};
        std::int64_t unit = 0, free = most;
        for (const Run& run : runs[f]) {
            for (std::int64_t done = 0; done < run.units;) {
                if (free == 0) {
                    starts.push_back(segments[f].size());
                    free = most;
                }
                const std::int64_t count = std::min(run.units - done, free);
                segments[f].push_back({run.a + done * kernels.unit, unit, count});
                done += count;
                unit += count;
                free -= count;
            }
        }
        starts.push_back(segments[f].size());
        for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
            const std::int32_t count = static_cast<std::int32_t>(starts[i + 1] - starts[i]);
            chunks[f].push_back({segments[f].data() + starts[i], count});
        }
        phases[f].chunks = chunks[f].data();
        phases[f].chunk_count = static_cast<std::int32_t>(chunks[f].size());
    }
}

void PlannedConv::find_jobs(const Kernels& kernels, int threads) {
    std::int64_t rows = 0, cols = 0;
    for (const Phase& phase : phases) {
        rows = std::max(rows, phase.rows);
        cols = std::max(cols, phase.cols);
    }
    const std::int64_t pixel = plan.channels * kernels.element_bytes * plan.a.digits;
    const std::int64_t span_y = plan.high_y - plan.low_y + 1, span_x = plan.high_x - plan.low_x + 1;
    const std::int64_t width = image_width();
    const auto bytes_of = [&](std::int64_t height) { return ((height - 1) * plan.step_y + span_y) * width * pixel; };
    const std::int64_t wanted = threads > 1 ? threads * JOBS_PER_THREAD : 1;
    std::int64_t images_each = 1, rows_each = rows, cols_each = cols;
    if (rows == 1 && span_y == 1 && span_x == 1) {  // one long row of pixels
        const std::int64_t fits = JOB_BYTES / std::max<std::int64_t>(1, plan.step_x * pixel);
        cols_each = std::min(round_up(pieces(cols * plan.images, wanted), kernels.rows), round_up(fits, kernels.rows));
        cols_each = std::max(cols_each, kernels.rows);
    } else if (2 * bytes_of(rows) <= JOB_BYTES && plan.images > wanted) {
        images_each = std::min(JOB_BYTES / bytes_of(rows), plan.images / wanted);
    } else {
        const std::int64_t parts = plan.images < wanted ? pieces(wanted, std::max<std::int64_t>(1, plan.images)) : 1;
        rows_each = std::max<std::int64_t>(1, pieces(rows, parts));
        while (rows_each > 1 && bytes_of(rows_each) > JOB_BYTES) rows_each = pieces(rows_each, 2);
    }
    for (std::int64_t n = 0; n < plan.images; n += images_each) {
        for (std::int64_t y = 0; y < rows; y += rows_each) {
            for (std::int64_t x = 0; x < cols; x += cols_each) {
                jobs.push_back({{n, std::min(n + images_each, plan.images)},
                                {y, std::min(y + rows_each, rows)},
                                {x, std::min(x + cols_each, cols)}});
            }
        }
    }
    const std::int64_t outputs = images_each * rows_each * cols_each;
    const std::int64_t held = ((rows_each - 1) * plan.step_y + span_y) * ((cols_each - 1) * plan.step_x + span_x);
    const std::int64_t overread = kernels.rows * plan.step_x * plan.channels * kernels.element_bytes;
    const std::int64_t sums = kernels.raw ? (images_each * held + 8) * 8 : 0;  // of the channels of each pixel
    plan.scratch_bytes = (outputs + 8) * 8 + sums + images_each * held * pixel + overread + SLACK;
}

void PlannedConv::find_winograd_jobs(const Kernels& kernels, const WinogradForm& form, int threads) {
    const std::int64_t down = pieces(phases[0].rows, form.outputs), across = pieces(phases[0].cols, form.outputs);
    const std::int64_t points = plan.a.digits * form.points;
    const std::int64_t row = points * across * plan.channels * kernels.element_bytes;
    const std::int64_t wanted = threads > 1 ? threads * JOBS_PER_THREAD : 1;
    const std::int64_t fits = WINOGRAD_JOB_BYTES / std::max<std::int64_t>(1, row);
    const std::int64_t most = std::max(fits, pieces(WINOGRAD_JOB_TILES, across));
    std::int64_t images_each = 1, rows_each = std::min(down, most);
    if (rows_each == down) images_each = std::max<std::int64_t>(1, std::min(most / down, plan.images / wanted));
    if (plan.images < wanted) rows_each = std::min(rows_each, pieces(down * plan.images, wanted));
    jobs.clear();
    for (std::int64_t n = 0; n < plan.images; n += images_each) {
        for (std::int64_t y = 0; y < down; y += rows_each) {
            jobs.push_back({{n, std::min(n + images_each, plan.images)}, {y, std::min(y + rows_each, down)}, {0, 0}});
        }
    }
    plan.jobs = jobs.data();
    plan.job_count = static_cast<std::int64_t>(jobs.size());
    const std::int64_t image = (form.outputs * rows_each + 2) * (form.outputs * across + 2) * plan.channels;
    const std::int64_t point = odd_cache_lines(images_each * rows_each * row / points);
    const std::int64_t of_tile = (form.points + form.outputs * form.outputs) * kernels.columns * 4;
    plan.scratch_bytes = WINOGRAD_BLOCKS * kernels.rows * of_tile + points * point + image * kernels.element_bytes + 2 * SLACK;
}

}  // namespace qbench
