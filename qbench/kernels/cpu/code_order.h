// The order of codes by the values of a view: what lets max pooling compare bytes in place of floats.
#pragma once

#include <algorithm>
#include <array>

#include "jobs.h"

namespace qbench {

// Turns codes into keys and back. Keys are larger where values are, and equal where these are; a NaN is above all. In
// most channels max(code ^ flip, least) is such a key: values go up or down with the codes, but for the lowest ones,
// which a ReLU makes equal. In the others, where rounding or infinities make more values equal, keys come from a table.
class CodeOrder {
public:
    CodeOrder(const float* slope, const float* offset, bool relu, const float* table, i64 entries, i64 channels)
        : channels_(channels), flip_(channels + BYTES_MARGIN), least_(channels + BYTES_MARGIN),
          zeros_(channels + BYTES_MARGIN) {
        const int count = table ? static_cast<int>(entries) : 256;
        float values[256];
        for (i64 c = 0; c < channels; ++c) {
            for (int code = 0; code < count; ++code) {
                const float line = slope[c] * (table ? table[code] : static_cast<float>(code)) + offset[c];
                values[code] = relu && line < 0 ? 0.0f : line;
            }
            add(c, values, count);
        }
        for (i64 i = channels; i < channels + BYTES_MARGIN; ++i) {
            flip_.data()[i] = flip_.data()[i - channels];
            least_.data()[i] = least_.data()[i - channels];
        }
        zeros_.clear();
    }

    // Of whole pixels, `count` codes in all.
    void to_keys(const Loops& loops, const u8* codes, i64 count, u8* keys) {
        loops.pool_keys({codes, flip_.data(), least_.data(), channels_, count, keys});
        for (const Ranks& ranks : ranks_)
            for (i64 i = ranks.channel; i < count; i += channels_) keys[i] = ranks.of_code[codes[i]];
    }

    // Codes with the values that the keys stand for, in their place.
    void to_codes(const Loops& loops, u8* keys, i64 count) {
        for (const Ranks& ranks : ranks_)
            for (i64 i = ranks.channel; i < count; i += channels_) keys[i] = ranks.to_code[keys[i]];
        loops.pool_keys({keys, flip_.data(), zeros_.data(), channels_, count, keys});
    }

private:
    struct Ranks {
        i64 channel;
        std::array<u8, 256> of_code, to_code;
    };
    i64 channels_;
    Aligned<u8> flip_, least_, zeros_;
    std::vector<Ranks> ranks_;

    static bool is_above(float a, float b) { return a > b || (std::isnan(a) && !std::isnan(b)); }

    void add(i64 channel, const float* values, int count) {
        const bool goes_down = is_above(values[0], values[count - 1]);
        // By rising values, if codes are in their order.
        const auto code_at = [&](int place) { return goes_down ? count - 1 - place : place; };
        int lowest = 0;
        while (lowest + 1 < count && !is_above(values[code_at(lowest + 1)], values[code_at(0)]) &&
               !is_above(values[code_at(0)], values[code_at(lowest + 1)]))
            ++lowest;
        bool is_regular = true;
        for (int place = lowest + 1; place < count; ++place)
            is_regular = is_regular && is_above(values[code_at(place)], values[code_at(place - 1)]);
        flip_.data()[channel] = is_regular && goes_down ? 255 : 0;
        least_.data()[channel] = is_regular ? static_cast<u8>(code_at(lowest) ^ flip_.data()[channel]) : 0;
        if (!is_regular) ranks_.push_back(ranked(channel, values, count));
    }

    static Ranks ranked(i64 channel, const float* values, int count) {
        std::array<u8, 256> codes;
        for (int code = 0; code < count; ++code) codes[static_cast<std::size_t>(code)] = static_cast<u8>(code);
        const auto is_below = [&](u8 a, u8 b) { return is_above(values[b], values[a]); };
        std::stable_sort(codes.begin(), codes.begin() + count, is_below);
        Ranks ranks{channel, {}, {}};
        int rank = 0;
        for (int place = 0; place < count; ++place) {
            const u8 code = codes[static_cast<std::size_t>(place)];
            rank += place && is_below(codes[static_cast<std::size_t>(place - 1)], code);
            ranks.of_code[code] = static_cast<u8>(rank);
            ranks.to_code[static_cast<std::size_t>(rank)] = code;
        }
        return ranks;
    }
};

}  // namespace qbench
