// Compares the encoders' division by one number with the division itself: prints the first pair that differs, and ends
// with 1, or says nothing. Compiled behind emulation.h and encoder.cuh, with the number of pairs as its argument.
#include <cstdio>
#include <cstdlib>

emulated::Call bind_kernel(const std::string&, const uint64_t*, const char*) { std::abort(); }

static u64 state = 1;
static u32 random_bits() {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return u32(state >> 33) ^ u32(state >> 13);
}

// An easy divisor: any number, a power of two, the number below one, or a few units around these.
static float divisor() {
    const u32 exponent = 67 + random_bits() % 60, kind = random_bits() % 4;
    const u32 mantissa = kind == 0 ? 0 : kind == 1 ? 0x7fffff : kind == 2 ? random_bits() % 8 : random_bits() & 0x7fffff;
    return from_bits(exponent << 23 | mantissa);
}

// Any bits at all, or next to a multiple of half the divisor.
static float dividend(float divisor) {
    if (random_bits() % 2) return from_bits(random_bits());
    const float near = (int(random_bits() % 1024) - 512) * 0.5f * divisor;
    return from_bits(to_bits(near) + random_bits() % 5 - 2);
}

static bool agree(float a, float b, float found) {
    const float wanted = a / b;
    if (is_nan(wanted)) return is_nan(found);
    if (fabsf(wanted) > 8.5e37f) return fabsf(found) > 8.5e37f && (found < 0) == (wanted < 0);  // 2^126
    if (fabsf(a) >= 9.8607613152626476e-32f) return found == wanted;                            // 2^-103
    return (found < 0) == (wanted < 0) && (found > 0) == (wanted > 0) && fabsf(found) <= 1.2e-13f;
}

int main(int, char** arguments) {
    for (long long i = std::atoll(arguments[1]); i; --i) {
        const float b = divisor(), a = dividend(b);
        const Divisor by(b);
        if (by.is_easy && agree(a, b, by.quotient(a))) continue;
        std::printf("%a / %a is %a, not %a\n", a, b, a / b, by.quotient(a));
        return 1;
    }
    const float hard[] = {0.0f, -0.5f, 1.0000001f, 8.6e-19f, infinity(), not_a_number()};
    for (float b : hard)
        if (Divisor(b).is_easy) return std::printf("%a is no easy divisor\n", b), 1;
    return 0;
}
