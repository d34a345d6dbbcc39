// The gradient at the output of a norm and its ReLU, on the way to its codes.
#pragma once

#include <memory>
#include <numeric>

#include "pooling.h"

namespace qbench {

// A gradient as the passes read it: from memory, or behind max pooling, whose input's gradient is made a few rows at a
// time and never exists whole. It has four times as many values as the output's, or more, and most of them are 0.
class Gradient {
public:
    explicit Gradient(const float* g) : g_(g), unit_(GRAIN) {}
    Gradient(const float* g, const u8* window, i64 channels, const i64* geometry)
        : g_(nullptr), unpooling_(std::make_unique<Unpooling>(g, window, channels, geometry)) {
        unit_ = std::lcm(unpooling_->row_elements(), GRAIN);
    }

    // Ranges of elements start at multiples of it.
    i64 unit() const { return unit_; }

    // body(g, from, piece) for pieces of at most `most` elements, a multiple of GRAIN; g[0] is element `from`.
    template <class Body>
    void for_pieces(const Loops& loops, Range range, i64 most, const Body& body) const {
        if (!unpooling_) {
            for (i64 i = range.begin; i < range.end; i += most) body(g_, i64(0), piece_at(i, most, range));
            return;
        }
        const i64 piece = unit_ * (PIECE / unit_ > 1 ? PIECE / unit_ : 1), row = unpooling_->row_elements();
        Aligned<float> values(piece);
        for (i64 i = range.begin; i < range.end; i += piece) {
            const Range part = piece_at(i, piece, range);
            unpooling_->rows(loops, {part.begin / row, part.end / row}, values.data());
            for (i64 j = part.begin; j < part.end; j += most) body(values.data(), part.begin, piece_at(j, most, part));
        }
    }

private:
    static constexpr i64 PIECE = 16384;  // values that stay in the cache between the passes over them
    const float* g_;
    std::unique_ptr<Unpooling> unpooling_;
    i64 unit_;

    static Range piece_at(i64 begin, i64 size, Range range) {
        return {begin, begin + size < range.end ? begin + size : range.end};
    }
};

// [min, max] of the gradient where the view of the codes is positive, 0 elsewhere; of all of it without relu.
void gradient_extremes(
    const Gradient& g, const u8* codes, i64 n, i64 channels, const float* slope, const float* offset, bool relu,
    float* out, int threads, int isa);

// Its affine codes of the range [low, high], over the codes; sums [2, channels]: of the new codes e and of e * code.
void encode_gradient(
    const Gradient& g, u8* codes, i64 n, i64 channels, const float* slope, const float* offset, bool relu,
    EncodeJob encode, i64* sums, int threads, int isa);

}  // namespace qbench
