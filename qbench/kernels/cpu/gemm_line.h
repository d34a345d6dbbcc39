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

// sums += sign * (from - zero), sign 1 or -1.
inline void add_pixels(const std::uint8_t* __restrict from, std::int64_t count, std::uint16_t zero, bool negative,
                       std::uint16_t* __restrict sums) {
    if (negative) {
        for (std::int64_t i = 0; i < count; ++i) sums[i] = static_cast<std::uint16_t>(sums[i] + zero - from[i]);
    } else {
        for (std::int64_t i = 0; i < count; ++i) sums[i] = static_cast<std::uint16_t>(sums[i] - zero + from[i]);
    }
}

// Adds what an output of one filter meets to sums [tap row][tap column][channel of the group], or takes it off.
inline void add_window(const LinePlan& p, std::int64_t filter, std::int64_t output, bool negative,
                       std::uint16_t* sums) {
    const std::int64_t length = p.taps_x * p.in_group, row = output / p.out_w, image = row / p.out_h;
    const std::int64_t channel = filter / p.out_group * p.in_group;
    const std::int64_t top = (row - image * p.out_h) * p.stride_y - p.pad_y;
    const std::int64_t left = (output - row * p.out_w) * p.stride_x - p.pad_x;
    const bool together = p.dilation_x == 1 && p.in_group == p.channels;  // a window's row lies together in memory
    for (std::int64_t r = 0; r < p.taps_y; ++r) {
        const std::int64_t y = top + r * p.dilation_y;
        if (y < 0 || y >= p.height) continue;
        const std::uint8_t* const line = p.x + (image * p.height + y) * p.width * p.channels + channel;
        if (together) {
            const std::int64_t first = left < 0 ? -left : 0, rest = p.width - left;
            const std::int64_t last = rest < p.taps_x ? rest : p.taps_x;
            if (first >= last) continue;
            add_pixels(line + (left + first) * p.channels, (last - first) * p.channels, p.zero, negative,
                       sums + r * length + first * p.channels);
            continue;
        }
        for (std::int64_t s = 0; s < p.taps_x; ++s) {
            const std::int64_t x = left + s * p.dilation_x;
            if (x < 0 || x >= p.width) continue;
            add_pixels(line + x * p.channels, p.in_group, p.zero, negative, sums + r * length + s * p.in_group);
        }
    }
}

// What the minima of one filter meet less what its maxima meet. sums: memory for an int16 of each element of a filter.
inline void met_by_extremes(const LinePlan& p, std::int64_t filter, std::uint16_t* sums) {
    constexpr std::int64_t MOST = INT16_MAX / UINT8_MAX;  // windows whose sum 16 bits take
    const std::int64_t size = p.taps_y * p.taps_x * p.in_group;
    std::int32_t* __restrict const to = p.pulled + filter * size;
    fill(to, size, 0);
    for (std::int64_t first = 0; first < p.extremes; first += MOST) {
        const std::int64_t last = first + MOST < p.extremes ? first + MOST : p.extremes;
        fill(sums, size, std::uint16_t{0});
        for (std::int64_t j = first; j < last; ++j) {
            add_window(p, filter, p.at[j * p.filters + filter] / p.filters, j < p.extremes / 2, sums);
        }
        for (std::int64_t i = 0; i < size; ++i) to[i] += static_cast<std::int16_t>(sums[i]);
    }
}
