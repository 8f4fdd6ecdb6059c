#include <cstddef>
#include <cstring>

#include "emert/gaussian.hpp"
#include "kernels/fixation_map.hpp"
#include "kernels/scratch.hpp"
#include "kernels/simd.hpp"

// A Gaussian is the product of a row and a column table, so a map is a sum of outer products. Points are taken in
// blocks whose tables stay in the cache. The map is walked in tiles of kRows x kLanes pixels, one band of rows after
// the other; a tile gathers from the points that reach it and is written once, its sums never leaving the registers.
// Which points reach a band, and which of those a tile, are bits. Tables are padded with zeros to whole tiles, which is
// also what cuts the Gaussians.

namespace emert::EMERT_ISA {

namespace {

constexpr int kRows = 8;
constexpr int kPadding = 16;           // at least kRows and kLanes
constexpr int kBlockFloats = 1 << 18;  // tables of one block of points: 1 MiB
constexpr int kMaxBlock = 4096;
// Float sums are split at a word's points: the error then grows with the square root of a point count, not with it.
constexpr int kWordBits = 64;
// Where a Gaussian is neither narrower nor wider than this, its tables come from one that all points share.
constexpr double kLeastSharedSigma = 0.5;
constexpr double kMostSharedReach = 4096.0;

static_assert(kPadding >= kRows && kPadding >= kLanes);
static_assert(TiledSum::kRowPadding % kRows == 0 && TiledSum::kColumnPadding % kLanes == 0);

constexpr int kHalf = kLanes / 2;
typedef double Doubles __attribute__((vector_size(8 * kHalf)));
typedef std::int64_t Longs __attribute__((vector_size(8 * kHalf)));
typedef float HalfFloats __attribute__((vector_size(4 * kHalf)));
typedef std::int32_t HalfInts __attribute__((vector_size(4 * kHalf)));

/// One axis of the block's points.
struct Axis {
    int size;          // of the map, in pixels
    int step;          // pixels of a tile or band
    int parts;         // tiles or bands
    int table_floats;  // of each point
    double* at;        // coordinates
    double* cell;      // their whole parts
    float* offset;     // from the coordinate to the cell's centre
    int* first;        // pixels that the point reaches
    int* stop;
    int* part_first;  // the same in tiles or bands
    int* part_stop;
    float* step_factor;  // what the point's table gains on the shared one over kLanes pixels
    float* tables;
    int* table_at;         // where in `tables` the map's first pixel would lie
    std::uint64_t* masks;  // for each tile or band, the points that reach it; of the tiles, for one band
};

/// A point in one band: where the map's first column, and where the band, lie in its tables.
struct Visit {
    int columns;
    int rows;
};

struct Workspace {
    float* shared_table;  // exp(-k^2 / 2 sigma^2) for k in [-shared_reach, shared_reach], zeros around it
    int shared_reach;     // -1: not shared
    Axis columns;
    Axis rows;
    double* weight;
    float* share;            // of the block's largest weight
    Visit* visits;           // of one band
    std::uint64_t* running;  // the tile's mask
    int capacity;
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
EMERT_INLINE void step_table(float* table, int count, const float* shared, float origin, float offset, float rate,
                             float step_factor, float weight) {
    const float slope = -rate * rate * offset;
    Floats factor = exp2_of(((lane_numbers() + origin) * 2.0f + offset) * slope) * weight;
    for (int i = 0; i < count; i += kLanes) {
        store(table + i, load(shared + i) * factor);
        factor *= step_factor;
    }
}

/// Every point's tables have the longest's length: loops of one length are what a branch predictor likes.
EMERT_INLINE Axis make_axis(int size, int step, double reach) {
    const double whole = 2.0 * reach + 1.0;
    const int reached = whole < size ? static_cast<int>(whole) : size;
    Axis axis{};
    axis.size = size;
    axis.step = step;
    axis.parts = (size + step - 1) / step;
    axis.table_floats = round_up(((reached - 2 + step) / step + 1) * step, kLanes);
    return axis;
}

EMERT_INLINE std::size_t mask_words(const Axis& axis, int capacity) {
    // One part more: where the points that reach the last one end.
    return static_cast<std::size_t>(axis.parts + 1) * static_cast<std::size_t>((capacity + kWordBits - 1) / kWordBits);
}

/// Bytes of what carve_axis() takes.
EMERT_INLINE std::size_t axis_bytes(const Axis& axis, int capacity) {
    const std::size_t n = static_cast<std::size_t>(round_up(capacity, kLanes));
    return 2 * Carver::padded(n * sizeof(double)) + 2 * Carver::padded(n * sizeof(float)) +
           5 * Carver::padded(n * sizeof(int)) +
           Carver::padded(n * static_cast<std::size_t>(axis.table_floats) * sizeof(float)) +
           Carver::padded(mask_words(axis, capacity) * sizeof(std::uint64_t));
}

EMERT_INLINE void carve_axis(Carver& carver, int capacity, Axis& axis) {
    const std::size_t n = static_cast<std::size_t>(round_up(capacity, kLanes));  // whole vectors are computed
    axis.at = carver.take<double>(n);
    axis.cell = carver.take<double>(n);
    axis.offset = carver.take<float>(n);
    axis.step_factor = carver.take<float>(n);
    axis.first = carver.take<int>(n);
    axis.stop = carver.take<int>(n);
    axis.part_first = carver.take<int>(n);
    axis.part_stop = carver.take<int>(n);
    axis.table_at = carver.take<int>(n);
    axis.tables = carver.take<float>(n * static_cast<std::size_t>(axis.table_floats));
    axis.masks = carver.take<std::uint64_t>(mask_words(axis, capacity));
}

Workspace make_workspace(std::ptrdiff_t point_count, double sigma, int height, int width) {
    const double reach = gaussian_reach(sigma);
    Workspace space;
    space.columns = make_axis(width, kLanes, reach);
    space.rows = make_axis(height, kRows, reach);
    int capacity = kBlockFloats / (space.columns.table_floats + space.rows.table_floats);
    if (capacity > kMaxBlock) capacity = kMaxBlock;
    if (capacity < 1) capacity = 1;
    if (capacity > point_count) capacity = static_cast<int>(point_count);
    space.capacity = capacity;
    space.shared_reach = sigma >= kLeastSharedSigma && reach <= kMostSharedReach ? static_cast<int>(reach) : -1;

    const std::size_t n = static_cast<std::size_t>(capacity);
    // A point's first tile or band begins up to kPadding pixels before its reach, or at its last pixel.
    const int shared_begin = space.shared_reach + kPadding;
    const int columns = space.columns.table_floats;
    const int rows = space.rows.table_floats;
    const int shared_count =
        round_up(shared_begin + space.shared_reach + 1 + (columns > rows ? columns : rows), kLanes);
    const std::size_t shared = static_cast<std::size_t>(shared_count);
    const std::size_t words = n / kWordBits + 1;
    Carver carver(scratch(Carver::padded(shared * sizeof(float)) + axis_bytes(space.columns, capacity) +
                          axis_bytes(space.rows, capacity) + Carver::padded(n * sizeof(double)) +
                          Carver::padded(n * sizeof(float)) + Carver::padded(n * sizeof(Visit)) +
                          Carver::padded(words * sizeof(std::uint64_t))));
    space.shared_table = carver.take<float>(shared);
    carve_axis(carver, capacity, space.columns);
    carve_axis(carver, capacity, space.rows);
    space.weight = carver.take<double>(n);
    space.share = carver.take<float>(n);
    space.visits = carver.take<Visit>(n);
    space.running = carver.take<std::uint64_t>(words);

    if (space.shared_reach >= 0) {
        fill_table(space.shared_table, shared_count, -shared_begin, 0.0f, static_cast<float>(kPadding),
                   static_cast<float>(kPadding + 2 * space.shared_reach + 1), gaussian_rate(sigma), 1.0f);
        space.shared_table += shared_begin;
    }
    return space;
}

/// Takes finite points from `next` on until the block is full. Returns how many.
EMERT_INLINE int take_points(const Points& points, std::ptrdiff_t& next, const Workspace& space) {
    int count = 0;
    for (; next < points.count && count < space.capacity; ++next) {
        const double x = number_at(points.x, next);
        const double y = number_at(points.y, next);
        const double weight = number_at(points.weight, next);
        space.columns.at[count] = x;
        space.rows.at[count] = y;
        space.weight[count] = weight;
        // The difference of what isn't finite with itself is NaN.
        count +=
            static_cast<int>(x - x == 0.0) & static_cast<int>(y - y == 0.0) & static_cast<int>(weight - weight == 0.0);
    }
    return count;
}

/// Where the points land on an axis.
EMERT_INLINE void land_points(const Axis& axis, int count, double sigma) {
    const double reach = gaussian_reach(sigma);
    const Doubles none{};
    const Doubles size = none + static_cast<double>(axis.size);
    for (int i = count; i < round_up(count, kHalf); ++i) axis.at[i] = 0.0;
    // land() and gaussian_span(), kHalf points at once. Doubles from 2^51 on are whole.
    for (int i = 0; i < count; i += kHalf) {
        Doubles at;
        std::memcpy(&at, axis.at + i, sizeof at);
        const Doubles nearest = (at + 6755399441055744.0) - 6755399441055744.0;  // 1.5 * 2^52
        const Longs small = (at < 2251799813685248.0) & (at > -2251799813685248.0);
        const Doubles below = nearest - (Doubles)((Longs)(none + 1.0) & (nearest > at));
        const Doubles cell = small ? below : at;
        const Doubles low = cell - reach;
        const Doubles high = cell + (reach + 1.0);
        const Doubles first = low > none ? low : none;
        const Doubles stop = high > none ? high : none;
        const HalfFloats offset = __builtin_convertvector(0.5 - (at - cell), HalfFloats);
        const HalfInts pixels[2] = {__builtin_convertvector(first < size ? first : size, HalfInts),
                                    __builtin_convertvector(stop < size ? stop : size, HalfInts)};
        std::memcpy(axis.cell + i, &cell, sizeof cell);
        std::memcpy(axis.offset + i, &offset, sizeof offset);
        std::memcpy(axis.first + i, &pixels[0], sizeof pixels[0]);
        std::memcpy(axis.stop + i, &pixels[1], sizeof pixels[1]);
    }
    const int shift = __builtin_ctz(static_cast<unsigned>(axis.step));
    for (int i = 0; i < count; ++i) {
        axis.part_first[i] = axis.first[i] >> shift;
        axis.part_stop[i] = (axis.stop[i] + axis.step - 1) >> shift;
        axis.table_at[i] = i * axis.table_floats - (axis.part_first[i] << shift);
    }
}

/// Fills the shares of the largest weight of a point that reaches the map, which is returned: no weight is then too
/// large or too small for float32 sums.
EMERT_INLINE double share_weights(const Workspace& space, int count) {
    double largest = 0.0;
    for (int i = 0; i < count; ++i) {
        const bool reaches =
            (space.columns.first[i] < space.columns.stop[i]) & (space.rows.first[i] < space.rows.stop[i]);
        const double size = reaches ? fabs(space.weight[i]) : 0.0;
        largest = size > largest ? size : largest;
    }
    if (largest > 0.0) {
        for (int i = 0; i < count; ++i) space.share[i] = static_cast<float>(space.weight[i] / largest);
    }
    return largest;
}

/// One axis's table of each point that reaches it, times its share where `weighs`.
EMERT_INLINE void fill_axis(const Workspace& space, const Axis& axis, int count, double sigma, bool weighs) {
    const float rate = gaussian_rate(sigma);
    if (space.shared_reach >= 0) {
        const float slope = -2.0f * kLanes * rate * rate;
        for (int i = 0; i < count; i += kLanes) {
            store(axis.step_factor + i, exp2_of(load(axis.offset + i) * slope));
        }
    }
    float* table = axis.tables;
    for (int i = 0; i < count; ++i, table += axis.table_floats) {
        if (axis.first[i] >= axis.stop[i]) continue;
        const float share = weighs ? space.share[i] : 1.0f;
        const int begin = axis.part_first[i] * axis.step;
        const double origin = begin - axis.cell[i];
        if (space.shared_reach >= 0) {
            step_table(table, axis.table_floats, space.shared_table + static_cast<int>(origin),
                       static_cast<float>(origin), axis.offset[i], rate, axis.step_factor[i], share);
        } else {
            fill_table(table, axis.table_floats, origin, axis.offset[i], static_cast<float>(axis.first[i] - begin),
                       static_cast<float>(axis.stop[i] - begin), rate, share);
        }
    }
}

/// Marks from which part to which a point reaches; marks carried over say who is there.
EMERT_INLINE void mark(const Axis& axis, int point, int number, int words) {
    const std::uint64_t bit = std::uint64_t{1} << number % kWordBits;
    std::uint64_t* masks = axis.masks + number / kWordBits;
    masks[axis.part_first[point] * words] ^= bit;
    masks[axis.part_stop[point] * words] ^= bit;
}

EMERT_INLINE void clear_marks(const Axis& axis, int words) {
    std::memset(axis.masks, 0, static_cast<std::size_t>((axis.parts + 1) * words) * sizeof(std::uint64_t));
}

/// Marks which points reach which bands.
EMERT_INLINE void mark_bands(const Workspace& space, int count, int words) {
    const Axis& rows = space.rows;
    clear_marks(rows, words);
    for (int i = 0; i < count; ++i) {
        if (space.columns.first[i] < space.columns.stop[i] && rows.first[i] < rows.stop[i]) mark(rows, i, i, words);
    }
    for (int i = words; i < rows.parts * words; ++i) rows.masks[i] ^= rows.masks[i - words];
}

/// Lists a band's points and marks which reach which tiles. Returns how many words the tiles' masks have.
EMERT_INLINE int visit_band(const Workspace& space, int band, int words) {
    const std::uint64_t* in_band = space.rows.masks + static_cast<std::ptrdiff_t>(band) * words;
    int visitors = 0;
    for (int word = 0; word < words; ++word) visitors += __builtin_popcountll(in_band[word]);
    const int tile_words = (visitors + kWordBits - 1) / kWordBits;
    if (visitors == 0) return 0;
    clear_marks(space.columns, tile_words);
    int number = 0;
    for (int word = 0; word < words; ++word) {
        for (std::uint64_t mask = in_band[word]; mask != 0; mask &= mask - 1, ++number) {
            const int point = word * kWordBits + __builtin_ctzll(mask);
            space.visits[number] = {space.columns.table_at[point], space.rows.table_at[point] + band * kRows};
            mark(space.columns, point, number, tile_words);
        }
    }
    return tile_words;
}

/// Sums one tile over one word of visits.
EMERT_INLINE void gather_word(const Workspace& space, const Visit* visits, std::uint64_t mask, const float* columns_of,
                              Floats (&total)[kRows]) {
    Floats sum[kRows] = {};
    do {
        const Visit visit = visits[__builtin_ctzll(mask)];
        mask &= mask - 1;
        const Floats columns = load(columns_of + visit.columns);
        const float* rows = space.rows.tables + visit.rows;
        for (int row = 0; row < kRows; ++row) sum[row] += columns * rows[row];
    } while (mask != 0);
    for (int row = 0; row < kRows; ++row) total[row] = sum[row];
}

/// Walks the map's tiles; `Target` takes those that points reach, and hears of the others.
template <typename Target>
void walk_block(const Workspace& space, int count, Target& target) {
    const int words = (count + kWordBits - 1) / kWordBits;
    const int tiles = space.columns.parts;
    for (int band = 0; band < space.rows.parts; ++band) {
        const int tile_words = visit_band(space, band, words);
        if (tile_words == 0) {
            target.gap(band, 0, tiles);
            continue;
        }
        const std::uint64_t* marks = space.columns.masks;
        for (int word = 0; word < tile_words; ++word) space.running[word] = 0;
        for (int tile = 0; tile < tiles; ++tile) {
            const float* columns_of = space.columns.tables + tile * kLanes;
            Floats total[kRows];
            bool reached = false;
            for (int word = 0; word < tile_words; ++word) {
                const std::uint64_t mask = space.running[word] ^= *marks++;
                if (mask == 0) continue;
                const Visit* visits = space.visits + word * kWordBits;
                if (!reached) {
                    gather_word(space, visits, mask, columns_of, total);
                    reached = true;
                } else {
                    Floats more[kRows];
                    gather_word(space, visits, mask, columns_of, more);
                    for (int row = 0; row < kRows; ++row) total[row] += more[row];
                }
            }
            if (reached) {
                target.tile(band, tile, total);
            } else {
                target.gap(band, tile, tile + 1);
            }
        }
    }
}

/// Takes a block of points and readies all that walk_block() needs. Returns what the sums are to be multiplied by, 0
/// where no point reaches the map.
double ready_block(const Points& points, std::ptrdiff_t& next, double sigma, const Workspace& space, int& count) {
    count = take_points(points, next, space);
    land_points(space.columns, count, sigma);
    land_points(space.rows, count, sigma);
    const double scale = share_weights(space, count);
    if (scale > 0.0) {
        fill_axis(space, space.columns, count, sigma, false);
        fill_axis(space, space.rows, count, sigma, true);
        mark_bands(space, count, (count + kWordBits - 1) / kWordBits);
    } else {
        count = 0;
    }
    return scale;
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
        int count;
        const double scale = ready_block(points, next, sigma, space, count);
        target.scale = static_cast<float>(scale < kLargestFloat ? scale : kLargestFloat);
        walk_block(space, count, target);
        target.adds = true;
    } while (next < points.count);
}

void fixation_sum(const Points& points, double sigma, double scale, const TiledSum& sum) {
    const Workspace space = make_workspace(points.count, sigma, sum.height, sum.width);
    std::ptrdiff_t next = 0;
    while (next < points.count) {
        int count;
        const double block_scale = ready_block(points, next, sigma, space, count);
        SumTarget target{sum, scale * block_scale};
        walk_block(space, count, target);
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
