// Codes into prepared elements. Included inside each instruction set's namespace.

template <class T, class E>
void recode_run(const T* from, std::int64_t stride, std::int64_t count, const Recode& rule, E* to) {
    const std::int32_t add = rule.add, shift = rule.shift, mask = rule.mask;
    if (stride == 1 && shift == 0 && mask == -1) {
        const E offset = static_cast<E>(add);
        for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<E>(static_cast<E>(from[i]) + offset);
    } else {
        for (std::int64_t i = 0; i < count; ++i) {
            to[i] = static_cast<E>(((static_cast<std::int32_t>(from[i * stride]) + add) >> shift) & mask);
        }
    }
}

// body(typed pointer to the codes)
template <class Body>
void with_codes(const Operand& x, const Body& body) {
    if (x.code == CODE_UINT8) return body(static_cast<const std::uint8_t*>(x.data));
    if (x.code == CODE_INT8) return body(static_cast<const std::int8_t*>(x.data));
    return body(static_cast<const std::int16_t*>(x.data));
}

inline std::int32_t recoded(std::int32_t code, const Recode& rule) { return ((code + rule.add) >> rule.shift) & rule.mask; }

template <class E>
void fill(E* to, std::int64_t count, E value) {
    for (std::int64_t i = 0; i < count; ++i) to[i] = value;
}

// Columns [left, left + count) of row y of an image, padded where they lie outside it: count * channels elements.
template <class E>
void prepare_row(const Operand& x, int digit, std::int64_t channels, std::int64_t height, std::int64_t width,
                 std::int64_t image, std::int64_t y, std::int64_t left, std::int64_t count, E* to) {
    const Recode rule = x.recode[digit];
    const E pad = static_cast<E>(recoded(x.zero, rule));
    if (y < 0 || y >= height) return fill(to, count * channels, pad);
    const std::int64_t first = left < 0 ? (-left < count ? -left : count) : 0;
    const std::int64_t fits = width - left < count ? width - left : count;
    const std::int64_t last = fits > first ? fits : first;
    fill(to, first * channels, pad);
    fill(to + last * channels, (count - last) * channels, pad);
    with_codes(x, [&](auto* codes) {
        auto* from = codes + image * x.stride[0] + y * x.stride[1] + (left + first) * x.stride[2];
        if (x.stride[3] == 1 && x.stride[2] == channels) {
            return recode_run(from, 1, (last - first) * channels, rule, to + first * channels);
        }
        for (std::int64_t i = first; i < last; ++i, from += x.stride[2]) {
            recode_run(from, x.stride[3], channels, rule, to + i * channels);
        }
    });
}

// `unit` pixels of `rows` channels each as [row][pixel].
template <class Isa>
void interleave_plain(const typename Isa::A* from, std::int64_t pixel, typename Isa::A* to) {
    for (std::int64_t m = 0; m < Isa::rows; ++m) {
        for (std::int64_t j = 0; j < Isa::unit; ++j) to[m * Isa::unit + j] = from[j * pixel + m];
    }
}
