// One tile of a fixation map on the GPU: a block gathers from the points that reach its tile, so that no sum depends on
// scheduling. Points come in chunks; those that reach the tile are listed in their order, their Gaussians' rows and
// columns tabulated, and the outer products added in registers.
#pragma once

#include "emert/gaussian.hpp"
#include "kernels/cuda_launch.hpp"

namespace emert::cuda {

constexpr int kTileSide = 32;
constexpr int kTileThreads = 256;
constexpr int kTileRows = kTileSide * kTileSide / kTileThreads;  // of each thread, one below the other
constexpr int kTileChunk = 64;

struct TileAxis {
    float base;  // from the point's pixel to the tile's first
    float offset;
    int first;  // pixels of the tile that the point reaches, which may lie beyond it
    int stop;
};

struct TilePoint {
    TileAxis across;
    TileAxis down;
    float weight;
};

struct TileShared {
    TilePoint points[kTileChunk];
    float columns[kTileChunk][kTileSide];
    float rows[kTileChunk][kTileSide];
    std::uint32_t reaching[kTileChunk / 32];
};

struct TilePlace {
    int first_row;
    int first_column;
    int height;  // of the map
    int width;
};

template <typename Thread>
EMERT_BODY TilePlace tile_place(const Thread& thread, int height, int width) {
    return {thread.block_y() * kTileSide, thread.block_x() * kTileSide, height, width};
}

inline Grid tile_grid(std::int32_t height, std::int32_t width, std::int32_t maps) {
    const auto tiles = [](std::int32_t size) { return static_cast<unsigned>((size + kTileSide - 1) / kTileSide); };
    return {tiles(width), tiles(height), static_cast<unsigned>(maps)};
}

EMERT_HD int bit_count(std::uint32_t word) {
#if defined(__CUDA_ARCH__)
    return __popc(word);
#else
    return __builtin_popcount(word);
#endif
}

EMERT_HD bool reach_tile(double at, double reach, int size, int begin, TileAxis& axis) {
    const Landing landing = land(at);
    const Reach pixels = gaussian_span(landing.cell, reach, size);
    axis.base = static_cast<float>(begin - landing.cell);
    axis.offset = landing.offset;
    axis.first = pixels.first - begin;
    axis.stop = pixels.stop - begin;
    return pixels.first < pixels.stop && axis.first < kTileSide && axis.stop > 0;
}

EMERT_HD float tile_gaussian(const TileAxis& axis, int pixel, float rate) {
    const bool inside = pixel >= axis.first && pixel < axis.stop;
    return inside ? gaussian_at((axis.base + static_cast<float>(pixel)) + axis.offset, rate) : 0.0f;
}

/// Sums of the thread's kTileRows pixels over `count` points, which `point_at(i, x, y, weight)` gives; not finite ones
/// are left out. Returns false, for the whole block, where no point reaches the tile.
template <typename Thread, typename PointAt>
EMERT_BODY bool gather_tile(Thread& thread, TileShared& shared, const TilePlace& place, double sigma, int count,
                            const PointAt& point_at, float (&total)[kTileRows]) {
    const double reach = gaussian_reach(sigma);
    const float rate = gaussian_rate(sigma);
    const int self = thread.index();
    const int column = self % kTileSide;
    const int first_row = self / kTileSide * kTileRows;
    float lost[kTileRows];  // of chunks' sums, by rounding: counts of a million points must not show
    for (int i = 0; i < kTileRows; ++i) total[i] = lost[i] = 0.0f;
    bool reached = false;
    for (int first = 0; first < count; first += kTileChunk) {
        if (self < kTileChunk / 32) shared.reaching[self] = 0;
        thread.sync();
        TilePoint point;
        bool reaches = false;
        if (self < kTileChunk && self < count - first) {
            double x;
            double y;
            point_at(first + self, x, y, point.weight);
            // The difference of what isn't finite with itself is NaN.
            reaches = x - x == 0.0 && y - y == 0.0 && point.weight - point.weight == 0.0f &&
                      reach_tile(x, reach, place.width, place.first_column, point.across) &&
                      reach_tile(y, reach, place.height, place.first_row, point.down);
            if (reaches) thread.mark(shared.reaching[self / 32], 1u << self % 32);
        }
        thread.sync();
        int listed = 0;
        int before = 0;
        for (int word = 0; word < kTileChunk / 32; ++word) {
            const std::uint32_t bits = shared.reaching[word];
            listed += bit_count(bits);
            if (word < self / 32) before += bit_count(bits);
            if (word == self / 32) before += bit_count(bits & ((1u << self % 32) - 1));
        }
        if (reaches) shared.points[before] = point;
        thread.sync();
        if (listed == 0) continue;
        reached = true;
        for (int i = self; i < 2 * kTileSide * listed; i += kTileThreads) {
            const TilePoint& one = shared.points[i / (2 * kTileSide)];
            const int pixel = i % kTileSide;
            if (i / kTileSide % 2 == 0) {
                shared.columns[i / (2 * kTileSide)][pixel] = tile_gaussian(one.across, pixel, rate);
            } else {
                shared.rows[i / (2 * kTileSide)][pixel] = tile_gaussian(one.down, pixel, rate) * one.weight;
            }
        }
        thread.sync();
        float sum[kTileRows];
        for (int i = 0; i < kTileRows; ++i) sum[i] = 0.0f;
        for (int one = 0; one < listed; ++one) {
            const float across = shared.columns[one][column];
            for (int i = 0; i < kTileRows; ++i) sum[i] += across * shared.rows[one][first_row + i];
        }
        for (int i = 0; i < kTileRows; ++i) {
            const float value = sum[i] - lost[i];
            const float next = total[i] + value;
            lost[i] = (next - total[i]) - value;
            total[i] = next;
        }
    }
    return reached;
}

/// Calls `write(row, column, i)` for those of the thread's pixels that the map has.
template <typename Thread, typename Write>
EMERT_BODY void each_tile_pixel(const Thread& thread, const TilePlace& place, const Write& write) {
    const int column = place.first_column + thread.index() % kTileSide;
    if (column >= place.width) return;
    for (int i = 0; i < kTileRows; ++i) {
        const int row = place.first_row + thread.index() / kTileSide * kTileRows + i;
        if (row < place.height) write(row, column, i);
    }
}

}  // namespace emert::cuda
