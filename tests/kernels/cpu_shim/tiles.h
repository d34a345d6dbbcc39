// AMX: eight registers of up to 16 rows of 64 bytes. What faults on the CPU traps.
#pragma once

namespace qbench {
namespace model {

struct TileConfig {
    std::uint8_t palette, start_row, reserved[14];
    std::uint16_t row_bytes[16];  // of eight registers; what follows is reserved
    std::uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

struct Tile {
    int rows, row_bytes;  // both 0 before there is a configuration
    std::uint8_t bytes[16][64];
};

inline thread_local Tile tiles[8];

inline void require(bool is_allowed) {
    if (!is_allowed) __builtin_trap();
}

inline Tile& configured(int number) {
    require(number >= 0 && number < 8 && tiles[number].rows > 0);
    return tiles[number];
}

}  // namespace model

inline void _tile_release() { std::memset(model::tiles, 0, sizeof model::tiles); }

inline void _tile_loadconfig(const void* from) {
    const auto config = model::read<model::TileConfig>(from);
    model::require(config.palette == 1 && config.start_row == 0);
    for (std::uint8_t byte : config.reserved) model::require(byte == 0);
    for (int i = 8; i < 16; ++i) model::require(config.rows[i] == 0 && config.row_bytes[i] == 0);
    _tile_release();
    for (int i = 0; i < 8; ++i) {
        model::require(config.rows[i] <= 16 && config.row_bytes[i] <= 64 && !config.rows[i] == !config.row_bytes[i]);
        model::tiles[i].rows = config.rows[i];
        model::tiles[i].row_bytes = config.row_bytes[i];
    }
}

inline void _tile_zero(int to) {
    model::Tile& tile = model::configured(to);
    std::memset(tile.bytes, 0, sizeof tile.bytes);
}

// Bytes and rows that the configuration leaves out become 0.
inline void _tile_loadd(int to, const void* from, std::int64_t stride) {
    _tile_zero(to);
    model::Tile& tile = model::configured(to);
    for (int i = 0; i < tile.rows; ++i) {
        std::memcpy(tile.bytes[i], static_cast<const char*>(from) + i * stride, tile.row_bytes);
    }
}

inline void _tile_stored(int from, void* to, std::int64_t stride) {
    const model::Tile& tile = model::configured(from);
    for (int i = 0; i < tile.rows; ++i) std::memcpy(static_cast<char*>(to) + i * stride, tile.bytes[i], tile.row_bytes);
}

namespace model {

// Word n of row m of the sums adds the products of the four unsigned bytes k of row m of `left` with those n of row k of
// `right`, signed if the lanes of Right are, for all k.
template <class Right>
void dot_tiles(int sums, int left, int right) {
    Tile &to = configured(sums), &a = configured(left), &b = configured(right);
    require(sums != left && sums != right && left != right && b.row_bytes % 4 == 0);
    require(to.rows == a.rows && to.row_bytes == b.row_bytes && a.row_bytes == 4 * b.rows);
    for (int m = 0; m < to.rows; ++m) {
        U32 row = read<U32>(to.bytes[m]);
        for (int k = 0; k < b.rows; ++k) {
            const U32 four = U32{} + read<std::uint32_t>(a.bytes[m] + 4 * k);
            row = dot_bytes<U32, Right>(row, four, read<U32>(b.bytes[k]));
        }
        _mm512_storeu_si512(to.bytes[m], (__m512i)row);
    }
}

}  // namespace model

inline void _tile_dpbusd(int sums, int left, int right) { model::dot_tiles<model::I32>(sums, left, right); }
inline void _tile_dpbuud(int sums, int left, int right) { model::dot_tiles<model::U32>(sums, left, right); }

}  // namespace qbench
