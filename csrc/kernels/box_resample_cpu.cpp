#include <cstring>

#include "kernels/box_resample.hpp"
#include "kernels/scratch.hpp"
#include "kernels/simd.hpp"

// Rows first: the source rows under an output row become one row of float32 sums, a walk over contiguous bytes in which
// the rows that lie wholly inside the box are added as 16-bit integers. Two output rows are summed at once, for the
// source row in which one box ends and the next begins is then read and converted once. Then columns, a pixel (three
// channels and a spare lane) at a time, for four output rows.

namespace emert::EMERT_ISA {

namespace {

constexpr int kBlockColumns = 4 * kLanes;
constexpr int kShortRows = 256;  // 256 rows of 255 still fit 16 bits
constexpr int kSummedRows = 2;   // output rows at once
constexpr int kWrittenRows = 4;
static_assert(kWrittenRows % kSummedRows == 0);

EMERT_INLINE float row_sum(const std::uint8_t* rows, std::ptrdiff_t stride, const BoxSpan& span) {
    float sum = span.first_share * static_cast<float>(rows[span.first * stride]);
    std::int64_t inner = 0;
    for (std::int32_t row = span.first + 1; row < span.last; ++row) inner += rows[row * stride];
    sum += span.inner_share * static_cast<float>(inner);
    return sum + span.last_share * static_cast<float>(rows[span.last * stride]);
}

/// The source rows of one output row, from their first byte that counts.
struct BoxRows {
    const std::uint8_t* first;
    const std::uint8_t* last;
    std::int32_t inner_count;
    Floats first_share;
    Floats inner_share;
    Floats last_share;
};

/// Adds kBlockColumns bytes, `at` on, of the rows between the first and the last.
EMERT_INLINE void add_inner_rows(const BoxRows& rows, std::ptrdiff_t stride, std::ptrdiff_t at, Floats (&sum)[4]) {
    const std::uint8_t* row = rows.first + at;
    for (std::int32_t left = rows.inner_count; left > 0; left -= kShortRows) {
        Shorts inner[2] = {};
        for (std::int32_t i = left < kShortRows ? left : kShortRows; i > 0; --i) {
            row += stride;
            inner[0] += load_bytes_as_shorts(row);
            inner[1] += load_bytes_as_shorts(row + 2 * kLanes);
        }
        for (int half = 0; half < 2; ++half) {
            Floats low;
            Floats high;
            shorts_to_floats(inner[half], low, high);
            sum[2 * half] += low * rows.inner_share;
            sum[2 * half + 1] += high * rows.inner_share;
        }
    }
}

/// Sums kBlockColumns bytes, `at` on, of one box's rows. `edge` holds its first row's where it `kFollows` the box
/// before in which that was the last, and its last row's afterwards.
template <bool kFollows>
EMERT_INLINE void sum_box(const BoxRows& rows, std::ptrdiff_t stride, std::ptrdiff_t at, Floats (&edge)[4],
                          float* sums) {
    Floats sum[4];
    for (int part = 0; part < 4; ++part) {
        if (!kFollows) edge[part] = load_bytes_as_floats(rows.first + at + part * kLanes);
        sum[part] = edge[part] * rows.first_share;
        edge[part] = load_bytes_as_floats(rows.last + at + part * kLanes);
        sum[part] += edge[part] * rows.last_share;
    }
    add_inner_rows(rows, stride, at, sum);
    for (int part = 0; part < 4; ++part) store(sums + at + part * kLanes, sum[part]);
}

template <int kCount, bool kTouch>
EMERT_INLINE void sum_block(const BoxRows (&boxes)[kCount], std::ptrdiff_t stride, std::ptrdiff_t at, float* sums,
                            std::ptrdiff_t sums_stride) {
    static_assert(kCount <= 2);
    Floats edge[4];
    sum_box<false>(boxes[0], stride, at, edge, sums);
    if constexpr (kCount == 2) sum_box<kTouch>(boxes[1], stride, at, edge, sums + sums_stride);
}

/// The sums of kCount output rows; where they `kTouch`, each box begins in the row in which the one before ends.
template <int kCount, bool kTouch>
void sum_boxes(const std::uint8_t* rows, std::ptrdiff_t stride, std::ptrdiff_t bytes, const BoxSpan* spans, float* sums,
               std::ptrdiff_t sums_stride) {
    BoxRows boxes[kCount];
    for (int box = 0; box < kCount; ++box) {
        const BoxSpan& span = spans[box];
        boxes[box] = {rows + span.first * stride, rows + span.last * stride, span.last - span.first - 1,
                      splat(span.first_share),    splat(span.inner_share),   splat(span.last_share)};
    }
    std::ptrdiff_t at = 0;
    for (; at + kBlockColumns <= bytes; at += kBlockColumns) {
        sum_block<kCount, kTouch>(boxes, stride, at, sums, sums_stride);
    }
    if (at < bytes && bytes >= kBlockColumns) {
        sum_block<kCount, kTouch>(boxes, stride, bytes - kBlockColumns, sums, sums_stride);
        return;
    }
    for (; at < bytes; ++at) {
        for (int box = 0; box < kCount; ++box) sums[box * sums_stride + at] = row_sum(rows + at, stride, spans[box]);
    }
}

/// Rows of sums of kCount output rows, for frames whose rows are contiguous.
template <int kCount>
void sum_packed_rows(const FrameView& frame, std::int32_t first_column, std::int32_t columns, const BoxSpan* spans,
                     float* sums, std::ptrdiff_t sums_stride) {
    const std::uint8_t* rows = frame.data + static_cast<std::ptrdiff_t>(first_column) * 3;
    bool touch = true;
    for (int box = 1; box < kCount; ++box) touch &= spans[box].first == spans[box - 1].last;
    if (touch) {
        sum_boxes<kCount, true>(rows, frame.row_stride, columns * 3, spans, sums, sums_stride);
    } else {
        sum_boxes<kCount, false>(rows, frame.row_stride, columns * 3, spans, sums, sums_stride);
    }
}

void sum_strided_rows(const FrameView& frame, std::int32_t first_column, std::int32_t columns, const BoxSpan& span,
                      float* sums) {
    std::memset(sums, 0, static_cast<std::size_t>(columns) * 3 * sizeof(float));
    for (std::int32_t row = span.first; row <= span.last; ++row) {
        const float share = box_share(span, row);
        const std::uint8_t* from = frame.data + row * frame.row_stride + first_column * frame.pixel_stride;
        for (std::int32_t column = 0; column < columns; ++column, from += frame.pixel_stride) {
            for (int channel = 0; channel < 3; ++channel) {
                sums[3 * column + channel] += share * static_cast<float>(from[channel * frame.channel_stride]);
            }
        }
    }
}

template <int kCount>
void sum_rows(const FrameView& frame, std::int32_t first_column, std::int32_t columns, const BoxSpan* spans,
              float* sums, std::ptrdiff_t sums_stride) {
    if (frame.packed()) {
        sum_packed_rows<kCount>(frame, first_column, columns, spans, sums, sums_stride);
        return;
    }
    for (int i = 0; i < kCount; ++i) {
        sum_strided_rows(frame, first_column, columns, spans[i], sums + i * sums_stride);
    }
}

EMERT_INLINE const float* float_row(const PlaneView& plane, std::int32_t row) {
    return reinterpret_cast<const float*>(plane.data + row * plane.row_stride);
}

/// For planes whose rows are contiguous.
void sum_float_rows(const PlaneView& plane, const BoxSpan& span, float* sums) {
    std::int32_t column = 0;
    for (; column + kBlockColumns <= plane.width; column += kBlockColumns) {
        Floats sum[4] = {};
        for (std::int32_t row = span.first; row <= span.last; ++row) {
            const float* from = float_row(plane, row) + column;
            const float share = box_share(span, row);
            for (int part = 0; part < 4; ++part) sum[part] += load(from + part * kLanes) * share;
        }
        for (int part = 0; part < 4; ++part) store(sums + column + part * kLanes, sum[part]);
    }
    for (; column < plane.width; ++column) {
        float sum = 0.0f;
        for (std::int32_t row = span.first; row <= span.last; ++row) {
            sum += float_row(plane, row)[column] * box_share(span, row);
        }
        sums[column] = sum;
    }
}

void sum_strided_float_rows(const PlaneView& plane, const BoxSpan& span, float* sums) {
    for (std::int32_t column = 0; column < plane.width; ++column) sums[column] = 0.0f;
    for (std::int32_t row = span.first; row <= span.last; ++row) {
        const char* from = plane.data + row * plane.row_stride;
        const float share = box_share(span, row);
        for (std::int32_t column = 0; column < plane.width; ++column, from += plane.column_stride) {
            sums[column] += share * *reinterpret_cast<const float*>(from);
        }
    }
}

/// How a column's box mean is taken from a row of sums: `inner_count` pixels, as many for (nearly) every column, are
/// added in a loop whose length a branch predictor knows, and two more after them may be weighted 0.
struct ColumnTaps {
    std::int32_t first;  // in floats from the row's start
    float first_share;
    float shares_after[2];
    bool regular;
};

constexpr std::int32_t kPixelsAfter = 2;

EMERT_INLINE ColumnTaps column_taps(const BoxSpan& span, std::int32_t first_column, std::int32_t inner_count) {
    ColumnTaps taps;
    taps.first = 3 * (span.first - first_column);
    taps.first_share = span.first_share;
    const std::int32_t last = span.last - span.first - 1 - inner_count;  // where the last pixel is in shares_after
    taps.shares_after[0] = last == 0 ? span.last_share : last == 1 ? span.inner_share : 0.0f;
    taps.shares_after[1] = last == 1 ? span.last_share : 0.0f;
    taps.regular = inner_count == 0 || last == 0 || last == 1;
    return taps;
}

/// For a column whose box is cut by an edge of the frame.
EMERT_INLINE Pixel cut_column_mean(const float* first, const BoxSpan& span) {
    const float* last = first + 3 * (span.last - span.first);
    Pixel inner = {};
    for (const float* at = first + 3; at < last; at += 3) inner += load_pixel(at);
    return load_pixel(first) * span.first_share + inner * span.inner_share + load_pixel(last) * span.last_share;
}

/// Turns rows of sums into rows of the output's planes.
struct RowWriter {
    const ColumnTaps* taps;
    const BoxSpan* columns;
    std::int32_t inner_count;
    Pixel scale;
    Pixel offset;
    float* planes[3];
    std::int32_t width;

    /// Output pixels of one column; `kCount` rows of sums lie `stride` floats apart.
    template <int kCount>
    EMERT_MEMBER_INLINE void means(const float* sums, std::ptrdiff_t stride, std::int32_t column,
                                   Pixel (&values)[kCount]) const {
        const ColumnTaps& tap = taps[column];
        const float* first = sums + tap.first;
        if (!tap.regular) {
            for (int i = 0; i < kCount; ++i) values[i] = cut_column_mean(first + i * stride, columns[column]);
            return;
        }
        Pixel inner[kCount] = {};
        const float* at = first + 3;
        for (std::int32_t step = 0; step < inner_count; ++step, at += 3) {
            for (int i = 0; i < kCount; ++i) inner[i] += load_pixel(at + i * stride);
        }
        const float inner_share = columns[0].inner_share;
        for (int i = 0; i < kCount; ++i) {
            values[i] = load_pixel(first + i * stride) * tap.first_share + inner[i] * inner_share +
                        load_pixel(at + i * stride) * tap.shares_after[0] +
                        load_pixel(at + 3 + i * stride) * tap.shares_after[1];
        }
    }

    /// Writes `kCount` rows from `row` on, which share what is to be known of a column.
    template <int kCount>
    void write(const float* sums, std::ptrdiff_t stride, std::int32_t row) const {
        const RowWriter self = *this;  // a copy that no store can be taken to change
        std::ptrdiff_t start[kCount];
        for (int i = 0; i < kCount; ++i) start[i] = static_cast<std::ptrdiff_t>(row + i) * self.width;
        std::int32_t column = 0;
        for (; column + 4 <= self.width; column += 4) {
            Pixel pixels[4][kCount];
            self.means<kCount>(sums, stride, column, pixels[0]);
            self.means<kCount>(sums, stride, column + 1, pixels[1]);
            self.means<kCount>(sums, stride, column + 2, pixels[2]);
            self.means<kCount>(sums, stride, column + 3, pixels[3]);
            for (int i = 0; i < kCount; ++i) {
                Pixel four[4] = {pixels[0][i] * self.scale + self.offset, pixels[1][i] * self.scale + self.offset,
                                 pixels[2][i] * self.scale + self.offset, pixels[3][i] * self.scale + self.offset};
                transpose(four);
                for (int channel = 0; channel < 3; ++channel) {
                    store_pixel(self.planes[channel] + start[i] + column, four[channel]);
                }
            }
        }
        for (; column < self.width; ++column) {
            Pixel pixels[kCount];
            self.means<kCount>(sums, stride, column, pixels);
            for (int i = 0; i < kCount; ++i) {
                const Pixel pixel = pixels[i] * self.scale + self.offset;
                for (int channel = 0; channel < 3; ++channel) self.planes[channel][start[i] + column] = pixel[channel];
            }
        }
    }
};

std::size_t sums_length(std::int32_t columns) {
    return (static_cast<std::size_t>(columns) + kPixelsAfter) * 3 + 1;
}

}  // namespace

std::size_t frame_scratch_bytes(std::int32_t width, std::int32_t out_width) {
    return Carver::padded(kWrittenRows * sums_length(width) * sizeof(float)) +
           Carver::padded(static_cast<std::size_t>(out_width) * sizeof(ColumnTaps));
}

std::size_t plane_scratch_bytes(std::int32_t width) {
    return Carver::padded(static_cast<std::size_t>(width) * sizeof(float));
}

void resample_frame(const FrameView& frame, const BoxGrid& grid, const ChannelMap& channels, const PlanesOut& out,
                    void* memory) {
    std::int32_t first_column = frame.width - 1;
    std::int32_t last_column = 0;
    std::int32_t most = 0;
    for (std::int32_t column = 0; column < out.width; ++column) {
        const BoxSpan& span = grid.columns[column];
        if (span.first < first_column) first_column = span.first;
        if (span.last > last_column) last_column = span.last;
        if (span.last - span.first > most) most = span.last - span.first;
    }
    const std::int32_t columns = last_column - first_column + 1;
    const std::int32_t inner_count = most > 2 ? most - 2 : 0;

    Carver carver(memory);
    const std::ptrdiff_t length = static_cast<std::ptrdiff_t>(sums_length(columns));
    float* sums = carver.take<float>(static_cast<std::size_t>(kWrittenRows * length));
    ColumnTaps* taps = carver.take<ColumnTaps>(static_cast<std::size_t>(out.width));
    for (int i = 0; i < kWrittenRows; ++i) {
        std::memset(sums + i * length + 3 * columns, 0, (3 * kPixelsAfter + 1) * sizeof(float));
    }
    for (std::int32_t column = 0; column < out.width; ++column) {
        taps[column] = column_taps(grid.columns[column], first_column, inner_count);
    }
    RowWriter writer{taps, grid.columns, inner_count, {}, {}, {}, out.width};
    for (int channel = 0; channel < 3; ++channel) {
        writer.scale[channel] = channels.scale[channel];
        writer.offset[channel] = channels.offset[channel];
        writer.planes[channel] =
            out.data + channels.plane[channel] * static_cast<std::ptrdiff_t>(out.height) * out.width;
    }
    std::int32_t row = 0;
    for (; row + kWrittenRows <= out.height; row += kWrittenRows) {
        for (int i = 0; i < kWrittenRows; i += kSummedRows) {
            sum_rows<kSummedRows>(frame, first_column, columns, grid.rows + row + i, sums + i * length, length);
        }
        writer.write<kWrittenRows>(sums, length, row);
    }
    for (; row < out.height; ++row) {
        sum_rows<1>(frame, first_column, columns, grid.rows + row, sums, length);
        writer.write<1>(sums, length, row);
    }
}

void resample_plane(const PlaneView& plane, const BoxGrid& grid, const PlanesOut& out, void* memory) {
    if (plane.height == out.height && plane.width == out.width && plane.column_stride == sizeof(float)) {
        for (std::int32_t row = 0; row < out.height; ++row) {
            float* to = out.data + static_cast<std::ptrdiff_t>(row) * out.width;
            std::memcpy(to, float_row(plane, row), static_cast<std::size_t>(out.width) * sizeof(float));
        }
        return;
    }
    float* sums = static_cast<float*>(memory);
    for (std::int32_t row = 0; row < out.height; ++row) {
        if (plane.column_stride == sizeof(float)) {
            sum_float_rows(plane, grid.rows[row], sums);
        } else {
            sum_strided_float_rows(plane, grid.rows[row], sums);
        }
        float* to = out.data + static_cast<std::ptrdiff_t>(row) * out.width;
        for (std::int32_t column = 0; column < out.width; ++column) {
            const BoxSpan& span = grid.columns[column];
            float inner = 0.0f;
            for (std::int32_t source = span.first + 1; source < span.last; ++source) inner += sums[source];
            to[column] =
                sums[span.first] * span.first_share + inner * span.inner_share + sums[span.last] * span.last_share;
        }
    }
}

}  // namespace emert::EMERT_ISA
