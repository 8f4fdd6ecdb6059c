// Box means of a tile of an output on the GPU. Rows first: what lies under each row of the tile is added up, by threads
// side by side that read many bytes at once, into sums in shared memory; then each thread adds up its pixels' columns.
#pragma once

#include "emert/box.hpp"
#include "emert/views.hpp"
#include "kernels/cuda_kernels.hpp"
#include "kernels/cuda_launch.hpp"

namespace emert::cuda {

constexpr int kBoxThreads = 256;
constexpr int kBoxColumns = 128;  // of the output, at most so many in a tile
constexpr int kBoxRows = 6;
constexpr int kShortRows = 256;  // so many rows of 255 still fit 16 bits

EMERT_HD std::int32_t lesser(std::int32_t a, std::int32_t b) {
    return a < b ? a : b;
}
EMERT_HD std::int32_t greater(std::int32_t a, std::int32_t b) {
    return a > b ? a : b;
}

/// How an output is cut into tiles; the last ones of an image may be smaller.
struct Tiling {
    std::int32_t rows;
    std::int32_t columns;
};

inline std::int32_t pieces(std::int32_t whole, std::int32_t piece) {
    return (whole + piece - 1) / piece;
}

/// Columns of a tile: even, so that no block is left with a sliver.
inline std::int32_t tile_columns(std::int32_t width) {
    return pieces(width, pieces(width, kBoxColumns));
}

inline Grid box_grid(const Tiling& tiling, const ImagesOut& out) {
    return {static_cast<unsigned>(pieces(out.width, tiling.columns)),
            static_cast<unsigned>(pieces(out.height, tiling.rows)), static_cast<unsigned>(out.count)};
}

/// Where the block's tile begins, and its own size.
struct TilePlace {
    int row;
    int column;
    int rows;
    int columns;
};

template <typename Thread>
EMERT_BODY TilePlace box_place(const Thread& thread, const Tiling& tiling, const ImagesOut& out) {
    const int row = thread.block_y() * tiling.rows;
    const int column = thread.block_x() * tiling.columns;
    return {row, column, lesser(tiling.rows, out.height - row), lesser(tiling.columns, out.width - column)};
}

/// Calls each(row, column) for the pixels of the tile, counted from its corner, each by one thread.
template <typename Thread, typename Each>
EMERT_BODY void each_pixel(const Thread& thread, const TilePlace& place, const Each& each) {
    int row = 0;
    for (int column = thread.index();; column += kBoxThreads) {
        for (; row < place.rows && column >= place.columns; column -= place.columns) ++row;
        if (row >= place.rows) return;
        each(row, column);
    }
}

/// What a thread reads at once.
template <int kWords>
struct alignas(4 * kWords) Words {
    std::uint32_t word[kWords];
};

/// Four sums, written at once.
struct alignas(16) FourSums {
    float sum[4];
};

/// Byte `i` of a word. On the GPU the integer becomes the mantissa of 2^23 + i, which needs no conversion: of those a
/// multiprocessor does few at a time.
EMERT_BODY float byte_of(std::uint32_t word, unsigned i) {
#if defined(__CUDA_ARCH__)
    return __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440u + i)) - 8388608.0f;
#else
    return static_cast<float>(word >> 8 * i & 255u);
#endif
}

/// Its lower or upper half, likewise.
EMERT_BODY float short_of(std::uint32_t word, unsigned i) {
#if defined(__CUDA_ARCH__)
    return __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7410u + 0x22u * i)) - 8388608.0f;
#else
    return static_cast<float>(word >> 16 * i & 0xffffu);
#endif
}

/// Bytes 1 and 3, each in 16 bits.
EMERT_BODY std::uint32_t odd_bytes(std::uint32_t word) {
#if defined(__CUDA_ARCH__)
    return __byte_perm(word, 0, 0x4341u);
#else
    return word >> 8 & 0x00ff00ffu;
#endif
}

/// How many bytes of a frame are read at once: rows whose bytes follow one another, and all begin alike within so many.
inline std::int32_t unit_bytes(const FrameView& frame, std::ptrdiff_t step) {
    if (!frame.packed()) return 1;
    const auto steps = static_cast<std::uintptr_t>(frame.row_stride) | static_cast<std::uintptr_t>(step);
    return steps % 16 == 0 ? 16 : steps % 4 == 0 ? 4 : 1;
}

/// The lanes of a frame: byte 3 p + c of a row.
struct FrameLanes {
    static constexpr int kChannels = 3;
    // A lane is a channel of a column: 1920 pixels. Four blocks then fit on a multiprocessor of Orin's too.
    static constexpr int kLanes = 5760;
    static constexpr int kGrain = 48;  // lanes of sixteen pixels, and of three units
    static constexpr int kSums = kLanes / kGrain * (kGrain + 4);

    FrameView frame;
    std::int32_t unit;

    /// Where sums stand, counted from the origin: four words of nothing after each sixteen pixels, so that neighbouring
    /// threads, which write sixteen lanes apart, meet in a bank two at a time and not four. A pixel's lanes stay
    /// together.
    EMERT_BODY static std::int32_t place(std::int32_t lane) { return lane + (lane >> 4) / 3 * 4; }
    EMERT_BODY static std::int32_t column_place(std::int32_t column) { return 3 * column + (column >> 4) * 4; }

    /// The lane at or before this one with which a unit begins.
    EMERT_BODY std::int32_t aligned(std::int32_t lane) const {
        const auto at = reinterpret_cast<std::uintptr_t>(frame.data) + static_cast<std::uintptr_t>(lane);
        return lane - static_cast<std::int32_t>(at & static_cast<std::uintptr_t>(unit - 1));
    }

    /// The lane that the sums are counted from when this column is the first: the first of a pixel, and so many whole
    /// units before the one that is read first. A unit is whole pixels and one lane.
    EMERT_BODY std::int32_t origin(std::int32_t column) const {
        const std::int32_t begin = aligned(kChannels * column);
        return begin - unit * ((begin + kGrain) % 3);
    }

    /// Sums of the columns [first, last) under each of `count` rows of the tile, by all threads of the block. A unit
    /// that sticks out of the frame's rows is read byte by byte.
    template <typename Thread>
    EMERT_BODY void load(const Thread& thread, float* sums, const BoxSpan* rows, int count, std::int32_t first,
                         std::int32_t last, std::int32_t pitch) const {
        const int self = thread.index();
        const std::int32_t begin = aligned(kChannels * first);
        const std::int32_t stop = kChannels * last;
        const std::int32_t edge = kChannels * frame.width;
        const std::int32_t head = begin < 0 ? begin + unit : begin;
        const bool at_once = unit > 1 && rows[0].inner_share >= 1.0f / kShortRows;
        const int shift = unit == 16 ? 4 : unit == 4 ? 2 : 0;
        std::int32_t units = at_once && stop > head ? (stop - head + unit - 1) >> shift : 0;
        if (units > 0 && head + units * unit > edge) --units;
        const std::int32_t origin = this->origin(first);
        int row = 0;
        for (std::int32_t at = self;; at += kBoxThreads) {
            for (; row < count && at >= units; at -= units) ++row;
            if (row >= count) break;
            const std::int32_t lane = head + at * unit;
            float* out = sums + (row * pitch + place(lane - origin));
            if (unit == 16) {
                unit_sum<4>(lane, rows[row], out);
            } else {
                unit_sum<1>(lane, rows[row], out);
            }
        }
        // The lanes before and after, by the threads that had less to do.
        const std::int32_t before = begin < 0 ? lesser(head, stop) : 0;
        const std::int32_t tail = head + units * unit;
        const std::int32_t single = before + greater(stop - tail, 0);
        if (single == 0) return;
        row = 0;
        for (std::int32_t at = (self - count * units) & (kBoxThreads - 1);; at += kBoxThreads) {
            for (; row < count && at >= single; at -= single) ++row;
            if (row >= count) break;
            const std::int32_t lane = at < before ? at : tail + at - before;
            sums[row * pitch + place(lane - origin)] = lane_sum(lane, rows[row]);
        }
    }

  private:
    EMERT_BODY float lane_sum(std::int32_t lane, const BoxSpan& rows) const {
        const std::uint8_t* at = frame.data + (lane / 3 * frame.pixel_stride + lane % 3 * frame.channel_stride +
                                               rows.first * frame.row_stride);
        const float first = *at;
        std::uint32_t inner = 0;
#pragma unroll 4
        for (std::int32_t row = rows.first + 1; row < rows.last; ++row) inner += *(at += frame.row_stride);
        const float last = rows.last > rows.first ? at[frame.row_stride] : 0.0f;
        return rows.first_share * first + rows.inner_share * static_cast<float>(inner) + rows.last_share * last;
    }

    /// Two sums of 16 bits in each word: of bytes 0 and 2, and of bytes 1 and 3.
    template <int kWords>
    struct ShortSums {
        std::uint32_t even[kWords];
        std::uint32_t odd[kWords];

        /// Byte i of word w.
        EMERT_BODY float sum(int w, unsigned i) const { return short_of(i % 2 == 0 ? even[w] : odd[w], i / 2); }
    };

    /// One row further. The compiler is kept from seeing that the step is the same each time: it would hold four
    /// addresses in registers, and for want of them begin to add before all four reads are under way.
    EMERT_BODY const std::uint8_t* next_row(const std::uint8_t* at) const {
        std::ptrdiff_t step = frame.row_stride;
#if defined(__CUDA_ARCH__)
        asm volatile("" : "+l"(step));
#endif
        return at + step;
    }

    /// Four reads are under way at a time.
    template <int kWords>
    EMERT_BODY ShortSums<kWords> short_sums(const std::uint8_t* at, std::int32_t rows) const {
        ShortSums<kWords> sums{};
#pragma unroll 1
        for (; rows > 0; rows -= 4) {
            Words<kWords> four[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                four[i] = i < rows ? *reinterpret_cast<const Words<kWords>*>(at) : Words<kWords>{};
                at = next_row(at);
            }
#pragma unroll
            for (int w = 0; w < kWords; ++w) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    sums.even[w] += four[i].word[w] & 0x00ff00ffu;
                    sums.odd[w] += odd_bytes(four[i].word[w]);
                }
            }
        }
        return sums;
    }

    template <int kWords>
    EMERT_BODY void unit_sum(std::int32_t lane, const BoxSpan& rows, float* sums) const {
        const std::int32_t beyond = rows.last - rows.first;
        const std::uint8_t* at = frame.data + (rows.first * frame.row_stride + lane);
        const auto first = *reinterpret_cast<const Words<kWords>*>(at);
        const auto last = *reinterpret_cast<const Words<kWords>*>(at + beyond * frame.row_stride);
        at += frame.row_stride;
        const ShortSums<kWords> inner = short_sums<kWords>(at, beyond - 1);
#pragma unroll
        for (int w = 0; w < kWords; ++w) {
            FourSums four;
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                four.sum[i] = rows.first_share * byte_of(first.word[w], i) + rows.inner_share * inner.sum(w, i) +
                              rows.last_share * byte_of(last.word[w], i);
            }
            reinterpret_cast<FourSums*>(sums)[w] = four;
        }
    }
};

/// The lanes of a plane: its columns.
struct PlaneLanes {
    static constexpr int kChannels = 1;
    static constexpr int kLanes = 1024;
    static constexpr int kGrain = 1;
    static constexpr int kSums = kLanes;

    PlaneView plane;

    EMERT_BODY static std::int32_t place(std::int32_t lane) { return lane; }
    EMERT_BODY static std::int32_t column_place(std::int32_t column) { return column; }
    EMERT_BODY std::int32_t origin(std::int32_t column) const { return column; }

    template <typename Thread>
    EMERT_BODY void load(const Thread& thread, float* sums, const BoxSpan* rows, int count, std::int32_t first,
                         std::int32_t last, std::int32_t pitch) const {
        int row = 0;
        for (std::int32_t at = thread.index();; at += kBoxThreads) {
            for (; row < count && at >= last - first; at -= last - first) ++row;
            if (row >= count) break;
            const BoxSpan span = rows[row];
            const char* from = plane.data + ((first + at) * plane.column_stride + span.first * plane.row_stride);
            float total = 0.0f;
#pragma unroll 4
            for (std::int32_t i = span.first; i <= span.last; ++i) {
                total += box_share(span, i) * *reinterpret_cast<const float*>(from);
                from += plane.row_stride;
            }
            sums[row * pitch + at] = total;
        }
    }
};

/// How a tile is made: what one thread finds and all need, since registers are for reads that are under way.
struct BoxPlan {
    std::int32_t first;  // of the source's columns under the tile, [first, stop)
    std::int32_t stop;
    std::int32_t rows;   // of a pass
    std::int32_t pitch;  // of the sums, from row to row
};

template <typename Lanes>
struct BoxShared {
    alignas(16) float sums[Lanes::kSums];
    alignas(16) BoxPlan plan;
    float carry[Lanes::kChannels][kBoxColumns];
    BoxSpan columns[kBoxColumns];  // of the source, under the tile's columns; they rise or fall
    BoxSpan rows[kBoxRows];
};

/// The plan of a tile of `rows` rows whose outermost columns lie over these spans.
template <typename Lanes>
EMERT_BODY BoxPlan box_plan(const Lanes& lanes, int rows, const BoxSpan& one_end, const BoxSpan& other_end) {
    BoxPlan plan;
    plan.first = lesser(one_end.first, other_end.first);
    plan.stop = greater(one_end.last, other_end.last) + 1;
    const std::int32_t lanes_used = Lanes::kChannels * plan.stop - lanes.origin(plan.first);
    const std::int32_t length = (lanes_used + Lanes::kGrain - 1) / Lanes::kGrain * Lanes::kGrain;
    plan.rows = rows;
    while (plan.rows > 1 && plan.rows * length > Lanes::kLanes) plan.rows = (plan.rows + 1) / 2;
    plan.pitch = Lanes::place(length);
    return plan;
}

/// The means over the boxes of a tile, in as many passes as the sums need: of some of its rows, or, where a single row
/// is too long, of a part of its columns.
template <typename Lanes>
class BoxTile {
  public:
    EMERT_BODY BoxTile(const Lanes& lanes, BoxShared<Lanes>& shared, int rows, int columns)
        : lanes_(lanes), shared_(shared), rows_(rows), columns_(columns) {}

    EMERT_BODY bool more() const { return row_ < rows_; }

    EMERT_BODY void next() {
        done_ += kReach;
        if (shared_.plan.first + done_ < shared_.plan.stop) return;
        done_ = 0;
        row_ += shared_.plan.rows;
    }

    /// Once the shared spans and the plan are there.
    template <typename Thread>
    EMERT_BODY void load(const Thread& thread) const {
        const BoxPlan plan = shared_.plan;
        lanes_.load(thread, shared_.sums, shared_.rows + row_, rows_now(plan), low(plan), high(plan), plan.pitch);
    }

    /// After a sync: calls emit(row, column, means of the channels) for pixels that are done, each by one thread.
    template <typename Thread, typename Emit>
    EMERT_BODY void reduce(const Thread& thread, const Emit& emit) const {
        const BoxPlan plan = shared_.plan;
        const std::int32_t low = this->low(plan);
        const std::int32_t high = this->high(plan);
        const bool whole = high == plan.stop;
        const std::int32_t origin = lanes_.origin(low) / Lanes::kChannels;
        const int rows = rows_now(plan);
        int row = 0;
        for (int column = thread.index();; column += kBoxThreads) {
            for (; row < rows && column >= columns_; column -= columns_) ++row;
            if (row >= rows) break;
            const BoxSpan span = shared_.columns[column];
            const float* sums = shared_.sums + row * plan.pitch;
            float mean[Lanes::kChannels] = {};
            const std::int32_t last = lesser(span.last, high);
#pragma unroll 2
            for (std::int32_t i = greater(span.first + 1, low); i < last; ++i) {
                const float* at = sums + Lanes::column_place(i - origin);
                for (int c = 0; c < Lanes::kChannels; ++c) mean[c] += at[c];
            }
            for (int c = 0; c < Lanes::kChannels; ++c) mean[c] *= span.inner_share;
            if (span.first >= low && span.first < high) {
                const float* at = sums + Lanes::column_place(span.first - origin);
                for (int c = 0; c < Lanes::kChannels; ++c) mean[c] += span.first_share * at[c];
            }
            if (span.last > span.first && span.last >= low && span.last < high) {
                const float* at = sums + Lanes::column_place(span.last - origin);
                for (int c = 0; c < Lanes::kChannels; ++c) mean[c] += span.last_share * at[c];
            }
            if (done_ != 0) {
                for (int c = 0; c < Lanes::kChannels; ++c) mean[c] += shared_.carry[c][column];
            }
            if (whole) {
                emit(row_ + row, column, mean);
            } else {
                // Rows are done one at a time then, and the column is this thread's in the next pass too.
                for (int c = 0; c < Lanes::kChannels; ++c) shared_.carry[c][column] = mean[c];
            }
        }
    }

  private:
    static constexpr std::int32_t kReach = (Lanes::kLanes - 2 * Lanes::kGrain) / Lanes::kChannels;  // columns of a pass

    /// The columns of the pass, [low, high).
    EMERT_BODY std::int32_t low(const BoxPlan& plan) const { return plan.first + done_; }
    EMERT_BODY std::int32_t high(const BoxPlan& plan) const { return lesser(plan.stop, low(plan) + kReach); }
    EMERT_BODY int rows_now(const BoxPlan& plan) const { return lesser(plan.rows, rows_ - row_); }

    const Lanes& lanes_;
    BoxShared<Lanes>& shared_;
    int rows_;
    int columns_;
    int row_ = 0;
    std::int32_t done_ = 0;  // columns of the source, before this pass
};

/// Where a pixel of an image's first plane goes, and how far it is to the next plane; all are contiguous.
struct PixelPlace {
    std::ptrdiff_t at;
    std::ptrdiff_t plane;
};

EMERT_BODY PixelPlace pixel_place(const ImagesOut& out, std::int32_t planes, std::int32_t image, std::int32_t row,
                                  std::int32_t column) {
    const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(out.height) * out.width;
    return {image * planes * plane + static_cast<std::ptrdiff_t>(row) * out.width + column, plane};
}

/// Writes a pixel's three normalised channels.
EMERT_BODY void write_colours(const ImagesOut& out, const ChannelMap& channels, const PixelPlace& place,
                              const float (&mean)[3]) {
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        write_value(out.values, place.at + channels.plane[c] * place.plane, normalised(channels, c, mean[c]));
    }
}

}  // namespace emert::cuda
