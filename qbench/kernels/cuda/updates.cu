// In-place updates of weights that live on an integer grid. Element i is element i of the memory.
#include "elements.cuh"
#include "extremes.cuh"
#include "random.cuh"
#include "scales.cuh"

enum GridKind { INTEGERS = 0, BINARY = 1, BINARY_STOCHASTIC = 2 };

// From a moved weight back to a code of its grid.
struct Grid {
    Rounder rounder;
    int kind;
    float scale, low, high;

    DEVICE Grid(i64 kind_, float scale_, float low_, float high_, i64 rounding, i64 seed, i64 tensor, i64 step,
                const i32* elapsed)
        : rounder(rounding, seed, tensor, step, elapsed), kind((int)kind_), scale(scale_), low(low_), high(high_) {}

    DEVICE float code_of(float weight, u32 word) const {
        const float y = divide(weight, scale);
        if (is_nan(y)) return 0.0f;
        if (kind == INTEGERS) return clipped(rounder.round(y, word), low, high);
        if (kind == BINARY) return weight >= 0.0f ? 1.0f : -1.0f;
        const float probability = clipped(multiply(add(y, 1.0f), 0.5f), 0.0f, 1.0f);
        return rounder.round(probability, word) > 0.0f ? 1.0f : -1.0f;
    }
};

// momentum: null for plain steps.
template <typename Code>
__global__ void sgd_on_grid(Code* codes, const float* grad, float* momentum, i64 count, float lr, float weight_decay,
                            float mu, i64 nesterov, i64 first_step, i64 kind, float scale, float low, float high,
                            i64 rounding, i64 seed, i64 tensor, i64 step, const i32* elapsed) {
    const Grid grid(kind, scale, low, high, rounding, seed, tensor, step, elapsed);
    struct Item {
        Quad<Code> code;
        Quad<float> gradient, buffer;
    };
    auto load = [&](i64 first, auto live) {
        return Item{Quad<Code>::of(codes, first, live), Quad<float>::of(grad, first, live),
                    Quad<float>::of_any(momentum, first, live)};
    };
    for_each_quad(count, are_packed(codes, grad, momentum), load, [&](Item& item, i64 first, auto live) {
        const Block words = grid.rounder.words_of_quad(first);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const float weight = multiply((float)item.code.element[j], scale);
            float direction = add(item.gradient.element[j], multiply(weight_decay, weight));
            if (momentum) {
                item.buffer.element[j] = first_step ? direction : add(multiply(mu, item.buffer.element[j]), direction);
                direction = nesterov ? add(direction, multiply(mu, item.buffer.element[j])) : item.buffer.element[j];
            }
            const float moved = subtract(weight, multiply(lr, direction));
            item.code.element[j] = (Code)grid.code_of(moved, words.word[j]);
        }
        if (momentum) item.buffer.store(momentum, first, live);
        item.code.store(codes, first, live);
    });
}

// step_size = lr / (1 - beta1^step) and correction = sqrt(1 - beta2^step); rest1 = 1 - beta1, rest2 = 1 - beta2.
template <typename Code>
__global__ void adam_on_grid(Code* codes, const float* grad, float* m, float* v, i64 count, float step_size,
                             float beta1, float rest1, float beta2, float rest2, float correction, float eps,
                             float weight_decay, i64 kind, float scale, float low, float high, i64 rounding, i64 seed,
                             i64 tensor, i64 step, const i32* elapsed) {
    const Grid grid(kind, scale, low, high, rounding, seed, tensor, step, elapsed);
    struct Item {
        Quad<Code> code;
        Quad<float> gradient, mean, square;
    };
    auto load = [&](i64 first, auto live) {
        return Item{Quad<Code>::of(codes, first, live), Quad<float>::of(grad, first, live),
                    Quad<float>::of(m, first, live), Quad<float>::of(v, first, live)};
    };
    for_each_quad(count, are_packed(codes, grad, m, v), load, [&](Item& item, i64 first, auto live) {
        const Block words = grid.rounder.words_of_quad(first);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const float weight = multiply((float)item.code.element[j], scale);
            const float g = add(item.gradient.element[j], multiply(weight_decay, weight));
            item.mean.element[j] = add(multiply(beta1, item.mean.element[j]), multiply(rest1, g));
            item.square.element[j] = add(multiply(beta2, item.square.element[j]), multiply(rest2, multiply(g, g)));
            const float denominator = add(divide(__fsqrt_rn(item.square.element[j]), correction), eps);
            const float moved = subtract(weight, multiply(step_size, divide(item.mean.element[j], denominator)));
            item.code.element[j] = (Code)grid.code_of(moved, words.word[j]);
        }
        item.mean.store(m, first, live);
        item.square.store(v, first, live);
        item.code.store(codes, first, live);
    });
}

// a / 4 rounded half to even.
DEVICE i64 quarter(i64 a) {
    const i64 floor = a >> 2, rest = a & 3;
    return floor + (rest == 3 || (rest == 2 && (floor & 1)));
}

// grad + weight_decay * (weight * scale).
struct Decayed {
    Quad<i32> weight;
    Quad<float> gradient;

    template <typename Live> DEVICE static Decayed at(const i32* weights, const float* grad, i64 first, Live live) {
        return {Quad<i32>::of(weights, first, live), Quad<float>::of(grad, first, live)};
    }

    DEVICE float of(int j, float scale, float weight_decay) const {
        return add(gradient.element[j], multiply(weight_decay, multiply((float)weight.element[j], scale)));
    }
};

extern "C" __global__ void decayed_extremes(const i32* weight, const float* grad, const float* scale, float weight_decay,
                                            i64 count, float* target) {
    Extremes extremes;
    const float unit = *scale;
    auto load = [&](i64 first, auto live) { return Decayed::at(weight, grad, first, live); };
    for_each_quad(count, are_packed(weight, grad), load, [&](const Decayed& item, i64, auto live) {
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (j < live) extremes.include(item.of(j, unit, weight_decay));
    });
    extremes.publish(target);
}

// extent: what decayed_extremes found, of at least one weight.
extern "C" __global__ void quantized_momentum(i32* weight, const float* grad, const float* scale, float weight_decay,
                                              i32* accumulator, i64 count, const float* extent, float levels,
                                              i64 quarters, i64 lr_code, i64 limit, i64 rounding, i64 seed, i64 tensor,
                                              i64 step, const i32* elapsed) {
    const Rounder rounder(rounding, seed, tensor, step, elapsed);
    const float unit = scale_of(extent, 2, POWER, levels), top = subtract(levels, 1.0f), weight_unit = *scale;
    struct Item {
        Decayed decayed;
        Quad<i32> accumulator;
    };
    auto load = [&](i64 first, auto live) {
        return Item{Decayed::at(weight, grad, first, live), Quad<i32>::of(accumulator, first, live)};
    };
    for_each_quad(count, are_packed(weight, grad, accumulator), load, [&](Item& item, i64 first, auto live) {
        Quad<i32>&w = item.decayed.weight, &a = item.accumulator;
        const Block words = rounder.words_of_quad(first);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const float gradient = item.decayed.of(j, weight_unit, weight_decay);
            const float rounded = rounder.round(divide(gradient, unit), words.word[j]);
            a.element[j] = (i32)(quarters * quarter(a.element[j]) + (i64)clipped(rounded, -top, top));
            const i64 moved = w.element[j] - lr_code * a.element[j];
            w.element[j] = (i32)smaller(larger(moved, -limit), limit);
        }
        a.store(accumulator, first, live);
        w.store(weight, first, live);
    });
}

// extent: the gradient's, of at least one element.
template <typename Code>
__global__ void shift_step(Code* codes, const float* grad, i64 count, const float* extent, float eta, i64 limit,
                           float most, i64 rounding, i64 seed, i64 tensor, i64 step, const i32* elapsed) {
    const Rounder rounder(rounding, seed, tensor, step, elapsed);
    const float unit = scale_of(extent, 2, POWER, eta);
    struct Item {
        Quad<Code> code;
        Quad<float> gradient;
    };
    auto load = [&](i64 first, auto live) {
        return Item{Quad<Code>::of(codes, first, live), Quad<float>::of(grad, first, live)};
    };
    for_each_quad(count, are_packed(codes, grad), load, [&](Item& item, i64 first, auto live) {
        const Block words = rounder.words_of_quad(first);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const float steps = clipped(rounder.round(divide(item.gradient.element[j], unit), words.word[j]), -most, most);
            item.code.element[j] = (Code)smaller(larger(item.code.element[j] - (i64)steps, -limit), limit);
        }
        item.code.store(codes, first, live);
    });
}

// Behind an update that reads the scale: NaN from here on where an end of the range is not finite.
extern "C" __global__ void poison(float* scale, const float* extent, i64 count) {
    if (threadIdx.x || !count) return;
    *scale = add(*scale, add(multiply(extent[0], 0.0f), multiply(extent[1], 0.0f)));
}
