// Parts of the weight gradient whose error is a line of codes. Included inside each instruction set's namespace.

// Elements [begin, end) of an image, added up over all images.
inline void sum_images(const LinePlan& p, std::int64_t begin, std::int64_t end) {
    constexpr std::int64_t BLOCK = 1024, MOST = UINT16_MAX / UINT8_MAX;  // images whose sum 16 bits take
    const std::int64_t size = p.height * p.width * p.channels;
    for (std::int64_t at = begin; at < end; at += BLOCK) {
        const std::int64_t count = end - at < BLOCK ? end - at : BLOCK;
        std::int64_t* __restrict const to = p.image_sums + at;
        fill(to, count, std::int64_t{0});
        for (std::int64_t first = 0; first < p.images; first += MOST) {
            const std::int64_t last = first + MOST < p.images ? first + MOST : p.images;
            alignas(64) std::uint16_t sums[BLOCK] = {};
            for (std::int64_t image = first; image < last; ++image) {
                const std::uint8_t* __restrict const from = p.x + image * size + at;
                for (std::int64_t i = 0; i < count; ++i) sums[i] = static_cast<std::uint16_t>(sums[i] + from[i]);
            }
            for (std::int64_t i = 0; i < count; ++i) to[i] += sums[i];
        }
    }
}

// to += factor * (from - zero), every operation rounded.
inline void add_multiple(const std::uint8_t* __restrict from, std::int64_t count, float factor, float zero,
                         float* __restrict to) {
    for (std::int64_t i = 0; i < count; ++i) {
        const float centred = static_cast<float>(from[i]) - zero;
        to[i] += factor * centred;
    }
}

// What the replaced elements of one filter add to its gradient: of each, a multiple of the window that it meets.
inline void replaced_elements(const LinePlan& p, std::int64_t filter) {
    const std::int64_t length = p.taps_x * p.in_group, half = p.replaced / 2;
    const std::int64_t channel = filter / p.out_group * p.in_group;
    const bool together = p.dilation_x == 1 && p.in_group == p.channels;  // a window's row lies together in memory
    float* const to = p.to + filter * p.taps_y * length;
    fill(to, p.taps_y * length, 0.0f);
    for (std::int64_t j = 0; j < p.replaced; ++j) {
        const std::int64_t place = p.at[j * p.filters + filter];
        if (j >= half && place == p.at[(j - half) * p.filters + filter]) continue;
        const double slope = p.slope[filter], line = slope * p.e[place] + p.offset[filter];
        const float factor = static_cast<float>(static_cast<double>(p.values[j * p.filters + filter]) - line);
        const std::int64_t output = place / p.filters, row = output / p.out_w, image = row / p.out_h;
        const std::int64_t top = (row - image * p.out_h) * p.stride_y - p.pad_y;
        const std::int64_t left = (output - row * p.out_w) * p.stride_x - p.pad_x;
        for (std::int64_t r = 0; r < p.taps_y; ++r) {
            const std::int64_t y = top + r * p.dilation_y;
            if (y < 0 || y >= p.height) continue;
            const std::uint8_t* const line_of = p.x + (image * p.height + y) * p.width * p.channels + channel;
            if (together) {
                const std::int64_t first = left < 0 ? -left : 0, rest = p.width - left;
                const std::int64_t last = rest < p.taps_x ? rest : p.taps_x;
                if (first >= last) continue;
                add_multiple(line_of + (left + first) * p.channels, (last - first) * p.channels, factor, p.zero,
                             to + r * length + first * p.channels);
                continue;
            }
            for (std::int64_t s = 0; s < p.taps_x; ++s) {
                const std::int64_t x = left + s * p.dilation_x;
                if (x < 0 || x >= p.width) continue;
                add_multiple(line_of + x * p.channels, p.in_group, factor, p.zero, to + r * length + s * p.in_group);
            }
        }
    }
}
