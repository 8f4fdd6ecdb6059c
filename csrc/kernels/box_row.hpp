// Box means of a stretch of one output row on the GPU. Rows first: each source row under the boxes is read once, by
// neighbouring threads side by side, into sums in shared memory; then each thread adds up its own column's.
#pragma once

#include "emert/box.hpp"
#include "emert/views.hpp"
#include "kernels/cuda_launch.hpp"

namespace emert::cuda {

constexpr int kRowColumns = 64;  // of the output
constexpr int kRowThreads = 256;
constexpr int kRowLanes = 4096;  // a lane is a channel of a source column; sums of so many at a time
constexpr int kShortRows = 256;  // 256 rows of 255 still fit 16 bits

struct RowShared {
    alignas(16) float sums[kRowLanes];
    BoxSpan columns[kRowColumns];  // of the source, under the output's columns
    BoxSpan rows[kRowColumns];     // the first alone where they all have the same
};

EMERT_HD std::int32_t lesser(std::int32_t a, std::int32_t b) {
    return a < b ? a : b;
}
EMERT_HD std::int32_t greater(std::int32_t a, std::int32_t b) {
    return a > b ? a : b;
}

inline Grid row_grid(std::int32_t height, std::int32_t width, std::int32_t images) {
    return {static_cast<unsigned>((width + kRowColumns - 1) / kRowColumns), static_cast<unsigned>(height),
            static_cast<unsigned>(images)};
}

/// Rows whose bytes follow one another and begin alike within a 32-bit word: four lanes are read as one.
inline bool reads_words(const FrameView& frame, std::ptrdiff_t step) {
    return frame.packed() && frame.row_stride % 4 == 0 && step % 4 == 0;
}

/// The lanes of a frame: byte 3 p + c of a row.
struct FrameLanes {
    static constexpr int kChannels = 3;

    FrameView frame;
    bool words;

    /// The lane at or before this one with which a word begins.
    EMERT_BODY std::int32_t aligned(std::int32_t lane) const {
        return words
                   ? lane - static_cast<std::int32_t>(
                                (reinterpret_cast<std::uintptr_t>(frame.data) + static_cast<std::uintptr_t>(lane)) & 3)
                   : lane;
    }

    EMERT_BODY float row_sum(std::int32_t lane, const BoxSpan& rows) const {
        const std::uint8_t* at = frame.data + lane / 3 * frame.pixel_stride + lane % 3 * frame.channel_stride;
        // The mean over a column is the mean over a row whose pixels lie a row's stride apart.
        return row_mean(at, frame.row_stride, rows);
    }

    EMERT_BODY void word_sum(std::int32_t lane, const BoxSpan& rows, float* sums) const {
        const auto word = [&](std::int32_t row) {
            return *reinterpret_cast<const std::uint32_t*>(frame.data + row * frame.row_stride + lane);
        };
        float sum[4];
        const std::uint32_t first = word(rows.first);
        const std::uint32_t last = word(rows.last);
        for (int i = 0; i < 4; ++i) {
            sum[i] = rows.first_share * static_cast<float>(first >> 8 * i & 255u) +
                     rows.last_share * static_cast<float>(last >> 8 * i & 255u);
        }
        for (std::int32_t begin = rows.first + 1; begin < rows.last; begin += kShortRows) {
            const std::int32_t stop = lesser(begin + kShortRows, rows.last);
            std::uint32_t even = 0;  // two sums of 16 bits each
            std::uint32_t odd = 0;
            for (std::int32_t row = begin; row < stop; ++row) {
                const std::uint32_t four = word(row);
                even += four & 0x00ff00ffu;
                odd += four >> 8 & 0x00ff00ffu;
            }
            sum[0] += rows.inner_share * static_cast<float>(even & 0xffffu);
            sum[1] += rows.inner_share * static_cast<float>(odd & 0xffffu);
            sum[2] += rows.inner_share * static_cast<float>(even >> 16);
            sum[3] += rows.inner_share * static_cast<float>(odd >> 16);
        }
        for (int i = 0; i < 4; ++i) sums[i] = sum[i];
    }

    /// Sums of the lanes [begin, stop), by all threads of the block.
    template <typename Thread>
    EMERT_BODY void sum(const Thread& thread, float* sums, const BoxSpan& rows, std::int32_t begin,
                        std::int32_t stop) const {
        for (std::int32_t at = 4 * thread.index(); at < stop - begin; at += 4 * kRowThreads) {
            const std::int32_t lane = begin + at;
            if (words && lane >= 0 && lane + 4 <= 3 * frame.width) {
                word_sum(lane, rows, sums + at);
            } else {
                for (std::int32_t i = 0; i < 4; ++i) {
                    if (lane + i >= 0 && lane + i < stop) sums[at + i] = row_sum(lane + i, rows);
                }
            }
        }
    }
};

/// The lanes of a plane: its columns.
struct PlaneLanes {
    static constexpr int kChannels = 1;

    PlaneView plane;

    EMERT_BODY std::int32_t aligned(std::int32_t lane) const { return lane; }

    template <typename Thread>
    EMERT_BODY void sum(const Thread& thread, float* sums, const BoxSpan& rows, std::int32_t begin,
                        std::int32_t stop) const {
        for (std::int32_t at = thread.index(); at < stop - begin; at += kRowThreads) {
            const char* column = plane.data + (begin + at) * plane.column_stride;
            float total = 0.0f;
            for (std::int32_t row = rows.first; row <= rows.last; ++row) {
                total += box_share(rows, row) * *reinterpret_cast<const float*>(column + row * plane.row_stride);
            }
            sums[at] = total;
        }
    }
};

/// Which column and channel of the stretch is this thread's own.
struct RowTask {
    int column;
    int channel;
    bool own;
};

template <typename Thread>
EMERT_BODY RowTask row_task(const Thread& thread, int channels, int columns) {
    const int column = thread.index() / channels;
    return {column, thread.index() % channels, column < columns};
}

/// The mean over the thread's box; shared.columns holds `columns` spans, which rise or fall. Waits before it returns.
template <typename Thread, typename Lanes>
EMERT_BODY float row_box_mean(Thread& thread, RowShared& shared, const Lanes& lanes, const BoxSpan& rows, int columns) {
    constexpr int kChannels = Lanes::kChannels;
    const RowTask task = row_task(thread, kChannels, columns);
    const BoxSpan span = shared.columns[task.own ? task.column : 0];
    const BoxSpan& one_end = shared.columns[0];
    const BoxSpan& other_end = shared.columns[columns - 1];
    const std::int32_t stop = kChannels * (greater(one_end.last, other_end.last) + 1);
    float mean = 0.0f;
    for (std::int32_t begin = lanes.aligned(kChannels * lesser(one_end.first, other_end.first)); begin < stop;
         begin += kRowLanes) {
        const std::int32_t end = stop - begin > kRowLanes ? begin + kRowLanes : stop;
        lanes.sum(thread, shared.sums, rows, begin, end);
        thread.sync();
        if (task.own) {
            const float* sums = shared.sums + (task.channel - begin);
            // The columns whose lane is among [begin, end).
            const std::int32_t low = begin > task.channel ? (begin - task.channel + kChannels - 1) / kChannels : 0;
            const std::int32_t high = (end - 1 - task.channel) / kChannels;
            if (span.first >= low && span.first <= high) mean += span.first_share * sums[kChannels * span.first];
            float inner = 0.0f;
            for (std::int32_t i = greater(span.first + 1, low); i <= lesser(span.last - 1, high); ++i) {
                inner += sums[kChannels * i];
            }
            mean += span.inner_share * inner;
            if (span.last > span.first && span.last >= low && span.last <= high) {
                mean += span.last_share * sums[kChannels * span.last];
            }
        }
        thread.sync();
    }
    return mean;
}

/// Where a value goes: images of planes, contiguous.
EMERT_HD std::ptrdiff_t place_of(std::int32_t image, std::int32_t planes, std::int32_t plane, std::int32_t row,
                                 std::int32_t column, std::int32_t height, std::int32_t width) {
    return ((static_cast<std::ptrdiff_t>(image) * planes + plane) * height + row) * width + column;
}

}  // namespace emert::cuda
