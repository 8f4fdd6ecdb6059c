#include <cstddef>
#include <cstring>

#include "emert/gaussian.hpp"
#include "kernels/fixation_map.hpp"
#include "kernels/scratch.hpp"
#include "kernels/simd.hpp"

// A Gaussian is the product of a row and a column table, so a map is a sum of outer products. Points are taken in
// blocks whose tables stay in the cache. The map is walked in tiles of kRows x kLanes pixels, one band of rows after
// the other; a tile gathers from the points that reach it and is written once, its sums never leaving the registers.
// Tables are padded with zeros to whole tiles, which is also what cuts the Gaussians.

namespace emert::EMERT_ISA {

namespace {

constexpr int kRows = 8;
constexpr int kPadding = 16;           // at least kRows and kLanes
constexpr int kBlockFloats = 1 << 18;  // tables of one block of points: 1 MiB
constexpr int kMaxBlock = 4096;
// Float sums are split at this many terms: the error then grows with the square root of a point count, not with it.
constexpr int kRunLength = 64;
// Where a Gaussian is neither narrower nor wider than this, its tables come from one that all points share.
constexpr double kLeastSharedSigma = 0.5;
constexpr double kMostSharedReach = 4096.0;

static_assert(kPadding >= kRows && kPadding >= kLanes);
static_assert(TiledSum::kRowPadding % kRows == 0 && TiledSum::kColumnPadding % kLanes == 0);

/// One axis of a point of the block.
struct Axis {
    double cell;   // the whole part of the coordinate
    float offset;  // from the coordinate to the cell's centre
    Reach reach;   // in pixels of the map
    int first;     // reach in tiles or bands
    int stop;
};

struct Entry {
    Axis columns;
    Axis rows;
    double weight;
};

/// A point in one band.
struct Visit {
    int columns;  // where in the block's tables its next tile begins
    int rows;     // and where the band
    int tile_first;
    int tile_stop;
};

struct Workspace {
    float* shared_table;  // exp(-k^2 / 2 sigma^2) for k in [-shared_reach, shared_reach], zeros around it
    int shared_reach;     // -1: not shared
    // For each point kLanes floats a tile, then kRows floats a band, those times the weight.
    float* tables;
    int column_floats;
    int row_floats;
    Entry* entries;
    float* step_factors;  // of each point's columns and rows: what its table gains on the shared one over kLanes pixels
    int* order;           // entries by first tile
    int* tile_starts;
    Visit* visits;     // the bands' points, one band after the other
    int* band_starts;  // into visits
    int capacity;
    int tile_count;
    int band_count;
};

EMERT_INLINE int round_up(int value, int step) {
    return (value + step - 1) / step * step;
}

/// exp(-d^2 / 2 sigma^2) at d = origin + i + offset, 0 outside of [low, high), for i < count.
EMERT_INLINE void fill_table(float* table, int count, double origin, float offset, float low, float high, float rate,
                             float weight) {
    for (int i = 0; i < count; i += kLanes) {
        const Floats index = lane_numbers() + static_cast<float>(i);
        // A whole number plus the offset inside the pixel: exact where the distance is small.
        const Floats scaled = ((index + static_cast<float>(origin)) + offset) * rate;
        const Floats value = exp2_of_negative(-(scaled * scaled)) * weight;
        const Ints inside = (index >= low) & (index < high);
        store(table + i, (Floats)((Ints)value & inside));
    }
}

/// The same from the shared table: exp(-(k + u)^2 / 2 sigma^2) = exp(-k^2 / 2 sigma^2) exp(-(2 k + u) u / 2 sigma^2),
/// of which the last factor is a geometric sequence.
EMERT_INLINE void step_table(float* table, int count, const float* shared, float origin, const Axis& axis, float rate,
                             float step_factor, float weight) {
    const float slope = -rate * rate * axis.offset;
    Floats factor = exp2_of(((lane_numbers() + origin) * 2.0f + axis.offset) * slope) * weight;
    for (int i = 0; i < count; i += kLanes) {
        store(table + i, load(shared + i) * factor);
        factor *= step_factor;
    }
}

Workspace make_workspace(std::ptrdiff_t point_count, double sigma, int height, int width) {
    Workspace space;
    space.tile_count = round_up(width, kLanes) / kLanes;
    space.band_count = round_up(height, kRows) / kRows;
    const double reach = gaussian_reach(sigma);
    const double whole = 2.0 * reach + 1.0;
    const int columns = whole < width ? static_cast<int>(whole) : width;
    const int rows = whole < height ? static_cast<int>(whole) : height;
    // Every point's tables have the longest's length: loops of one length are what a branch predictor likes.
    const int bands = (rows - 2 + kRows) / kRows + 1;
    space.column_floats = ((columns - 2 + kLanes) / kLanes + 1) * kLanes;
    space.row_floats = round_up(bands * kRows, kLanes);
    const int per_point = space.column_floats + space.row_floats;
    int capacity = kBlockFloats / per_point;
    if (capacity > kMaxBlock) capacity = kMaxBlock;
    if (capacity < 1) capacity = 1;
    if (capacity > point_count) capacity = static_cast<int>(point_count);
    space.capacity = capacity;
    space.shared_reach = sigma >= kLeastSharedSigma && reach <= kMostSharedReach ? static_cast<int>(reach) : -1;

    const std::size_t n = static_cast<std::size_t>(capacity);
    // A point's first tile or band begins up to kPadding pixels before its reach, or at its last pixel.
    const int shared_begin = space.shared_reach + kPadding;
    const int longest = space.column_floats > space.row_floats ? space.column_floats : space.row_floats;
    const int shared_count = round_up(shared_begin + space.shared_reach + 1 + longest, kLanes);
    const std::size_t shared = static_cast<std::size_t>(shared_count);
    const std::size_t tables = n * static_cast<std::size_t>(per_point);
    const std::size_t step_factors = 2 * n + kLanes;
    const std::size_t visits = n * static_cast<std::size_t>(bands);
    const std::size_t tile_starts = static_cast<std::size_t>(space.tile_count) + 1;
    const std::size_t band_starts = static_cast<std::size_t>(space.band_count) + 1;
    Carver carver(scratch(Carver::padded(shared * sizeof(float)) + Carver::padded(tables * sizeof(float)) +
                          Carver::padded(n * sizeof(Entry)) + Carver::padded(step_factors * sizeof(float)) +
                          Carver::padded(n * sizeof(int)) + Carver::padded(tile_starts * sizeof(int)) +
                          Carver::padded(visits * sizeof(Visit)) + Carver::padded(band_starts * sizeof(int))));
    space.shared_table = carver.take<float>(shared);
    space.tables = carver.take<float>(tables);
    space.entries = carver.take<Entry>(n);
    space.step_factors = carver.take<float>(step_factors);
    space.order = carver.take<int>(n);
    space.tile_starts = carver.take<int>(tile_starts);
    space.visits = carver.take<Visit>(visits);
    space.band_starts = carver.take<int>(band_starts);

    if (space.shared_reach >= 0) {
        fill_table(space.shared_table, shared_count, -shared_begin, 0.0f, static_cast<float>(kPadding),
                   static_cast<float>(kPadding + 2 * space.shared_reach + 1), gaussian_rate(sigma), 1.0f);
        space.shared_table += shared_begin;
    }
    return space;
}

/// False where the axis has no pixel that the point reaches.
EMERT_INLINE bool reach_axis(double at, double reach, int size, int step, Axis& axis) {
    const Landing landing = land(at);
    axis.cell = landing.cell;
    axis.offset = landing.offset;
    axis.reach = gaussian_span(axis.cell, reach, size);
    axis.first = axis.reach.first / step;
    axis.stop = round_up(axis.reach.stop, step) / step;
    return axis.reach.first < axis.reach.stop;
}

/// Takes points from `next` on until the block is full. Returns how many entries it made; `scale` is what their maps'
/// sum is to be multiplied by.
int take_points(const Points& points, std::ptrdiff_t& next, double sigma, int height, int width, const Workspace& space,
                double& scale) {
    const double reach = gaussian_reach(sigma);
    int count = 0;
    double largest = 0.0;
    for (; next < points.count && count < space.capacity; ++next) {
        const double x = number_at(points.x, next);
        const double y = number_at(points.y, next);
        const double weight = number_at(points.weight, next);
        // The difference of what isn't finite with itself is NaN.
        if (!(x - x == 0.0 && y - y == 0.0 && weight - weight == 0.0)) continue;
        Entry& entry = space.entries[count];
        if (!reach_axis(x, reach, width, kLanes, entry.columns)) continue;
        if (!reach_axis(y, reach, height, kRows, entry.rows)) continue;
        entry.weight = weight;
        space.step_factors[2 * count] = entry.columns.offset;  // what fill_tables() makes them from
        space.step_factors[2 * count + 1] = entry.rows.offset;
        if (fabs(weight) > largest) largest = fabs(weight);
        ++count;
    }
    // Tables hold shares of the block's largest weight: no weight is too large or too small for float32 sums.
    scale = largest;
    return largest > 0.0 ? count : 0;
}

EMERT_INLINE void fill_axis(float* table, int count, const Axis& axis, int step, float rate, float step_factor,
                            float weight, const Workspace& space) {
    const int begin = axis.first * step;
    const double origin = begin - axis.cell;
    if (space.shared_reach >= 0) {
        step_table(table, count, space.shared_table + static_cast<int>(origin), static_cast<float>(origin), axis, rate,
                   step_factor, weight);
    } else {
        fill_table(table, count, origin, axis.offset, static_cast<float>(axis.reach.first - begin),
                   static_cast<float>(axis.reach.stop - begin), rate, weight);
    }
}

void fill_tables(const Workspace& space, int count, double sigma, double scale) {
    const float rate = gaussian_rate(sigma);
    if (space.shared_reach >= 0) {
        const float slope = -2.0f * kLanes * rate * rate;
        for (int i = 2 * count; i < round_up(2 * count, kLanes); ++i) space.step_factors[i] = 0.0f;
        for (int i = 0; i < 2 * count; i += kLanes) {
            store(space.step_factors + i, exp2_of(load(space.step_factors + i) * slope));
        }
    }
    float* table = space.tables;
    for (int i = 0; i < count; ++i) {
        const Entry& entry = space.entries[i];
        fill_axis(table, space.column_floats, entry.columns, kLanes, rate, space.step_factors[2 * i], 1.0f, space);
        table += space.column_floats;
        fill_axis(table, space.row_floats, entry.rows, kRows, rate, space.step_factors[2 * i + 1],
                  static_cast<float>(entry.weight / scale), space);
        table += space.row_floats;
    }
}

/// Lists each band's points in the order of their first tiles.
void list_visits(const Workspace& space, int count) {
    int* tiles = space.tile_starts;
    for (int tile = 0; tile <= space.tile_count; ++tile) tiles[tile] = 0;
    for (int i = 0; i < count; ++i) ++tiles[space.entries[i].columns.first + 1];
    for (int tile = 0; tile < space.tile_count; ++tile) tiles[tile + 1] += tiles[tile];
    for (int i = 0; i < count; ++i) space.order[tiles[space.entries[i].columns.first]++] = i;

    // Differences, then counts, then ends; filling from the back turns the ends into starts.
    int* bands = space.band_starts;
    for (int band = 0; band <= space.band_count; ++band) bands[band] = 0;
    for (int i = 0; i < count; ++i) {
        ++bands[space.entries[i].rows.first];
        --bands[space.entries[i].rows.stop];
    }
    int in_band = 0;
    int listed = 0;
    for (int band = 0; band <= space.band_count; ++band) {
        in_band += bands[band];
        listed += in_band;
        bands[band] = listed;
    }
    for (int i = count - 1; i >= 0; --i) {
        const int index = space.order[i];
        const Entry& entry = space.entries[index];
        const int columns = index * (space.column_floats + space.row_floats);
        Visit visit{columns, columns + space.column_floats, entry.columns.first, entry.columns.stop};
        for (int band = entry.rows.first; band < entry.rows.stop; ++band, visit.rows += kRows) {
            space.visits[--bands[band]] = visit;
        }
    }
}

/// Sums one tile over the visits [begin, stop). Moves them on, and those that don't end here to the list's front, where
/// `kept` of them are already; returns how many are then.
EMERT_INLINE int gather_run(const float* tables, Visit* active, int begin, int stop, int kept, int tile,
                            Floats (&total)[kRows]) {
    Floats sum[kRows] = {};
    for (int i = begin; i < stop; ++i) {
        Visit visit = active[i];
        const Floats columns = load(tables + visit.columns);
        const float* rows = tables + visit.rows;
        for (int row = 0; row < kRows; ++row) sum[row] += columns * rows[row];
        visit.columns += kLanes;
        active[kept] = visit;
        kept += visit.tile_stop > tile + 1;
    }
    for (int row = 0; row < kRows; ++row) total[row] = sum[row];
    return kept;
}

/// The same over all active visits, in runs.
EMERT_INLINE int gather_tile(const float* tables, Visit* active, int active_count, int tile, Floats (&total)[kRows]) {
    int stop = active_count < kRunLength ? active_count : kRunLength;
    int kept = gather_run(tables, active, 0, stop, 0, tile, total);
    while (stop < active_count) {
        const int begin = stop;
        stop = active_count - begin < kRunLength ? active_count : begin + kRunLength;
        Floats sum[kRows];
        kept = gather_run(tables, active, begin, stop, kept, tile, sum);
        for (int row = 0; row < kRows; ++row) total[row] += sum[row];
    }
    return kept;
}

/// Walks the tiles that the block's points reach; `Target` takes the tiles and hears of the gaps between them.
template <typename Target>
void walk_block(const Workspace& space, Target& target) {
    for (int band = 0; band < space.band_count; ++band) {
        // The active visits are kept at the list's front, behind which the others wait for their first tile.
        Visit* visits = space.visits + space.band_starts[band];
        const int in_band = space.band_starts[band + 1] - space.band_starts[band];
        int started = 0;
        int active_count = 0;
        int tile = 0;
        while (active_count > 0 || started < in_band) {
            if (active_count == 0 && visits[started].tile_first > tile) {
                target.gap(band, tile, visits[started].tile_first);
                tile = visits[started].tile_first;
            }
            for (; started < in_band && visits[started].tile_first == tile; ++started) {
                visits[active_count++] = visits[started];
            }
            Floats total[kRows];
            active_count = gather_tile(space.tables, visits, active_count, tile, total);
            target.tile(band, tile, total);
            ++tile;
        }
        if (tile < space.tile_count) target.gap(band, tile, space.tile_count);
    }
}

/// A float32 map without padding. The first block writes every pixel, later ones add.
struct PlaneTarget {
    PlanesOut out;
    float scale;
    bool adds;

    int rows_of(int band) const { return out.height - band * kRows < kRows ? out.height - band * kRows : kRows; }

    void gap(int band, int first, int stop) const {
        if (adds) return;
        const int begin = first * kLanes;
        const int end = stop * kLanes < out.width ? stop * kLanes : out.width;
        for (int row = 0; row < rows_of(band); ++row) {
            float* to = out.data + static_cast<std::ptrdiff_t>(band * kRows + row) * out.width + begin;
            std::memset(to, 0, static_cast<std::size_t>(end - begin) * sizeof(float));
        }
    }

    EMERT_MEMBER_INLINE void tile(int band, int tile, const Floats (&total)[kRows]) const {
        const int rows = rows_of(band);
        const int columns = out.width - tile * kLanes;
        float* to = out.data + static_cast<std::ptrdiff_t>(band * kRows) * out.width + tile * kLanes;
        if (rows == kRows && columns >= kLanes) {
            for (int row = 0; row < kRows; ++row, to += out.width) {
                store(to, adds ? load(to) + total[row] * scale : total[row] * scale);
            }
            return;
        }
        for (int row = 0; row < rows; ++row, to += out.width) {
            for (int lane = 0; lane < kLanes && lane < columns; ++lane) {
                to[lane] = (adds ? to[lane] : 0.0f) + total[row][lane] * scale;
            }
        }
    }
};

/// A padded float64 sum: every tile is whole.
struct SumTarget {
    TiledSum sum;
    double scale;

    void gap(int, int, int) const {}

    EMERT_MEMBER_INLINE void tile(int band, int tile, const Floats (&total)[kRows]) const {
        double* to = sum.data + band * kRows * sum.row_stride + tile * kLanes;
        for (int row = 0; row < kRows; ++row, to += sum.row_stride) {
            const Floats values = total[row];
            for (int lane = 0; lane < kLanes; ++lane) to[lane] += scale * static_cast<double>(values[lane]);
        }
    }
};

constexpr double kLargestFloat = 3.4028234663852886e38;

}  // namespace

void fixation_map(const Points& points, double sigma, const PlanesOut& out) {
    const Workspace space = make_workspace(points.count, sigma, out.height, out.width);
    PlaneTarget target{out, 0.0f, false};
    std::ptrdiff_t next = 0;
    do {
        double scale;
        const int count = take_points(points, next, sigma, out.height, out.width, space, scale);
        fill_tables(space, count, sigma, scale);
        list_visits(space, count);
        target.scale = static_cast<float>(scale < kLargestFloat ? scale : kLargestFloat);
        walk_block(space, target);
        target.adds = true;
    } while (next < points.count);
}

void fixation_sum(const Points& points, double sigma, double scale, const TiledSum& sum) {
    const Workspace space = make_workspace(points.count, sigma, sum.height, sum.width);
    std::ptrdiff_t next = 0;
    while (next < points.count) {
        double block_scale;
        const int count = take_points(points, next, sigma, sum.height, sum.width, space, block_scale);
        fill_tables(space, count, sigma, block_scale);
        list_visits(space, count);
        SumTarget target{sum, scale * block_scale};
        walk_block(space, target);
    }
}

void fixation_read(const TiledSum& sum, double scale, const PlanesOut& out) {
    for (int row = 0; row < out.height; ++row) {
        const double* from = sum.data + row * sum.row_stride;
        float* to = out.data + static_cast<std::ptrdiff_t>(row) * out.width;
        for (int column = 0; column < out.width; ++column) {
            const double value = from[column] * scale;
            to[column] = static_cast<float>(fabs(value) < 1.1754943508222875e-38 ? 0.0 : value);
        }
    }
}

}  // namespace emert::EMERT_ISA
