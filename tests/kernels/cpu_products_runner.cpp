// Random convolutions and their gradients, at every level this machine runs, against plain loops in int64.
// For machines without Python and for sanitizers. Prints the levels and the number of comparisons; exit code 1 where
// two differ, after the round in which they do.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "isa.h"
#include "products.h"

extern "C" {
int qbench_conv2d(int level, int threads, const qbench::Call* call);
int qbench_conv2d_input_grad(int level, int threads, const qbench::Call* call);
int qbench_conv2d_weight_grad(int level, int threads, const qbench::Call* call);
int qbench_conv2d_weight_grad_line(int level, int threads, const qbench::Call* call, const qbench::CallLine* line);
}

namespace {

using qbench::Geometry;
using std::int64_t;

std::mt19937 random_bits(1);

int64_t between(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_bits);
}

int64_t address(const void* p) { return reinterpret_cast<int64_t>(p); }

// Codes of one type with channels last, and a zero point.
struct Factor {
    int code;
    float zero;
    int64_t shape[4];  // image or filter, row, column, channel
    std::vector<char> bytes;

    // Every byte the same, and no zero point.
    Factor(int code_, const std::vector<int64_t>& shape_, int byte) : code(code_), zero(0) {
        std::memcpy(shape, shape_.data(), sizeof shape);
        const int64_t count = shape[0] * shape[1] * shape[2] * shape[3];
        bytes.assign(static_cast<std::size_t>(count * size()), static_cast<char>(byte));
    }

    Factor(int code_, const std::vector<int64_t>& shape_) : Factor(code_, shape_, 0) {
        const bool extreme = between(0, 2) == 0;
        for (auto& byte : bytes) byte = static_cast<char>(extreme ? (code == qbench::CODE_UINT8 ? 255 : -128) : between(0, 255));
        zero = static_cast<float>(between(0, 1) ? 0 : between(code == qbench::CODE_UINT8 ? 0 : -128, 127));
        if (code == qbench::CODE_INT16 && between(0, 2)) {  // far from what the type holds, as most are
            const int64_t bounds[] = {0, 1, 127, 327, 328, 1400, 8191, 8192, 16256}, bound = bounds[between(0, 8)];
            set(extreme ? bound : -bound, bound);
        }
    }

    // Random int16 codes.
    void set(int64_t low, int64_t high) {
        for (std::size_t i = 0; i < bytes.size(); i += 2) {
            const auto wide = static_cast<std::int16_t>(between(low, high));
            std::memcpy(&bytes[i], &wide, 2);
        }
    }

    // The same int16 code everywhere, with random signs.
    void set_signs(int64_t code) {
        for (std::size_t i = 0; i < bytes.size(); i += 2) {
            const auto wide = static_cast<std::int16_t>(between(0, 1) ? code : -code);
            std::memcpy(&bytes[i], &wide, 2);
        }
    }

    int64_t size() const { return code == qbench::CODE_INT16 ? 2 : 1; }

    int64_t at(int64_t n, int64_t y, int64_t x, int64_t c) const {
        if (y < 0 || x < 0 || y >= shape[1] || x >= shape[2]) return 0;
        const char* from = bytes.data() + (((n * shape[1] + y) * shape[2] + x) * shape[3] + c) * size();
        std::int16_t wide;
        std::memcpy(&wide, from, size());
        const int64_t value = code == qbench::CODE_UINT8  ? static_cast<unsigned char>(*from)
                              : code == qbench::CODE_INT8 ? static_cast<signed char>(*from)
                                                          : wide;
        return value - static_cast<int64_t>(zero);
    }

    qbench::CallFactor call() const {
        const int64_t column = shape[3], row = column * shape[2], image = row * shape[1];
        static const float scale = 1;
        return {address(bytes.data()), address(&zero), address(&scale), 1, code, {image, row, column, 1}};
    }
};

Geometry random_geometry() {
    Geometry g{};
    g.groups = between(0, 3) ? 1 : between(1, 3);
    g.images = between(1, 3);
    g.channels = g.groups * (between(0, 3) ? between(1, 20) : 2 * between(16, 24));
    g.filters = g.groups * between(1, 40);
    g.taps_y = between(0, 2) ? 3 : between(1, 4);
    g.taps_x = between(0, 2) ? 3 : between(1, 4);
    const bool plain = between(0, 1);
    g.stride_y = plain ? 1 : between(1, 3);
    g.stride_x = plain ? 1 : between(1, 3);
    g.dilation_y = plain ? 1 : between(1, 2);
    g.dilation_x = plain ? 1 : between(1, 2);
    if (between(0, 2) == 0) {  // what Winograd's form takes
        g.groups = g.stride_y = g.stride_x = g.dilation_y = g.dilation_x = 1;
        g.taps_y = g.taps_x = 3;
        g.channels = 4 * between(8, 12);
        g.filters = between(32, 48);
    }
    g.pad_y = between(0, 2);
    g.pad_x = between(0, 2);
    g.height = between(1, 12);
    g.width = between(1, 24);
    if (between(0, 5) == 0) {  // what is read as one row of pixels, where the pixels are at equal distances
        g.taps_y = g.taps_x = 1;
        g.pad_y = g.pad_x = 0;
        g.height = between(1, 4);
        g.width = between(1, 4);
    }
    g.out_h = (g.height + 2 * g.pad_y - g.dilation_y * (g.taps_y - 1) - 1) / g.stride_y + 1;
    g.out_w = (g.width + 2 * g.pad_x - g.dilation_x * (g.taps_x - 1) - 1) / g.stride_x + 1;
    return g;
}

struct Round {
    Geometry g;
    Factor x, w, e;
};

Round random_round() {
    Geometry g = random_geometry();
    while (g.out_h <= 0 || g.out_w <= 0) g = random_geometry();
    const auto code = [] { return static_cast<int>(between(0, 2)); };
    const Factor x(code(), {g.images, g.height, g.width, g.channels});
    const Factor w(code(), {g.filters, g.taps_y, g.taps_x, g.channels / g.groups});
    return {g, x, w, Factor(code(), {g.images, g.out_h, g.out_w, g.filters})};
}

// The filters' gradient adds up 864 products, of which int32 holds 258. Random codes hardly ever get that far.
Round longest_sums() {
    const Geometry g{3, 2, 12, 24, 3, 3, 3, 12, 24, 1, 1, 1, 1, 1, 1, 1};
    return {g, Factor(qbench::CODE_INT16, {3, 12, 24, 2}, 0x80), Factor(qbench::CODE_INT8, {3, 3, 3, 2}, 0x80),
            Factor(qbench::CODE_UINT8, {3, 12, 24, 3}, 255)};
}

// 240 channels of which F(4x4, 3x3) takes 114 at a time. Random codes never come near its bound.
Round largest_outputs() {
    const Geometry g{6, 240, 10, 10, 32, 3, 3, 8, 8, 1, 1, 0, 0, 1, 1, 1};
    return {g, Factor(qbench::CODE_UINT8, {6, 10, 10, 240}, 255), Factor(qbench::CODE_INT8, {32, 3, 3, 240}, 0x80),
            Factor(qbench::CODE_UINT8, {6, 8, 8, 32}, 255)};
}

// Errors of -145, which fill one digit of the filters' gradient: F(3x3, 4x4) takes 56 of their 128 tiles at a time.
Round largest_filter_sums() {
    const Geometry g{2, 16, 34, 34, 16, 3, 3, 32, 32, 1, 1, 0, 0, 1, 1, 1};
    Factor e(qbench::CODE_INT8, {2, 32, 32, 16}, 0x80);
    e.zero = 17;
    return {g, Factor(qbench::CODE_UINT8, {2, 34, 34, 16}, 255), Factor(qbench::CODE_INT8, {16, 3, 3, 16}, 0x80), e};
}

Factor random_bytes(int code, const std::vector<int64_t>& shape) {
    Factor factor(code, shape, 0);
    for (auto& byte : factor.bytes) byte = static_cast<char>(between(0, 255));
    return factor;
}

// Errors of int16, of which the form of the filters' gradient makes two digits where it pays.
Round two_digits() {
    const Geometry g{8, 32, 16, 16, 32, 3, 3, 16, 16, 1, 1, 1, 1, 1, 1, 1};
    return {g, random_bytes(qbench::CODE_UINT8, {8, 16, 16, 32}), random_bytes(qbench::CODE_INT8, {32, 3, 3, 32}),
            random_bytes(qbench::CODE_INT16, {8, 16, 16, 32})};
}

// Inputs whose only large code is the last of many.
Round last_code() {
    const Geometry g{2, 40, 24, 24, 32, 3, 3, 24, 24, 1, 1, 1, 1, 1, 1, 1};
    Factor x(qbench::CODE_INT16, {2, 24, 24, 40}, 0);
    x.set(-100, 100);
    const std::int16_t last = INT16_MAX;
    std::memcpy(&x.bytes[x.bytes.size() - 2], &last, 2);
    return {g, x, random_bytes(qbench::CODE_INT8, {32, 3, 3, 40}), random_bytes(qbench::CODE_INT16, {2, 24, 24, 32})};
}

// The filters' gradient adds up 576 products, of which int32 holds 94, and fewer than are packed at once.
Round longest_parts() {
    const Geometry g{1, 3, 24, 24, 2, 3, 3, 24, 24, 1, 1, 1, 1, 1, 1, 1};
    Factor x(qbench::CODE_INT16, {1, 24, 24, 3}, 0), e(qbench::CODE_INT16, {1, 24, 24, 2}, 0);
    x.set(1400, 1400);
    e.set(16256, 16256);
    return {g, x, random_bytes(qbench::CODE_INT8, {2, 3, 3, 3}), e};
}

// Inputs that a transform by 10 * 10 takes just beyond int16, where their signs are those of its coefficients.
Round largest_transforms() {
    const Geometry g{8, 32, 16, 16, 32, 3, 3, 16, 16, 1, 1, 1, 1, 1, 1, 1};
    Factor x(qbench::CODE_INT16, {8, 16, 16, 32}, 0);
    x.set_signs(328);
    return {g, x, random_bytes(qbench::CODE_INT8, {32, 3, 3, 32}), random_bytes(qbench::CODE_INT8, {8, 16, 16, 32})};
}

// The same of filters, by 7 * 7.
Round largest_filters() {
    const Geometry g{8, 32, 16, 16, 32, 3, 3, 16, 16, 1, 1, 1, 1, 1, 1, 1};
    Factor w(qbench::CODE_INT16, {32, 3, 3, 32}, 0);
    w.set_signs(669);
    return {g, random_bytes(qbench::CODE_INT8, {8, 16, 16, 32}), w, random_bytes(qbench::CODE_INT8, {8, 16, 16, 32})};
}

// Errors of -146, which a transform by 15 * 15 takes beyond int16 where it adds them all up. Inputs that are all alike
// would meet that point with 0. The number of tiles is odd.
Round largest_errors() {
    const Geometry g{5, 32, 12, 12, 32, 3, 3, 12, 12, 1, 1, 1, 1, 1, 1, 1};
    Factor e(qbench::CODE_INT8, {5, 12, 12, 32}, 0x80);
    e.zero = 18;
    return {g, random_bytes(qbench::CODE_UINT8, {5, 12, 12, 32}), random_bytes(qbench::CODE_INT8, {32, 3, 3, 32}), e};
}

// Errors of 17 bits relative to their zero point, which are more than two digits.
Round beyond_digits() {
    Round round = two_digits();
    round.e.zero = 100;
    return round;
}

// The input's gradient meets 5 taps of a row or 4, in turn.
Round long_filters() {
    const Geometry g{2, 3, 12, 14, 5, 9, 9, 6, 7, 2, 2, 4, 4, 1, 1, 1};
    Factor w = random_bytes(qbench::CODE_UINT8, {5, 9, 9, 3});
    w.zero = 131;
    return {g, random_bytes(qbench::CODE_UINT8, {2, 12, 14, 3}), w, random_bytes(qbench::CODE_UINT8, {2, 6, 7, 5})};
}

// 40,000 products of bytes, of which int32 holds 33,025 where both are unsigned and 65,793 where one is signed.
Round longest_low_digits() {
    const Geometry g{1, 1, 200, 200, 1, 1, 1, 200, 200, 1, 1, 0, 0, 1, 1, 1};
    Factor e(qbench::CODE_INT16, {1, 200, 200, 1}, 0);
    e.set(255, 255);
    return {g, Factor(qbench::CODE_UINT8, {1, 200, 200, 1}, 255), random_bytes(qbench::CODE_INT8, {1, 1, 1, 1}), e};
}

// 67,500 products of bytes, of which int32 holds 65,793 where one is signed; 300 images, of which 16 bits add up 257.
Round many_images() {
    const Geometry g{300, 1, 15, 15, 1, 1, 1, 15, 15, 1, 1, 0, 0, 1, 1, 1};
    return {g, Factor(qbench::CODE_UINT8, {300, 15, 15, 1}, 255), random_bytes(qbench::CODE_INT8, {1, 1, 1, 1}),
            Factor(qbench::CODE_INT8, {300, 15, 15, 1}, 0x80)};
}

// The same int16 codes everywhere, of a convolution with 3x3 taps whose sums have 9 terms for each channel of a group.
Round alike(int64_t channels, int64_t groups, int64_t input, int64_t filter) {
    const Geometry g{2, channels, 7, 6, 4, 3, 3, 7, 6, 1, 1, 1, 1, 1, 1, groups};
    Factor x(qbench::CODE_INT16, {2, 7, 6, channels}, 0), w(qbench::CODE_INT16, {4, 3, 3, channels / groups}, 0);
    x.set(input, input);
    w.set(filter, filter);
    return {g, x, w, random_bytes(qbench::CODE_INT16, {2, 7, 6, 4})};
}

// 18 products, whose sum is 131,074 more than int32 takes.
Round just_beyond_int32() { return alike(2, 1, 10923, 10923); }

// Codes that are 0 stand for 20,000; with filters of 2,000 int32 takes 53 products, not 81.
Round far_zero_point() {
    Round round = alike(9, 1, 0, 2000);
    round.x.zero = -20000;
    return round;
}

// Only the sums of the last filter pass int32.
Round one_large_filter() {
    Round round = alike(8, 2, 30000, 0);
    for (std::size_t i = round.w.bytes.size() * 3 / 4; i < round.w.bytes.size(); i += 2) {
        const std::int16_t large = 3000;
        std::memcpy(&round.w.bytes[i], &large, 2);
    }
    return round;
}

// Only windows that hold the last pixel of the last image, of 9 channels, have sums that pass int32.
Round one_large_pixel() {
    Round round = alike(9, 1, 0, 20000);
    for (std::size_t i = round.x.bytes.size() - 18; i < round.x.bytes.size(); i += 2) {
        const std::int16_t large = 20000;
        std::memcpy(&round.x.bytes[i], &large, 2);
    }
    return round;
}

Round fixed_round(int index) {
    switch (index) {
        case 0: return longest_sums();
        case 1: return largest_outputs();
        case 2: return largest_filter_sums();
        case 3: return two_digits();
        case 4: return last_code();
        case 5: return longest_parts();
        case 6: return largest_transforms();
        case 7: return largest_filters();
        case 8: return largest_errors();
        case 9: return long_filters();
        case 10: return longest_low_digits();
        case 11: return many_images();
        case 12: return just_beyond_int32();
        case 13: return far_zero_point();
        case 14: return one_large_filter();
        case 15: return one_large_pixel();
        default: return beyond_digits();
    }
}
constexpr int FIXED = 17;

// What a filter's element meets at an output: a pixel of the input, and the elements' number.
struct Met {
    int64_t r, s, c, row, col, channel, element;
};

// body(met) for all that filter k meets at the output in row y and column z.
template <class Body>
void over_window(const Geometry& g, int64_t y, int64_t z, int64_t k, const Body& body) {
    const int64_t each = g.channels / g.groups, first = k / (g.filters / g.groups) * each;
    for (int64_t r = 0; r < g.taps_y; ++r)
        for (int64_t s = 0; s < g.taps_x; ++s) {
            const int64_t row = y * g.stride_y + r * g.dilation_y - g.pad_y;
            const int64_t col = z * g.stride_x + s * g.dilation_x - g.pad_x;
            if (row < 0 || col < 0 || row >= g.height || col >= g.width) continue;
            for (int64_t c = 0; c < each; ++c) {
                body(Met{r, s, c, row, col, first + c, ((k * g.taps_y + r) * g.taps_x + s) * each + c});
            }
        }
}

// body(n, y, z, k) for every element of the output.
template <class Body>
void over_outputs(const Geometry& g, const Body& body) {
    for (int64_t n = 0; n < g.images; ++n)
        for (int64_t y = 0; y < g.out_h; ++y)
            for (int64_t z = 0; z < g.out_w; ++z)
                for (int64_t k = 0; k < g.filters; ++k) body(n, y, z, k);
}

int64_t elements_of_filters(const Geometry& g) { return g.filters * g.taps_y * g.taps_x * (g.channels / g.groups); }

// Adds every product to all three results: forward, gradient of the input, gradient of the filters.
struct Expected {
    std::vector<int64_t> forward, input, filters;

    Expected(const Geometry& g, const Factor& x, const Factor& w, const Factor& e)
        : forward(g.images * g.out_h * g.out_w * g.filters), input(g.images * g.height * g.width * g.channels),
          filters(elements_of_filters(g)) {
        over_outputs(g, [&](int64_t n, int64_t y, int64_t z, int64_t k) {
            const int64_t error = e.at(n, y, z, k);
            over_window(g, y, z, k, [&](const Met& m) {
                const int64_t a = x.at(n, m.row, m.col, m.channel), b = w.at(k, m.r, m.s, m.c);
                forward[((n * g.out_h + y) * g.out_w + z) * g.filters + k] += a * b;
                input[((n * g.height + m.row) * g.width + m.col) * g.channels + m.channel] += error * b;
                filters[m.element] += a * error;
            });
        });
    }
};

// The gradient of the filters whose error is a line of codes, with what its definition makes of it.
struct Line {
    const Geometry& g;
    Factor x, e;
    float scale = real(1e-6f);
    std::vector<float> slope, pull;
    std::vector<double> mean;
    std::vector<int64_t> at;  // maxima, then minima

    // largest: sums of the products that the kernels add up.
    Line(const Geometry& geometry, bool largest)
        : g(geometry), x(qbench::CODE_UINT8, {g.images, g.height, g.width, g.channels}, 255),
          e(qbench::CODE_UINT8, {g.images, g.out_h, g.out_w, g.filters}, 0) {
        // Maxima that meet 255, of which 16 bits add up 128, and minima that meet 0: else what is lost of both cancels.
        const bool many = !largest && between(0, 7) == 0;
        const bool cancels = !largest && between(0, 3) == 0;  // all but the pull, so that every rounding shows
        if (many) std::fill(x.bytes.begin() + static_cast<int64_t>(x.bytes.size() / 2), x.bytes.end(), '\0');
        if (!largest && !many) x = Factor(x.code, {g.images, g.height, g.width, g.channels});
        if (cancels) e = Factor(e.code, {g.images, g.out_h, g.out_w, g.filters}, 1);
        if (!largest && !cancels) e = random_bytes(e.code, {g.images, g.out_h, g.out_w, g.filters});
        for (int64_t k = 0; k < g.filters; ++k) {
            slope.push_back(real(cancels ? 1e3f : 1e-6f));
            mean.push_back(cancels ? 1 + 0x1p-40 * static_cast<double>(between(1, 1000)) : real(1e-4f));
            pull.push_back(real(1e-3f));
        }
        const int64_t half = (many ? between(129, 300) : between(0, 4)) * g.filters;
        const int64_t outputs = g.images * g.out_h * g.out_w;
        for (int64_t i = 0; i < 2 * half; ++i) {
            const int64_t places[] = {0, outputs - 1, between(0, outputs - 1)};
            const bool again = !many && i >= half && between(0, 2) == 0;
            const int64_t output = places[many ? i / half : between(0, 2)];
            at.push_back(again ? at[i - half] : output * g.filters + i % g.filters);
        }
    }

    static float real(float scale) { return scale * static_cast<float>(between(-1000000, 1000000)); }

    std::vector<float> expected() const {
        const int64_t count = elements_of_filters(g), each = count / g.filters;
        std::vector<int64_t> sums(count), met(count), pulled(count);
        over_outputs(g, [&](int64_t n, int64_t y, int64_t z, int64_t k) {
            const int64_t error = e.at(n, y, z, k);
            over_window(g, y, z, k, [&](const Met& m) {
                const int64_t pixel = x.at(n, m.row, m.col, m.channel);
                sums[m.element] += pixel * error;
                met[m.element] += pixel;
            });
        });
        for (std::size_t i = 0; i < at.size(); ++i) {
            const int64_t k = at[i] % g.filters, output = at[i] / g.filters, sign = i < at.size() / 2 ? -1 : 1;
            const int64_t z = output % g.out_w, y = output / g.out_w % g.out_h, n = output / g.out_w / g.out_h;
            over_window(g, y, z, k, [&](const Met& m) {
                pulled[m.element] += sign * x.at(n, m.row, m.col, m.channel);
            });
        }
        std::vector<float> result(count);
        for (int64_t i = 0; i < count; ++i) {
            const double of_met = mean[i / each] * static_cast<double>(met[i]);
            const double centred = static_cast<double>(sums[i]) - of_met;
            const double of_sums = static_cast<double>(slope[i / each]) * centred;
            const double of_extremes = static_cast<double>(pull[i / each]) * static_cast<double>(pulled[i]);
            result[i] = static_cast<float>(of_sums + of_extremes) * scale;
        }
        return result;
    }

    bool gives(int level, int threads, const std::vector<float>& wanted) const {
        std::vector<float> result(wanted.size(), 77);
        qbench::Call call{x.call(), e.call(), {address(result.data()), qbench::RESULT_LINE, 0, 0}, g};
        call.first.scale = address(&scale);
        const auto each = static_cast<int64_t>(at.size()) / g.filters;
        const qbench::CallLine line{address(slope.data()), address(mean.data()), address(pull.data()),
                                    address(at.data()), each};
        return qbench_conv2d_weight_grad_line(level, threads, &call, &line) == qbench::STATUS_DONE &&
               std::memcmp(result.data(), wanted.data(), 4 * wanted.size()) == 0;
    }
};

template <class Function, class Result>
bool gives(Function function, int level, int threads, const Factor& first, const Factor& second, const Geometry& g,
           int kind, const std::vector<Result>& expected) {
    std::vector<Result> result(expected.size(), 77);
    const qbench::Call call{first.call(), second.call(), {address(result.data()), kind, 0, 0}, g};
    return function(level, threads, &call) == qbench::STATUS_DONE && result == expected;
}

// As integers, and as floats of scale 1, which whole vectors of sums become at once.
template <class Function>
bool same(Function function, int level, int threads, const Factor& first, const Factor& second, const Geometry& g,
          const std::vector<int64_t>& expected) {
    const std::vector<float> rounded(expected.begin(), expected.end());
    return gives(function, level, threads, first, second, g, qbench::RESULT_INT64, expected) &&
           gives(function, level, threads, first, second, g, qbench::RESULT_FLOAT32, rounded);
}

}  // namespace

int main(int argc, char** argv) {
    const int rounds = argc > 1 ? std::atoi(argv[1]) : 100;
    int compared = 0, wrong = 0;
    for (int i = 0; i < rounds && !wrong; ++i) {
        random_bits.seed(static_cast<unsigned>(i - FIXED));  // what a random round is depends on no other
        const auto [g, x, w, e] = i < FIXED ? fixed_round(i) : random_round();
        const Expected expected(g, x, w, e);
        const int threads = i < FIXED ? 1 : static_cast<int>(between(1, 3));  // one has the longest sums
        const Line line(g, i < FIXED);
        const std::vector<float> of_line = line.expected();
        for (int level = 0; level < qbench::LEVELS; ++level) {
            if (!qbench::level_available(level)) continue;
            const bool right[] = {same(qbench_conv2d, level, threads, x, w, g, expected.forward),
                                  same(qbench_conv2d_input_grad, level, threads, e, w, g, expected.input),
                                  same(qbench_conv2d_weight_grad, level, threads, x, e, g, expected.filters),
                                  line.gives(level, threads, of_line)};
            for (int op = 0; op < 4; ++op, ++compared) {
                if (right[op]) continue;
                ++wrong;
                std::printf("round %d, level %d, operation %d differs; geometry", i, level, op);
                for (int64_t number : reinterpret_cast<const int64_t(&)[sizeof(Geometry) / 8]>(g)) {
                    std::printf(" %lld", static_cast<long long>(number));
                }
                std::printf("; codes %d %d %d, zeros %g %g %g", x.code, w.code, e.code, x.zero, w.zero, e.zero);
                std::printf("; of the line %g, %zu extremes\n", line.x.zero, line.at.size());
            }
        }
    }
    std::printf("levels");
    for (int level = 0; level < qbench::LEVELS; ++level) {
        if (qbench::level_available(level)) std::printf(" %d", level);
    }
    std::printf("\n%d comparisons, %d wrong\n", compared, wrong);
    return wrong || !compared;
}
