#include "check.h"
#include "immintrin.h"

int main() {
    for (int round = 0; round < check::ROUNDS; ++round) {
        const check::Operand a, b, c;
        COMPARE(_mm256_dpbusd_avx_epi32, a, b, c);
        COMPARE(_mm256_dpwssd_avx_epi32, a, b, c);
    }
    return check::result();
}
