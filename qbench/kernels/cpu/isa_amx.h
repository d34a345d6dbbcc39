// Tiles: eight registers of 16 rows of 64 bytes. Included inside the instruction set's namespace.

constexpr int TILE_ROWS = 16, TILE_BYTES = 64;

struct alignas(64) TileConfig {
    std::uint8_t palette, start_row, reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
};

inline void configure_tiles() {
    TileConfig config{};
    config.palette = 1;
    for (int i = 0; i < 8; ++i) {
        config.row_bytes[i] = TILE_BYTES;
        config.rows[i] = TILE_ROWS;
    }
    // GCC's intrinsic says that it reads 8 bytes, so the compiler might leave the others unwritten.
    __asm__ volatile("" : : "m"(config) : "memory");
    _tile_loadconfig(&config);
}

inline void release_tiles() { _tile_release(); }

// What was stored before is in memory for the loads that follow: GCC's intrinsics do not say that they read it.
inline void finish_stores() { __asm__ volatile("" : : : "memory"); }

// The compiler's intrinsics are macros that need the register's number as a literal after expansion.
template <int T>
inline void tile_zero() {
    if constexpr (T == 0) _tile_zero(0);
    if constexpr (T == 1) _tile_zero(1);
    if constexpr (T == 2) _tile_zero(2);
    if constexpr (T == 3) _tile_zero(3);
}

template <int T>
inline void tile_load(const void* from, std::int64_t stride) {
    if constexpr (T == 0) _tile_loadd(0, from, stride);
    if constexpr (T == 1) _tile_loadd(1, from, stride);
    if constexpr (T == 2) _tile_loadd(2, from, stride);
    if constexpr (T == 3) _tile_loadd(3, from, stride);
    if constexpr (T == 4) _tile_loadd(4, from, stride);
    if constexpr (T == 5) _tile_loadd(5, from, stride);
    if constexpr (T == 6) _tile_loadd(6, from, stride);
    if constexpr (T == 7) _tile_loadd(7, from, stride);
}

template <int T>
inline void tile_store(void* to, std::int64_t stride) {
    if constexpr (T == 0) _tile_stored(0, to, stride);
    if constexpr (T == 1) _tile_stored(1, to, stride);
    if constexpr (T == 2) _tile_stored(2, to, stride);
    if constexpr (T == 3) _tile_stored(3, to, stride);
}

// Row m, lane n of SUM adds the products of the four unsigned bytes k of A's row m with the signed or unsigned ones of
// B's row k, lane n, for all 16 k, and wraps.
template <int SUM, int A, int B, bool b_signed>
inline void tile_dot() {
    if constexpr (SUM == 0 && b_signed) _tile_dpbusd(0, 4, 6);
    if constexpr (SUM == 1 && b_signed) _tile_dpbusd(1, 4, 7);
    if constexpr (SUM == 2 && b_signed) _tile_dpbusd(2, 5, 6);
    if constexpr (SUM == 3 && b_signed) _tile_dpbusd(3, 5, 7);
    if constexpr (SUM == 0 && !b_signed) _tile_dpbuud(0, 4, 6);
    if constexpr (SUM == 1 && !b_signed) _tile_dpbuud(1, 4, 7);
    if constexpr (SUM == 2 && !b_signed) _tile_dpbuud(2, 5, 6);
    if constexpr (SUM == 3 && !b_signed) _tile_dpbuud(3, 5, 7);
    static_assert(A == 4 + SUM / 2 && B == 6 + SUM % 2);
}
