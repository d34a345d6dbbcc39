// Codes seen as values: slope[c] * code + offset[c], or with table[code] in place of the code.
#include "elements.cuh"

// The source of the value before slope and offset: the code itself, or a table that is not null.
DEVICE float code_value(u8 code, const float* table) { return table ? table[code] : (float)code; }

DEVICE float linear_view(float value, float slope, float offset) { return add(multiply(slope, value), offset); }

// max(value, 0) that keeps NaN.
DEVICE float rectified(float value, bool relu) { return relu && value < 0.0f ? 0.0f : value; }

// A gradient passes where the value before the ReLU was positive.
DEVICE float masked(float gradient, float value, bool relu) { return !relu || value > 0.0f ? gradient : 0.0f; }

// Slope and offset of four neighbouring elements.
struct ChannelPair {
    float slope[4], offset[4];

    template <typename Live>
    DEVICE ChannelPair(const float* slopes, const float* offsets, u32 channel, u32 channels, Live live) {
        load_channels(slopes, channel, channels, live, slope);
        load_channels(offsets, channel, channels, live, offset);
    }
};

// A gradient and the codes that it belongs to.
struct GradientItem {
    Quad<float> gradient;
    Quad<u8> code;

    template <typename Live> DEVICE static GradientItem of(const float* g, const u8* codes, i64 first, Live live) {
        return GradientItem{Quad<float>::of(g, first, live), Quad<u8>::of(codes, first, live)};
    }
};
