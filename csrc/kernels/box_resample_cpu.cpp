#include <cstring>

#include "kernels/box_resample.hpp"
#include "kernels/scratch.hpp"
#include "kernels/simd.hpp"

// Rows first: the source rows under an output row become one row of float32 sums, a walk over contiguous bytes in which
// the rows that lie wholly inside the box are added as 16-bit integers. Then columns, a pixel (three channels and a
// spare lane) at a time.

namespace emert::EMERT_ISA {

namespace {

constexpr int kBlockColumns = 4 * kLanes;
constexpr int kShortRows = 256;  // 256 rows of 255 still fit 16 bits

EMERT_INLINE float row_sum(const std::uint8_t* rows, std::ptrdiff_t stride, const BoxSpan& span) {
    float sum = span.first_share * static_cast<float>(rows[span.first * stride]);
    std::int64_t inner = 0;
    for (std::int32_t row = span.first + 1; row < span.last; ++row) inner += rows[row * stride];
    sum += span.inner_share * static_cast<float>(inner);
    return sum + span.last_share * static_cast<float>(rows[span.last * stride]);
}

/// kBlockColumns bytes of every row of the span, as floats.
EMERT_INLINE void sum_block(const std::uint8_t* rows, std::ptrdiff_t stride, const BoxSpan& span, float* sums) {
    Floats sum[4];
    const std::uint8_t* first = rows + span.first * stride;
    const std::uint8_t* last = rows + span.last * stride;
    for (int part = 0; part < 4; ++part) {
        sum[part] = load_bytes_as_floats(first + part * kLanes) * span.first_share;
        sum[part] += load_bytes_as_floats(last + part * kLanes) * span.last_share;
    }
    for (std::int32_t begin = span.first + 1; begin < span.last; begin += kShortRows) {
        const std::int32_t end = begin + kShortRows < span.last ? begin + kShortRows : span.last;
        Shorts inner[2] = {};
        for (std::int32_t row = begin; row < end; ++row) {
            inner[0] += load_bytes_as_shorts(rows + row * stride);
            inner[1] += load_bytes_as_shorts(rows + row * stride + 2 * kLanes);
        }
        for (int half = 0; half < 2; ++half) {
            Floats low;
            Floats high;
            shorts_to_floats(inner[half], low, high);
            sum[2 * half] += low * span.inner_share;
            sum[2 * half + 1] += high * span.inner_share;
        }
    }
    for (int part = 0; part < 4; ++part) store(sums + part * kLanes, sum[part]);
}

void sum_packed_rows(const FrameView& frame, std::int32_t first_column, std::int32_t columns, const BoxSpan& span,
                     float* sums) {
    const std::uint8_t* rows = frame.data + static_cast<std::ptrdiff_t>(first_column) * 3;
    const std::int32_t bytes = columns * 3;
    std::int32_t at = 0;
    for (; at + kBlockColumns <= bytes; at += kBlockColumns) sum_block(rows + at, frame.row_stride, span, sums + at);
    if (at < bytes && bytes >= kBlockColumns) {
        at = bytes - kBlockColumns;
        sum_block(rows + at, frame.row_stride, span, sums + at);
        at = bytes;
    }
    for (; at < bytes; ++at) sums[at] = row_sum(rows + at, frame.row_stride, span);
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

    /// Writes `kCount` rows from `row` on: two at a time share what is to be known of a column.
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
    return 2 * Carver::padded(sums_length(width) * sizeof(float)) +
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
    const std::size_t length = sums_length(columns);
    float* sums[2] = {carver.take<float>(length), carver.take<float>(length)};
    ColumnTaps* taps = carver.take<ColumnTaps>(static_cast<std::size_t>(out.width));
    for (float* row : sums) {
        std::memset(row + 3 * static_cast<std::ptrdiff_t>(columns), 0, (3 * kPixelsAfter + 1) * sizeof(float));
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
    for (std::int32_t row = 0; row < out.height; row += 2) {
        const std::int32_t count = row + 2 <= out.height ? 2 : 1;
        for (std::int32_t i = 0; i < count; ++i) {
            if (frame.packed()) {
                sum_packed_rows(frame, first_column, columns, grid.rows[row + i], sums[i]);
            } else {
                sum_strided_rows(frame, first_column, columns, grid.rows[row + i], sums[i]);
            }
        }
        if (count == 2) {
            writer.write<2>(sums[0], sums[1] - sums[0], row);
        } else {
            writer.write<1>(sums[0], 0, row);
        }
    }
}

void resample_plane(const PlaneView& plane, const BoxGrid& grid, const PlanesOut& out, void* memory) {
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
