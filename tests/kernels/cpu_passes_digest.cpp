// For the instruction set given by its number: prints one digest per elementwise function and input (two builds of the
// library agree where they print the same lines), or, with a second argument, codes of elements far beyond what memory
// holds.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "jobs.h"

using namespace qbench;

extern "C" {
void qbench_extremes(const float*, i64, float*, int, int);
void qbench_encode_affine(const float*, i64, const float*, const float*, int, int, u32, u32, u32, int, void*, float*,
                          float*, int, int);
void qbench_encode_scaled(const float*, i64, const float*, i64, int, double, double, double, int, u32, u32, u32, int,
                          void*, float*, int, int);
void qbench_encode_flag(const float*, i64, const float*, i64, int, i16*, float*, int, int);
void qbench_encode_binary(const float*, i64, const float*, u32, u32, u32, int, i8*, float*, int, int);
void qbench_encode_levels(const float*, i64, i64, const float*, const float*, const float*, i64, u8*, int, int);
void qbench_look_up(const u8*, i64, const float*, i64, float*, int, int);
void qbench_decode(const void*, int, i64, const float*, const float*, float*, int, int);
void qbench_encode_affine_view(const u8*, i64, i64, const float*, const float*, int, const float*, const float*, int,
                               int, u32, u32, u32, int, const i64*, const float*, i64, void*, float*, float*, int, int);
void qbench_view_extremes(const u8*, i64, i64, const float*, const float*, int, const i64*, const float*, i64, float*,
                          int, int);
void qbench_view(const u8*, i64, i64, const float*, i64, const float*, const float*, int, const float*, float*, u8*,
                 float*, int, int);
void qbench_apply_mask(const float*, i64, const u8*, float*, float*, int, int);
void qbench_rectify(const float*, i64, const float*, float*, u8*, float*, int, int);
void qbench_round_scaled(const float*, i64, const float*, i64, int, double, double, double, int, u32, u32, u32, int,
                         float*, int, int);
void qbench_encode_channels(const float*, i64, i64, double, int, u32, u32, u32, int, void*, float*, int, int);
void qbench_decode_channels(const void*, int, i64, i64, const float*, float*, int, int);
void qbench_join_gradients(const void*, int, i64, const float*, const float*, const u8*, float*, int, int);
void qbench_view_gradient_extremes(const float*, const u8*, i64, i64, const float*, const float*, int, float*, int, int);
void qbench_encode_view_gradient(const float*, u8*, i64, i64, const float*, const float*, int, const float*,
                                 const float*, int, int, u32, u32, u32, int, float*, float*, i64*, int, int);
void qbench_chunk_statistics(const u8*, i64, i64, i64, i64*, u8*, u8*, i64*, i64*, int, int);
void qbench_moments(const float*, i64, i64, double*, double*, float*, float*, int, int);
void qbench_level_gradient_sums(const float*, const u8*, i64, i64, const float*, i64, const float*, const float*, int,
                                double*, int, int);
void qbench_level_gradient(const float*, const u8*, i64, i64, const float*, i64, const float*, const float*, int,
                           const float*, const float*, const float*, float*, int, int);
void qbench_direct_line(i64, const double*, const double*, const float*, const float*, const double*, double, double,
                        float*, float*, float*, float*, float*, float*, float*, int, int);
void qbench_direct_gradient_line(i64, const double*, i64, double, const float*, const float*, const float*, const float*,
                                 float*, float*, float*, float*, float*, int, int);
void qbench_direct_view(const float*, i64, i64, const float*, const float*, double, double, const float*, const float*,
                        int, const float*, float*, u8*, int, int);
void qbench_encode_direct_view(const float*, i64, i64, const float*, const float*, double, double, const float*,
                               const float*, int, double, double, double, int, void*, float*, int, int);
void qbench_direct_gradient_sums(const void*, int, const float*, const float*, i64, i64, const float*, const float*,
                                 double, double, const float*, const float*, int, double*, int, int);
void qbench_direct_gradient(const void*, int, const float*, const float*, i64, i64, const float*, const float*, double,
                            double, const float*, const float*, int, const float*, const float*, const float*, float*,
                            float*, int, int);
void qbench_bounded_values(const float*, i64, double, const void*, int, const float*, int, double, float*, u8*, u8*, int,
                           int);
void qbench_encode_bounded(const float*, i64, double, const void*, int, const float*, int, double, double, double, double,
                           int, void*, float*, u8*, u8*, int, int);
void qbench_encode_bounded_error(const float*, i64, const void*, int, const float*, const u8*, const u8*, double, double,
                                 int, void*, float*, int, int);
void qbench_sgd_on_grid(void*, int, i64, const float*, float*, double, double, double, int, int, double, double, double,
                        int, u32, u32, u32, int, int);
void qbench_adam_on_grid(void*, int, i64, const float*, float*, float*, double, double, double, double, double, double,
                         double, double, double, int, u32, u32, u32, int, int);
void qbench_quantized_momentum(i32*, i32*, float*, i64, const float*, double, i64, i64, i64, i64, u32, u32, u32, int,
                               int, int);
void qbench_shift_step(void*, int, float*, i64, const float*, double, i64, u32, u32, u32, int, int, int);
void qbench_poison(float*, const float*, i64, int, int);
void qbench_max_pool(const float*, i64, i64, const i64*, float*, u8*, int, int);
void qbench_max_pool_view(const u8*, i64, i64, const i64*, const float*, i64, const float*, const float*, int, float*, u8*,
                          int, int);
void qbench_max_pool_direct_view(const float*, i64, i64, const i64*, const float*, const float*, double, double,
                                 const float*, const float*, int, float*, u8*, int, int);
void qbench_max_pool_backward(const float*, const u8*, i64, i64, const i64*, float*, int, int);
void qbench_pack_bits(const u8*, i64, int, u8*, int, int);
void qbench_unpack_bits(const u8*, i64, int, u8*, int, int);
}

namespace {

int isa;
constexpr int THREADS = 3;
u64 state = 88172645463325252ull;

u32 random_word() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<u32>(state >> 32);
}

float random_float() { return static_cast<float>(static_cast<i32>(random_word())) / 1073741824.0f; }

std::vector<float> floats(i64 n, bool awkward) {
    const float values[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-45f, -1e-40f, 0.5f, -0.5f, 3e38f};
    std::vector<float> x(static_cast<std::size_t>(n));
    for (float& value : x) value = awkward && random_word() % 8 == 0 ? values[random_word() % 10] : random_float();
    return x;
}

std::vector<u8> bytes(i64 n, u32 below) {
    std::vector<u8> codes(static_cast<std::size_t>(n));
    for (u8& code : codes) code = static_cast<u8>(random_word() % below);
    return codes;
}

struct Digest {
    u64 hash = 1469598103934665603ull;

    void add(const void* data, std::size_t size) {
        for (std::size_t i = 0; i < size; ++i) hash = (hash ^ static_cast<const u8*>(data)[i]) * 1099511628211ull;
    }
    // Every NaN counts as one, and so do the two zeros.
    void add_floats(const std::vector<float>& values) {
        for (float value : values) {
            value = std::isnan(value) ? NAN : value == 0 ? 0.0f : value;
            add(&value, sizeof value);
        }
    }
    template <class T>
    void add_all(const std::vector<T>& values) { add(values.data(), values.size() * sizeof(T)); }
    void print(const std::string& name) const { std::printf("%s %016llx\n", name.c_str(), (unsigned long long)hash); }
};

template <class T>
std::vector<T> room(i64 n) { return std::vector<T>(static_cast<std::size_t>(n)); }

void encoders(i64 n, bool awkward) {
    const std::string input = std::to_string(n) + (awkward ? " awkward" : "");
    const auto x = floats(n, awkward);
    const float low = -0.7f, high = 0.9f, magnitude = 0.8f;
    auto scale = room<float>(3);
    {
        Digest digest;
        qbench_extremes(x.data(), n, scale.data(), THREADS, isa);
        digest.add_floats(scale);
        digest.print("extremes " + input);
    }
    for (int generator = -1; generator < 2; ++generator) {
        Digest digest;
        auto codes = room<u8>(n);
        qbench_encode_affine(x.data(), n, &low, &high, 8, 1, 1, 2, 3, generator, codes.data(), &scale[0], &scale[1],
                             THREADS, isa);
        digest.add_all(codes);
        auto signs = room<i8>(n);
        qbench_encode_binary(x.data(), n, &magnitude, 1, 2, 3, generator, signs.data(), &scale[2], THREADS, isa);
        digest.add_all(signs);
        digest.add_floats(scale);
        digest.print("affine and binary " + std::to_string(generator) + " " + input);
    }
    for (int rule = NEAREST; rule <= HASH; ++rule) {
        Digest digest;
        auto codes8 = room<i8>(n);
        auto codes16 = room<i16>(n);
        auto codes32 = room<i32>(n);
        void* const out[] = {codes8.data(), codes16.data(), codes32.data()};
        for (int type = INT8; type <= INT32; ++type)
            qbench_encode_scaled(x.data(), n, &magnitude, 1, 1, 90.0, -INFINITY, INFINITY, rule, 1, 2, 3, type,
                                 out[type - 1], &scale[0], THREADS, isa);
        digest.add_all(codes8);
        digest.add_all(codes16);
        digest.add_all(codes32);
        auto decoded = room<float>(n);
        qbench_decode(codes16.data(), INT16, n, &magnitude, &high, decoded.data(), THREADS, isa);
        digest.add_floats(decoded);
        qbench_round_scaled(x.data(), n, &magnitude, 1, 1, 90.0, -INFINITY, INFINITY, rule, 1, 2, 3, INT8,
                            decoded.data(), THREADS, isa);
        digest.add_floats(decoded);
        const i64 channels = n % 3 ? 1 : 3;
        qbench_encode_channels(x.data(), n, channels, 127, rule, 1, 2, 3, INT16, codes16.data(), &scale[0], THREADS, isa);
        digest.add_all(codes16);
        digest.add_floats(scale);
        qbench_decode_channels(codes16.data(), INT16, n, channels, &scale[0], decoded.data(), THREADS, isa);
        digest.add_floats(decoded);
        digest.print("scaled " + std::to_string(rule) + " " + input);
    }
    for (const float* trunk : {static_cast<const float*>(nullptr), x.data()}) {
        Digest digest;
        auto values = room<float>(n);
        auto mask = room<u8>((n + 7) / 8);
        qbench_rectify(x.data(), n, trunk, values.data(), mask.data(), &scale[0], THREADS, isa);
        digest.add_floats(values);
        digest.add_all(mask);
        digest.add_floats(scale);
        digest.print((trunk ? "rectify sum " : "rectify ") + input);
    }
    {
        Digest digest;
        auto codes = room<i16>(n);
        qbench_encode_flag(x.data(), n, &magnitude, 1, 8, codes.data(), &scale[0], THREADS, isa);
        digest.add_all(codes);
        digest.print("flag " + input);
    }
    for (i64 count : {1, 2, 3, 7, 15, 20, 31, 63, 100, 127, 255}) {
        Digest digest;
        auto thresholds = room<float>(count), table = floats(count + 1, false);
        for (i64 i = 0; i < count; ++i)
            thresholds[static_cast<std::size_t>(i)] = 1.6f * static_cast<float>(i + 1) / static_cast<float>(count + 1) - 0.8f;
        auto codes = room<u8>(n);
        qbench_encode_levels(x.data(), n, 1, nullptr, nullptr, thresholds.data(), count, codes.data(), THREADS, isa);
        digest.add_all(codes);
        auto values = room<float>(n);
        qbench_look_up(codes.data(), n, table.data(), count + 1, values.data(), THREADS, isa);
        digest.add_floats(values);
        digest.print("levels " + std::to_string(count) + " " + input);
    }
    for (int bits = 1; bits <= 4; ++bits) {
        Digest digest;
        const auto codes = bytes(n, 1u << bits);
        auto packed = room<u8>((n * bits + 7) / 8), back = room<u8>(n);
        qbench_pack_bits(codes.data(), n, bits, packed.data(), THREADS, isa);
        qbench_unpack_bits(packed.data(), n, bits, back.data(), THREADS, isa);
        digest.add_all(packed);
        digest.add_all(back);
        digest.print("packing " + std::to_string(bits) + " " + input);
    }
}

void passes(i64 rows, i64 channels, int relu) {
    const i64 n = rows * channels;
    const std::string input = std::to_string(rows) + "x" + std::to_string(channels) + (relu ? " relu" : "");
    const auto codes = bytes(n, 256);
    const auto g = floats(n, false);
    auto slope = floats(channels, false), offset = floats(channels, false);
    for (float& value : slope) value *= 0.01f;
    const float low = -0.9f, high = 1.7f;
    auto numbers = room<float>(4);
    std::vector<i64> at;
    for (i64 i = 0; i < n; i += 37) at.push_back(i);
    const auto values = floats(static_cast<i64>(at.size()), false);
    const i64 replaced = static_cast<i64>(at.size());
    for (int generator = -1; generator < 2; ++generator) {
        Digest digest;
        auto encoded = room<u8>(n), e = codes;
        auto sums = room<i64>(2 * channels);
        qbench_encode_affine_view(codes.data(), n, channels, slope.data(), offset.data(), relu, &low, &high, 8, 1, 1, 2,
                                  3, generator, at.data(), values.data(), replaced, encoded.data(), &numbers[0],
                                  &numbers[1], THREADS, isa);
        qbench_encode_view_gradient(g.data(), e.data(), n, channels, slope.data(), offset.data(), relu, &low, &high, 8,
                                    1, 1, 2, 3, generator, &numbers[2], &numbers[3], sums.data(), THREADS, isa);
        digest.add_all(encoded);
        digest.add_all(e);
        digest.add_all(sums);
        digest.add_floats(numbers);
        digest.print("views " + std::to_string(generator) + " " + input);
    }
    {
        Digest digest;
        auto value = room<float>(n);
        auto mask = room<u8>((n + 7) / 8);
        qbench_view(codes.data(), n, channels, nullptr, 0, slope.data(), offset.data(), relu, g.data(), value.data(),
                    mask.data(), &numbers[0], THREADS, isa);
        qbench_view_extremes(codes.data(), n, channels, slope.data(), offset.data(), relu, at.data(), values.data(),
                             replaced, &numbers[2], THREADS, isa);
        digest.add_floats(value);
        digest.add_floats(numbers);
        if (relu) {
            digest.add_all(mask);
            qbench_apply_mask(g.data(), n, mask.data(), value.data(), &numbers[0], THREADS, isa);
            digest.add_floats(value);
            // The unsigned codes as signed ones.
            qbench_join_gradients(codes.data(), 1, n, &low, g.data(), mask.data(), value.data(), THREADS, isa);
            digest.add_floats(value);
        }
        qbench_view_gradient_extremes(g.data(), codes.data(), n, channels, slope.data(), offset.data(), relu,
                                      &numbers[2], THREADS, isa);
        digest.add_floats(numbers);
        digest.print("view and extremes " + input);
    }
    {
        Digest digest;
        const i64 chunks = rows % 4 ? 1 : 4;
        auto sums = room<i64>(channels), low_at = room<i64>(chunks * channels), high_at = low_at;
        auto lows = room<u8>(chunks * channels), highs = lows;
        qbench_chunk_statistics(codes.data(), rows, channels, chunks, sums.data(), lows.data(), highs.data(),
                                low_at.data(), high_at.data(), THREADS, isa);
        digest.add_all(sums);
        digest.add_all(lows);
        digest.add_all(highs);
        digest.add_all(low_at);
        digest.add_all(high_at);
        digest.print("statistics " + input);
    }
    for (i64 entries : {16, 32, 200}) {
        Digest digest;
        const auto table = floats(entries, false);
        const auto levels = bytes(n, static_cast<u32>(entries));
        auto value = room<float>(n);
        auto mask = room<u8>((n + 7) / 8);
        qbench_view(levels.data(), n, channels, table.data(), entries, slope.data(), offset.data(), relu, nullptr,
                    value.data(), mask.data(), &numbers[0], THREADS, isa);
        digest.add_floats(value);
        qbench_level_gradient(g.data(), levels.data(), n, channels, table.data(), entries, slope.data(), offset.data(),
                              relu, slope.data(), offset.data(), slope.data(), value.data(), THREADS, isa);
        digest.add_floats(value);
        // The order of the sums depends on the vector's width where it does not divide the number of channels.
        if (channels % 16 == 0) {
            auto sums = room<double>(2 * channels), mean = room<double>(channels), variance = mean;
            auto lows = room<float>(channels), highs = lows;
            qbench_level_gradient_sums(g.data(), levels.data(), rows, channels, table.data(), entries, slope.data(),
                                       offset.data(), relu, sums.data(), THREADS, isa);
            qbench_moments(g.data(), rows, channels, mean.data(), variance.data(), lows.data(), highs.data(), THREADS,
                           isa);
            digest.add_all(sums);
            digest.add_all(mean);
            digest.add_all(variance);
            digest.add_floats(lows);
            digest.add_floats(highs);
        }
        digest.print("level passes " + std::to_string(entries) + " " + input);
    }
}

void direct(i64 rows, i64 channels, int relu, bool awkward) {
    const i64 n = rows * channels;
    Digest digest;
    const auto x = floats(n, awkward), g = floats(n, awkward), mean = floats(channels, false);
    const auto slope = floats(channels, false), offset = floats(channels, awkward), inverse = floats(channels, false);
    auto value = room<float>(n), numbers = room<float>(2);
    auto mask = room<u8>((n + 7) / 8);
    qbench_direct_view(x.data(), rows, channels, mean.data(), inverse.data(), 128, 127, slope.data(), offset.data(),
                       relu, nullptr, value.data(), mask.data(), THREADS, isa);
    digest.add_floats(value);
    qbench_direct_view(x.data(), rows, channels, mean.data(), inverse.data(), 32768, 16777216, slope.data(),
                       offset.data(), relu, g.data(), value.data(), mask.data(), THREADS, isa);
    digest.add_floats(value);
    if (relu) digest.add_all(mask);
    auto codes8 = room<i8>(n);
    auto codes16 = room<i16>(n);
    auto codes32 = room<i32>(n);
    void* const out[] = {codes8.data(), codes16.data(), codes32.data()};
    for (int type = INT8; type <= INT32; ++type) {
        qbench_encode_direct_view(x.data(), rows, channels, mean.data(), inverse.data(), 128, 32767, slope.data(),
                                  offset.data(), relu, 0.0078125, -INFINITY, INFINITY, type, out[type - 1], &numbers[0],
                                  THREADS, isa);
        digest.add_floats(numbers);
    }
    digest.add_all(codes8);
    digest.add_all(codes16);
    digest.add_all(codes32);
    const void* const gradients[] = {g.data(), codes8.data(), codes16.data()};
    const int types[] = {-1, INT8, INT16};
    for (int k = 0; k < 3; ++k) {
        const float scale = 0.03f;
        qbench_direct_gradient(gradients[k], types[k], k ? &scale : nullptr, x.data(), rows, channels, mean.data(),
                               inverse.data(), 128, 32767, slope.data(), offset.data(), relu, slope.data(),
                               offset.data(), mean.data(), value.data(), numbers.data(), THREADS, isa);
        digest.add_floats(value);
        digest.add_floats(numbers);
        if (channels % 16 || awkward) continue;  // the order of the sums depends on the width of vectors elsewhere
        auto sums = room<double>(3 * channels);
        qbench_direct_gradient_sums(gradients[k], types[k], k ? &scale : nullptr, x.data(), rows, channels, mean.data(),
                                    inverse.data(), 128, 32767, slope.data(), offset.data(), relu, sums.data(), THREADS,
                                    isa);
        digest.add_all(sums);
    }
    digest.print("direct " + std::to_string(rows) + "x" + std::to_string(channels) + (relu ? " relu" : "") +
                 (awkward ? " awkward" : ""));
}

void bounded(i64 n, bool awkward) {
    Digest digest;
    const auto y = floats(n, awkward), trunk = floats(n, false);
    auto value = room<float>(n), scale = room<float>(1);
    auto passed = room<u8>((n + 7) / 8), unclipped = room<u8>((n + 7) / 8);
    auto codes8 = room<i8>(n);
    auto codes16 = room<i16>(n);
    auto codes32 = room<i32>(n);
    void* const out[] = {codes8.data(), codes16.data(), codes32.data()};
    const void* const beside[] = {nullptr, trunk.data(), codes8.data(), codes16.data()};
    const int types[] = {-1, -1, INT8, INT16};
    const float unit = 0.0078125f;
    for (int k = 0; k < 4; ++k)
        for (int relu = 0; relu < 2; ++relu) {
            const float* const given = k > 1 ? &unit : nullptr;
            qbench_bounded_values(y.data(), n, 0.25, beside[k], types[k], given, relu, 0.9, value.data(), passed.data(),
                                  unclipped.data(), THREADS, isa);
            digest.add_floats(value);
            for (int type = INT8; type <= INT32; ++type) {
                if (type == types[k]) continue;  // these codes are the trunk's
                qbench_encode_bounded(y.data(), n, 0.25, beside[k], types[k], given, relu, 0.9, unit, -127, 127, type,
                                      out[type - 1], scale.data(), passed.data(), unclipped.data(), THREADS, isa);
                digest.add_floats(scale);
            }
            digest.add_all(passed);
            digest.add_all(unclipped);
        }
    digest.add_all(codes8);
    digest.add_all(codes16);
    digest.add_all(codes32);
    for (int k = 1; k < 4; ++k) {
        qbench_encode_bounded_error(y.data(), n, k > 1 ? beside[k] : nullptr, types[k], &unit, passed.data(),
                                    unclipped.data(), 128, 127, INT32, codes32.data(), scale.data(), THREADS, isa);
        digest.add_floats(scale);
        digest.add_all(codes32);
    }
    digest.print("bounded " + std::to_string(n) + (awkward ? " awkward" : ""));
}

void direct_lines(i64 channels) {
    Digest digest;
    const auto weight = floats(channels, true), bias = floats(channels, false), other = floats(channels, false);
    const double grids[] = {32768, 16777216, 32768, 16777216, 128, 32767};
    auto sums = room<double>(3 * channels);
    for (double& sum : sums) sum = random_float();
    std::vector<std::vector<float>> found(12, room<float>(channels));
    for (double& sum : sums) sum = std::fabs(sum);
    qbench_direct_line(channels, sums.data(), sums.data() + channels, weight.data(), bias.data(), grids, 128, 0.00003,
                       found[0].data(), found[1].data(), found[2].data(), found[3].data(), found[4].data(),
                       found[5].data(), found[6].data(), THREADS, isa);
    qbench_direct_gradient_line(channels, sums.data(), 77, 128, weight.data(), bias.data(), other.data(), weight.data(),
                                found[7].data(), found[8].data(), found[9].data(), found[10].data(), found[11].data(),
                                THREADS, isa);
    for (const auto& vector : found) digest.add_floats(vector);
    digest.print("direct lines " + std::to_string(channels));
}

void updates(i64 n) {
    const auto grad = floats(n, false);
    for (int rule = NEAREST; rule <= SIGN_HASH; ++rule) {
        Digest digest;
        auto codes = bytes(n, 256);
        auto first = room<float>(n), second = first;
        for (int step = 1; step < 3; ++step) {
            qbench_sgd_on_grid(codes.data(), INT8, n, grad.data(), first.data(), 0.1, 1e-3, 0.9, 1, step == 1, 0.02,
                               -128, 127, rule, 1, 2, 3, THREADS, isa);
            qbench_adam_on_grid(codes.data(), INT8, n, grad.data(), first.data(), second.data(), 0.01, 0.9, 0.99, 1e-8,
                                0.5, 1e-3, 0.02, -128, 127, rule, 1, 2, 3, THREADS, isa);
        }
        digest.add_all(codes);
        digest.add_floats(first);
        digest.add_floats(second);
        digest.print("updates " + std::to_string(rule) + " " + std::to_string(n));
    }
    Digest digest;
    auto weight = room<i32>(n), accumulator = weight;
    float scale = 1.0f / 8388608;
    for (i32& value : weight) value = static_cast<i32>(random_word()) >> 8;
    for (i32& value : accumulator) value = static_cast<i32>(random_word()) >> 18;
    qbench_quantized_momentum(weight.data(), accumulator.data(), &scale, n, grad.data(), 1e-3, 128, 1, 26, 8388607, 1, 2,
                              3, 0, THREADS, isa);
    digest.add_all(weight);
    digest.add_all(accumulator);
    digest.print("momentum " + std::to_string(n));
    auto codes8 = room<i8>(n);
    auto codes16 = room<i16>(n);
    qbench_shift_step(codes8.data(), INT8, &scale, n, grad.data(), 8, 127, 1, 2, 3, 0, THREADS, isa);
    qbench_shift_step(codes16.data(), INT16, &scale, n, grad.data(), 1024, 2000, 1, 2, 3, 1, THREADS, isa);
    digest.add_all(codes8);
    digest.add_all(codes16);
    qbench_poison(&scale, grad.data(), n, THREADS, isa);
    digest.add_floats(std::vector<float>{scale});
    digest.print("shift step " + std::to_string(n));
}

void pooling(i64 channels) {
    Digest digest;
    const i64 geometry[] = {9, 7, 5, 4, 3, 3, 2, 2, 1, 1};
    const auto x = floats(2 * 9 * 7 * channels, true);
    auto y = room<float>(2 * 5 * 4 * channels), grad = room<float>(2 * 9 * 7 * channels);
    auto window = room<u8>(2 * 5 * 4 * channels);
    qbench_max_pool(x.data(), 2, channels, geometry, y.data(), window.data(), THREADS, isa);
    digest.add_floats(y);
    digest.add_all(window);
    qbench_max_pool_backward(y.data(), window.data(), 2, channels, geometry, grad.data(), THREADS, isa);
    digest.add_floats(grad);
    const auto codes = bytes(2 * 9 * 7 * channels, 256), few = bytes(2 * 9 * 7 * channels, 16);
    const auto slope = floats(channels, false), mean = floats(channels, false), table = floats(16, true);
    auto offset = floats(channels, false);
    for (i64 c = 0; c < channels; ++c) offset[static_cast<std::size_t>(c)] *= -100;
    for (int relu = 0; relu < 2; ++relu) {
        qbench_max_pool_view(codes.data(), 2, channels, geometry, nullptr, 0, slope.data(), offset.data(), relu, y.data(),
                             window.data(), THREADS, isa);
        digest.add_floats(y);
        digest.add_all(window);
        qbench_max_pool_view(few.data(), 2, channels, geometry, table.data(), 16, slope.data(), offset.data(), relu,
                             y.data(), window.data(), THREADS, isa);
        digest.add_floats(y);
        digest.add_all(window);
        qbench_max_pool_direct_view(x.data(), 2, channels, geometry, mean.data(), slope.data(), 128, 32767, slope.data(),
                                    mean.data(), relu, y.data(), window.data(), THREADS, isa);
        digest.add_floats(y);
        digest.add_all(window);
    }
    digest.print("pooling " + std::to_string(channels));
}

// Codes of halves, rounded stochastically, at indices beyond 2^32 and 2^34, as for a part of a larger tensor. A line is the
// generator, the first index and the codes.
void far_elements() {
    const i64 count = 256, starts[] = {(1ll << 32) - 128, (1ll << 34) - 128, (1ll << 40) + 64};
    const std::vector<float> halves(256, 0.5f);
    for (int rule : {PHILOX, HASH})
        for (i64 start : starts) {
            auto codes = room<u8>(count);
            EncodeJob job;
            // The first element of the arrays has the index `start`.
            job.x = reinterpret_cast<const float*>(reinterpret_cast<std::uintptr_t>(halves.data()) - 4 * start);
            job.out = codes.data();
            job.out_from = start;
            job.high = 1;
            job.rule = rule;
            job.key = {1, 2, 3};
            loops_for(isa).encode(job, {start, start + count});
            std::printf("%d %lld", rule == HASH, static_cast<long long>(start));
            for (u8 code : codes) std::printf(" %d", code);
            std::printf("\n");
        }
}

}  // namespace

int main(int count, char** arguments) {
    isa = std::atoi(arguments[1]);
    if (count > 2) return far_elements(), 0;
    for (i64 n : {0, 1, 15, 16, 17, 63, 64, 65, 1000, 70001}) {
        encoders(n, false);
        encoders(n, true);
        updates(n);
        bounded(n, false);
        bounded(n, true);
    }
    for (i64 channels : {1, 3, 16, 20, 64, 100})
        for (i64 rows : {1, 7, 64, 1028})
            for (int relu = 0; relu < 2; ++relu) {
                passes(rows, channels, relu);
                direct(rows, channels, relu, false);
                direct(rows, channels, relu, true);
            }
    for (i64 channels : {1, 16, 37}) direct_lines(channels);
    for (i64 channels : {1, 5, 16, 33}) pooling(channels);
}
