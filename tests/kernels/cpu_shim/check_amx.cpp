#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

namespace {

constexpr std::int64_t STRIDE = 72;  // bytes between rows, of which a tile has at most 64

// Rows of tiles, and some bytes that belong to none.
struct Rows {
    check::Operand words[20];

    const void* from() const { return words; }
    void* to() { return words; }
};

// Sums in register 0; factors in 1 and 2.
struct Results {
    Rows sums, products, unsigned_products, left;
};

}  // namespace

// The same calls twice: of the compiler's macros where they still are, of the models where those are gone. Not
// inlined, because GCC's macros do not say what they read: what a call passes by reference is in memory.
#define RUN_TILES                                                                                                      \
    __attribute__((noinline)) void run(const void* config, const Rows& sums, const Rows& left, const Rows& right,      \
                                       Results& to) {                                                                  \
        _tile_loadconfig(config);                                                                                      \
        _tile_loadd(0, sums.from(), STRIDE);                                                                           \
        _tile_loadd(1, left.from(), STRIDE);                                                                           \
        _tile_loadd(2, right.from(), STRIDE);                                                                          \
        _tile_dpbusd(0, 1, 2);                                                                                         \
        _tile_stored(0, to.sums.to(), STRIDE);                                                                         \
        _tile_zero(0);                                                                                                 \
        _tile_dpbusd(0, 1, 2);                                                                                         \
        _tile_stored(0, to.products.to(), STRIDE);                                                                     \
        _tile_dpbuud(0, 1, 2);                                                                                         \
        _tile_stored(0, to.unsigned_products.to(), STRIDE);                                                            \
        _tile_stored(1, to.left.to(), STRIDE);                                                                         \
        _tile_release();                                                                                               \
    }

namespace own {
RUN_TILES
}

#include "immintrin.h"

namespace qbench {
RUN_TILES
}

int main() {
    constexpr long REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    if (syscall(SYS_arch_prctl, REQUEST, TILE_DATA) != 0) return 1;
    for (int round = 0; round < check::ROUNDS / 10; ++round) {
        const auto size = [] { return static_cast<std::uint8_t>(1 + check::random_bits() % 16); };
        const std::uint8_t m = size(), n = size(), k = size();
        qbench::model::TileConfig config{};
        config.palette = 1;
        config.rows[0] = config.rows[1] = m;
        config.rows[2] = k;
        config.row_bytes[0] = config.row_bytes[2] = static_cast<std::uint16_t>(4 * n);
        config.row_bytes[1] = static_cast<std::uint16_t>(4 * k);
        const Rows sums, left, right;
        const Results before;
        Results model = before, stored = before;
        qbench::run(&config, sums, left, right, model);
        own::run(&config, sums, left, right, stored);
        check::compare("tiles", model, stored);
    }
    return check::result();
}
