// Operands of the integer products: zero points, digits and bounds.
#include <algorithm>
#include <cmath>

#include "products.h"

namespace qbench {
namespace {

constexpr std::int64_t LOOKED_AT_ONCE = 1 << 15;  // codes of a job

constexpr Recode plain(std::int32_t add) { return {add, 0, -1}; }

std::int64_t lowest(std::int32_t code) { return code == CODE_UINT8 ? 0 : code == CODE_INT8 ? -128 : -32768; }
std::int64_t highest(std::int32_t code) { return code == CODE_UINT8 ? 255 : code == CODE_INT8 ? 127 : 32767; }

std::int64_t bound_of(const Operand& x, std::int64_t low, std::int64_t high) {
    return std::max<std::int64_t>({1, x.zero - low, high - x.zero});
}

// Smallest and largest code.
struct Seen {
    std::int16_t low = INT16_MAX, high = INT16_MIN;

    void take(const Seen& other) {
        low = std::min(low, other.low);
        high = std::max(high, other.high);
    }

    void take(const std::int16_t* codes, std::int64_t stride, std::int64_t count) {
        Seen now;  // a local that registers hold
        for (std::int64_t i = 0; i < count; ++i) {
            const std::int16_t code = codes[i * stride];
            now.low = code < now.low ? code : now.low;
            now.high = code > now.high ? code : now.high;
        }
        take(now);
    }
};

// Sum of (code - zero)^2, in lanes that the compiler takes into registers. In float32 a large sum would swallow all the
// small squares that follow.
double squares(const std::int16_t* codes, std::int64_t stride, std::int64_t count, std::int32_t zero) {
    constexpr std::int64_t LANES = 8;
    double sums[LANES] = {};
    std::int64_t i = 0;
    if (stride == 1) {
        for (; i + LANES <= count; i += LANES) {
            for (std::int64_t lane = 0; lane < LANES; ++lane) {
                const double value = codes[i + lane] - zero;
                sums[lane] += value * value;
            }
        }
    }
    for (; i < count; ++i) {
        const double value = codes[i * stride] - zero;
        sums[0] += value * value;
    }
    for (std::int64_t lane = 1; lane < LANES; ++lane) sums[0] += sums[lane];
    return sums[0];
}

void prepare_centred(Operand& x, int digits) {
    x.digit_zero[0] = x.digit_zero[1] = 0;
    if (digits == 1) {
        x.recode[0] = plain(-x.zero);
        x.digit_bound = x.bound;
        return;
    }
    x.recode[0] = {-x.zero, 0, 255};
    x.recode[1] = {-x.zero, 8, -1};
    x.digit_bound = 256;
}

// Bytes that keep the zero point: unsigned on the left side, signed on the right, but for low digits where those may be
// unsigned.
void prepare_raw(Operand& x, Side side, bool low_digits_unsigned) {
    const std::int32_t offset = side == LEFT ? (x.code == CODE_INT8 ? 128 : 0) : (x.code == CODE_UINT8 ? -128 : 0);
    x.digit_bound = side == LEFT ? 255 : 128;
    x.digit_zero[1] = 0;
    x.digit_signed[0] = x.digit_signed[1] = true;
    if (x.code != CODE_INT16) {
        x.recode[0] = plain(offset);
        x.digit_zero[0] = x.zero + offset;
    } else if (side == LEFT) {
        x.recode[0] = plain(0);
        x.recode[1] = {32768, 8, -1};
        x.digit_zero[0] = x.zero;
        x.digit_zero[1] = 128;
    } else {
        x.digit_signed[0] = !low_digits_unsigned;
        if (low_digits_unsigned) x.digit_bound = 255;
        const std::int32_t low = low_digits_unsigned ? 0 : -128;
        x.recode[0] = plain(low);
        x.recode[1] = {0, 8, -1};
        x.digit_zero[0] = x.zero + low;
    }
}

}  // namespace

Operand operand_of(const CallFactor& factor) {
    Operand x{};
    x.data = reinterpret_cast<const void*>(factor.data);
    for (int i = 0; i < 4; ++i) x.stride[i] = factor.stride[i];
    x.code = static_cast<std::int32_t>(factor.code);
    if (factor.zero) {
        const float zero = *reinterpret_cast<const float*>(factor.zero);
        const bool fits = zero >= static_cast<float>(lowest(x.code)) && zero <= static_cast<float>(highest(x.code));
        if (!fits || zero != std::floor(zero)) throw ProductError{STATUS_ZERO_POINT};
        x.zero = static_cast<std::int32_t>(zero);
    }
    x.bound = bound_of(x, lowest(x.code), highest(x.code));
    return x;
}

bool routes_by_bound(const Kernels& level) { return !level.raw || level.words; }

// A pass over codes that were just written, or soon will be read, against digits, direct products and int64 sums that
// small codes do not need.
void measure_bound(Operand& x, const Extents& size, int threads) {
    if (x.code != CODE_INT16) return;
    const bool whole_rows = x.stride[3] == 1 && x.stride[2] == size.channels;
    const bool whole = whole_rows && x.stride[1] == size.width * x.stride[2] && x.stride[0] == size.height * x.stride[1];
    const std::int64_t count = size.images * size.height * size.width * size.channels;
    const std::int64_t jobs = whole ? pieces(count, LOOKED_AT_ONCE) : size.images * size.height;
    std::vector<Seen> seen(static_cast<std::size_t>(jobs));
    in_jobs(count < LOOKED_AT_ONCE ? 1 : threads, jobs, [&](std::int64_t job) {
        const auto* codes = static_cast<const std::int16_t*>(x.data);
        if (whole) {
            const std::int64_t begin = job * LOOKED_AT_ONCE;
            return seen[job].take(codes + begin, 1, std::min(LOOKED_AT_ONCE, count - begin));
        }
        codes += job / size.height * x.stride[0] + job % size.height * x.stride[1];
        for (std::int64_t column = 0; column < size.width; ++column) {
            seen[job].take(codes + column * x.stride[2], x.stride[3], size.channels);
        }
    });
    Seen all;
    for (const Seen& part : seen) all.take(part);
    x.bound = bound_of(x, all.low, all.high);
}

double largest_pixel(const Operand& x, const Extents& size, int threads) {
    const std::int64_t rows = size.images * size.height, each = std::max<std::int64_t>(1, pieces(rows, 8 * threads));
    std::vector<double> seen(static_cast<std::size_t>(pieces(rows, each)));
    in_jobs(threads, static_cast<std::int64_t>(seen.size()), [&](std::int64_t job) {
        double largest = 0;
        for (std::int64_t row = job * each; row < std::min(rows, (job + 1) * each); ++row) {
            const auto* codes = static_cast<const std::int16_t*>(x.data) + row / size.height * x.stride[0] +
                                row % size.height * x.stride[1];
            for (std::int64_t column = 0; column < size.width; ++column) {
                largest = std::max(largest, squares(codes + column * x.stride[2], x.stride[3], size.channels, x.zero));
            }
        }
        seen[job] = largest;
    });
    return seen.empty() ? 0 : *std::max_element(seen.begin(), seen.end());
}

int fewest_digits(const Operand& x, const Kernels& kernels) {
    const bool is_centred = !kernels.raw && (x.zero == 0 || x.bound <= INT16_MAX);
    return x.code == CODE_INT16 && !is_centred ? 2 : 1;
}

void prepare(Operand& x, const Kernels& kernels, Side side, int digits) {
    x.digits = digits;
    if (kernels.raw) {
        prepare_raw(x, side, kernels.low_digits_unsigned);
    } else {
        prepare_centred(x, digits);
    }
}

std::int64_t int32_terms(const Operand& a, const Operand& b) { return INT32_MAX / (a.digit_bound * b.digit_bound); }

Target target_of(const Call& call) {
    Target target{};
    target.data = reinterpret_cast<void*>(call.target.data);
    target.kind = static_cast<std::int32_t>(call.target.kind);
    target.adds = call.target.adds != 0;
    if (target.kind == RESULT_LINE) target.first_scale = *reinterpret_cast<const float*>(call.first.scale);
    if (target.kind == RESULT_FLOAT32 || target.kind == RESULT_UINT8) {
        target.first_scale = *reinterpret_cast<const float*>(call.first.scale);
        target.second_scale = reinterpret_cast<const float*>(call.second.scale);
        target.second_step = call.second.scale_count > 1 ? 1 : 0;
        target.bias = reinterpret_cast<const float*>(call.target.bias);
        if (target.kind == RESULT_UINT8) {
            const float* const encoding = reinterpret_cast<const float*>(call.target.encoding);
            target.code_scale = encoding[0];
            target.code_zero = encoding[1];
            target.code_top = encoding[2];
        }
    }
    return target;
}

}  // namespace qbench
