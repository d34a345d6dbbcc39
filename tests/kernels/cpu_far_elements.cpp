// Codes of halves, rounded stochastically, at element indices beyond 2^32 and 2^34, by the loops of the instruction set
// given by its number (those of this machine; the scalar ones for a number it does not have). A line is the generator,
// the first index and the codes.
#include <cstdio>
#include <cstdlib>

#include "jobs.h"

using namespace qbench;

int main(int, char** arguments) {
    const Loops& loops = loops_for(std::atoi(arguments[1]));
    const i64 count = 256, starts[] = {(1ll << 32) - 128, (1ll << 34) - 128, (1ll << 40) + 64};
    const std::vector<float> halves(256, 0.5f);
    for (int rule : {PHILOX, HASH})
        for (i64 start : starts) {
            u8 codes[256];
            EncodeJob job;
            // The arrays' first element has the index `start`.
            job.x = reinterpret_cast<const float*>(reinterpret_cast<std::uintptr_t>(halves.data()) - 4 * start);
            job.out = codes;
            job.out_from = start;
            job.high = 1;
            job.rule = rule;
            job.key = {1, 2, 3};
            loops.encode(job, {start, start + count});
            std::printf("%d %lld", rule == HASH, static_cast<long long>(start));
            for (u8 code : codes) std::printf(" %d", code);
            std::printf("\n");
        }
}
