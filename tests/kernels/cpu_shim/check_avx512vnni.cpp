#include "check.h"
#include "immintrin.h"

int main() {
    for (int round = 0; round < check::ROUNDS; ++round) {
        const check::Operand a, b, c;
        COMPARE(_mm512_dpbusd_epi32, a, b, c);
        COMPARE(_mm512_dpwssd_epi32, a, b, c);
    }
    return check::result();
}
