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
constexpr int kUnitLanes = 16;   // a lane is a channel of a source column; at most so many are read at once
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
    static constexpr int kLanes = 6144;
    static constexpr int kSums = kLanes / 16 * 20;

    FrameView frame;
    std::int32_t unit;

    /// Where a lane's sum stands: four words of nothing after each sixteen, so that neighbouring threads, sixteen lanes
    /// apart, write to different banks.
    EMERT_BODY static std::int32_t place(std::int32_t lane) { return lane + (lane >> 4 << 2); }

    /// The lane at or before this one with which a unit begins.
    EMERT_BODY std::int32_t aligned(std::int32_t lane) const {
        const auto at = reinterpret_cast<std::uintptr_t>(frame.data) + static_cast<std::uintptr_t>(lane);
        return lane - static_cast<std::int32_t>(at & static_cast<std::uintptr_t>(unit - 1));
    }

    /// Sums of the lanes [begin, stop) under each of `count` rows of the tile, by all threads of the block. A unit that
    /// sticks out of the frame's rows is read byte by byte.
    template <typename Thread>
    EMERT_BODY void load(const Thread& thread, float* sums, const BoxSpan* rows, int count, std::int32_t begin,
                         std::int32_t stop, std::int32_t pitch) const {
        const int self = thread.index();
        const std::int32_t edge = kChannels * frame.width;
        const std::int32_t head = begin < 0 ? begin + unit : begin;
        const bool at_once = unit > 1 && rows[0].inner_share >= 1.0f / kShortRows;
        std::int32_t units = at_once && stop > head ? (stop - head + unit - 1) / unit : 0;
        if (units > 0 && head + units * unit > edge) --units;
        int row = 0;
        for (std::int32_t at = self;; at += kBoxThreads) {
            for (; row < count && at >= units; at -= units) ++row;
            if (row >= count) break;
            const std::int32_t lane = head + at * unit;
            float* out = sums + (row * pitch + place(lane - begin));
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
            sums[row * pitch + place(lane - begin)] = lane_sum(lane, rows[row]);
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
                at += frame.row_stride;
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
    static constexpr int kSums = kLanes;

    PlaneView plane;

    EMERT_BODY static std::int32_t place(std::int32_t lane) { return lane; }
    EMERT_BODY std::int32_t aligned(std::int32_t lane) const { return lane; }

    template <typename Thread>
    EMERT_BODY void load(const Thread& thread, float* sums, const BoxSpan* rows, int count, std::int32_t begin,
                         std::int32_t stop, std::int32_t pitch) const {
        int row = 0;
        for (std::int32_t at = thread.index();; at += kBoxThreads) {
            for (; row < count && at >= stop - begin; at -= stop - begin) ++row;
            if (row >= count) break;
            const BoxSpan span = rows[row];
            const char* from = plane.data + ((begin + at) * plane.column_stride + span.first * plane.row_stride);
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

template <typename Lanes>
struct BoxShared {
    alignas(16) float sums[Lanes::kSums];
    float carry[Lanes::kChannels][kBoxColumns];
    BoxSpan columns[kBoxColumns];  // of the source, under the tile's columns; they rise or fall
    BoxSpan rows[kBoxRows];
};

/// The means over the boxes of a tile, in as many passes as the sums need: of some of its rows, or, where a single row
/// is too long, of a part of its columns.
template <typename Lanes>
class BoxTile {
  public:
    /// The shared spans are there.
    EMERT_BODY BoxTile(const Lanes& lanes, BoxShared<Lanes>& shared, int rows, int columns)
        : lanes_(lanes), shared_(shared), rows_(rows), columns_(columns), at_once_(rows) {
        const BoxSpan& one_end = shared.columns[0];
        const BoxSpan& other_end = shared.columns[columns - 1];
        first_ = lesser(one_end.first, other_end.first);
        stop_ = greater(one_end.last, other_end.last) + 1;
        low_ = first_;
        const std::int32_t length = row_lanes();
        if (rows * length > Lanes::kLanes) {
            const std::int32_t fit = greater(Lanes::kLanes / length, 1);
            const std::int32_t passes = (rows + fit - 1) / fit;
            at_once_ = (rows + passes - 1) / passes;
        }
    }

    EMERT_BODY bool more() const { return row_ < rows_; }

    EMERT_BODY void next() {
        low_ = high();
        if (low_ < stop_) return;
        low_ = first_;
        row_ += at_once_;
    }

    template <typename Thread>
    EMERT_BODY void load(const Thread& thread) const {
        if (!more()) return;
        lanes_.load(thread, shared_.sums, shared_.rows + row_, rows_now(), begin(), Lanes::kChannels * high(),
                    Lanes::place(row_lanes()));
    }

    /// After a sync: calls emit(row, column, means of the channels) for pixels that are done, each by one thread.
    template <typename Thread, typename Emit>
    EMERT_BODY void reduce(const Thread& thread, const Emit& emit) const {
        const std::int32_t high = this->high();
        const std::int32_t begin = this->begin();
        const std::int32_t pitch = Lanes::place(row_lanes());
        const int rows = rows_now();
        int row = 0;
        for (int column = thread.index();; column += kBoxThreads) {
            for (; row < rows && column >= columns_; column -= columns_) ++row;
            if (row >= rows) break;
            const BoxSpan span = shared_.columns[column];
            const float* sums = shared_.sums + row * pitch;
            float mean[Lanes::kChannels];
            for (int c = 0; c < Lanes::kChannels; ++c) mean[c] = low_ == first_ ? 0.0f : shared_.carry[c][column];
            const std::int32_t last = lesser(span.last, high - 1);
            for (std::int32_t i = greater(span.first, low_); i <= last; ++i) {
                const float share = box_share(span, i);
                for (int c = 0; c < Lanes::kChannels; ++c) {
                    mean[c] += share * sums[Lanes::place(Lanes::kChannels * i + c - begin)];
                }
            }
            if (high == stop_) {
                emit(row_ + row, column, mean);
            } else {
                // Rows are done one at a time then, and the column is this thread's in the next pass too.
                for (int c = 0; c < Lanes::kChannels; ++c) shared_.carry[c][column] = mean[c];
            }
        }
    }

  private:
    static constexpr std::int32_t kReach = (Lanes::kLanes - 2 * kUnitLanes) / Lanes::kChannels;  // columns of a pass

    EMERT_BODY int rows_now() const { return lesser(at_once_, rows_ - row_); }
    EMERT_BODY std::int32_t high() const { return lesser(stop_, low_ + kReach); }
    EMERT_BODY std::int32_t begin() const { return lanes_.aligned(Lanes::kChannels * low_); }

    /// Of a row of the tile, in whole units.
    EMERT_BODY std::int32_t row_lanes() const {
        return (Lanes::kChannels * stop_ - begin() + kUnitLanes - 1) / kUnitLanes * kUnitLanes;
    }

    const Lanes& lanes_;
    BoxShared<Lanes>& shared_;
    int rows_;
    int columns_;
    int at_once_;
    int row_ = 0;
    std::int32_t first_;  // column of the source
    std::int32_t stop_;
    std::int32_t low_;
};

/// Where a value goes: images of planes, contiguous.
EMERT_HD std::ptrdiff_t place_of(std::int32_t image, std::int32_t planes, std::int32_t plane, std::int32_t row,
                                 std::int32_t column, std::int32_t height, std::int32_t width) {
    return ((static_cast<std::ptrdiff_t>(image) * planes + plane) * height + row) * width + column;
}

/// Writes a pixel's three normalised channels.
EMERT_BODY void write_colours(const ImagesOut& out, const ChannelMap& channels, std::int32_t image, std::int32_t planes,
                              std::int32_t row, std::int32_t column, const float (&mean)[3]) {
    for (int c = 0; c < 3; ++c) {
        write_value(out.values, place_of(image, planes, channels.plane[c], row, column, out.height, out.width),
                    normalised(channels, c, mean[c]));
    }
}

}  // namespace emert::cuda
