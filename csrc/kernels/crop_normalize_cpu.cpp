#include "kernels/box_resample.hpp"
#include "kernels/crop_normalize.hpp"
#include "kernels/scratch.hpp"
#include "kernels/simd.hpp"

namespace emert::EMERT_ISA {

namespace {

/// Upright: a column of the output is a span of source columns, whatever its row, and likewise for rows.
void crop_upright(const FrameView& frame, const SourceMap& source, const ChannelMap& channels, const PlanesOut& out) {
    const std::size_t columns = static_cast<std::size_t>(out.width);
    const std::size_t rows = static_cast<std::size_t>(out.height);
    const std::size_t work_bytes = frame_scratch_bytes(frame.width, out.width);
    Carver carver(scratch(Carver::padded(columns * sizeof(BoxSpan)) + Carver::padded(rows * sizeof(BoxSpan)) +
                          Carver::padded(work_bytes)));
    BoxSpan* column_spans = carver.take<BoxSpan>(columns);
    BoxSpan* row_spans = carver.take<BoxSpan>(rows);
    for (std::int32_t u = 0; u < out.width; ++u) {
        column_spans[u] = columns_at(source, upright_x(source, u), frame.width);
    }
    for (std::int32_t v = 0; v < out.height; ++v) {
        row_spans[v] = rows_at(source, upright_y(source, v), frame.height);
    }
    resample_frame(frame, {column_spans, row_spans}, channels, out, carver.take<char>(work_bytes));
}

/// The bytes of a row that one box may cover, in vectors.
constexpr int kMostVectors = 64 / kLanes;
constexpr int kMostPixels = kMostVectors * kLanes / 3;

/// A turned box: its pixel counts and what is constant over the output.
struct Box {
    float width;
    float height;
    float share;           // of one pixel: 1 / area
    std::int32_t columns;  // as many as a box of this width can touch
    std::int32_t rows;
    int vectors;                       // that hold a row's bytes
    float tap[kMostVectors * kLanes];  // which of the box's pixels a lane belongs to
};

EMERT_INLINE Floats least(Floats a, Floats b) {
    return a < b ? a : b;
}
EMERT_INLINE Floats most(Floats a, Floats b) {
    return a > b ? a : b;
}

/// How much of the unit intervals [tap, tap + 1) the interval [from, from + side) covers.
EMERT_INLINE Floats covered(Floats tap, float from, float side) {
    return most(least(tap + 1.0f, splat(from + side)) - most(tap, splat(from)), Floats{});
}

/// Weighted sums over the rows of a box that lies, with the bytes that whole vectors read, inside of a packed frame;
/// what remains is to add up its pixels.
EMERT_INLINE void sum_rows(const std::uint8_t* from, std::ptrdiff_t row_stride, const Box& box, float top, float left,
                           float* sums) {
    float shares[kMostVectors * kLanes];
    for (int i = 0; i < box.rows; i += kLanes) {
        store(shares + i, covered(lane_numbers() + static_cast<float>(i), top, box.height) * box.share);
    }
    for (int vector = 0; vector < box.vectors; ++vector) {
        const std::uint8_t* at = from + vector * kLanes;
        Floats sum = {};
        for (std::int32_t i = 0; i < box.rows; ++i, at += row_stride) sum += load_bytes_as_floats(at) * shares[i];
        store(sums + vector * kLanes, sum * covered(load(box.tap + vector * kLanes), left, box.width));
    }
}

/// The mean over any box of any frame.
Pixel cut_mean(const FrameView& frame, const BoxSpan& rows, const BoxSpan& columns) {
    Pixel mean = {};
    for (std::int32_t row = rows.first; row <= rows.last; ++row) {
        const float share = box_share(rows, row);
        for (int channel = 0; channel < 3; ++channel) {
            const std::uint8_t* at = frame.data + row * frame.row_stride + channel * frame.channel_stride;
            mean[channel] += share * row_mean(at, frame.pixel_stride, columns);
        }
    }
    return mean;
}

void crop_turned(const FrameView& frame, const SourceMap& source, const ChannelMap& channels, const PlanesOut& out) {
    // Boxes too large for the vectors' room, and frames whose bytes lie apart, take the general way everywhere.
    const double side = source.side_x > source.side_y ? source.side_x : source.side_y;
    const bool direct = frame.packed() && side <= kMostPixels - 1;
    Box box = {};
    if (direct) {
        box.width = static_cast<float>(source.side_x);
        box.height = static_cast<float>(source.side_y);
        box.share = static_cast<float>(1.0 / (source.side_x * source.side_y));
        box.columns = static_cast<std::int32_t>(ceil(source.side_x)) + 1;
        box.rows = static_cast<std::int32_t>(ceil(source.side_y)) + 1;
        box.vectors = (3 * box.columns + kLanes - 1) / kLanes;
        for (int lane = 0; lane < kMostVectors * kLanes; ++lane) box.tap[lane] = static_cast<float>(lane / 3);
    }
    // Sums of a whole row of the output first, then their pixels: loads across the borders of what was just stored
    // would stall.
    const int box_floats = box.vectors * kLanes;
    const std::size_t sums_length = static_cast<std::size_t>(out.width) * static_cast<std::size_t>(box_floats) + 1;
    const std::size_t mean_count = static_cast<std::size_t>(out.width);
    Carver carver(scratch(Carver::padded(sums_length * sizeof(float)) + Carver::padded(mean_count * sizeof(Pixel)) +
                          Carver::padded(mean_count)));
    float* sums = carver.take<float>(sums_length);
    Pixel* means = carver.take<Pixel>(mean_count);
    bool* inner = carver.take<bool>(mean_count);
    sums[sums_length - 1] = 0.0f;  // the spare lane of the last pixel

    const double right = frame.width - box_floats / 3.0;
    const double bottom = frame.height - box.rows;
    float* to = out.data;
    for (std::int32_t v = 0; v < out.height; ++v, to += out.width) {
        for (std::int32_t u = 0; u < out.width; ++u) {
            const double x = source_x(source, u, v);
            const double y = source_y(source, u, v);
            const double left = x - 0.5 * source.side_x;
            const double top = y - 0.5 * source.side_y;
            inner[u] = direct && left >= 0.0 && top >= 0.0 && left <= right && top <= bottom;
            if (inner[u]) {
                const std::int32_t column = static_cast<std::int32_t>(left);
                const std::int32_t row = static_cast<std::int32_t>(top);
                sum_rows(frame.data + row * frame.row_stride + 3 * static_cast<std::ptrdiff_t>(column),
                         frame.row_stride, box, static_cast<float>(top - row), static_cast<float>(left - column),
                         sums + static_cast<std::ptrdiff_t>(u) * box_floats);
            } else {
                means[u] = cut_mean(frame, rows_at(source, y, frame.height), columns_at(source, x, frame.width));
            }
        }
        for (std::int32_t u = 0; u < out.width; ++u) {
            if (inner[u]) {
                const float* pixels = sums + static_cast<std::ptrdiff_t>(u) * box_floats;
                Pixel mean = load_pixel(pixels);
                for (std::int32_t i = 1; i < box.columns; ++i) mean += load_pixel(pixels + 3 * i);
                means[u] = mean;
            }
            for (int channel = 0; channel < 3; ++channel) {
                const std::ptrdiff_t plane = channels.plane[channel];
                to[plane * out.height * out.width + u] = normalised(channels, channel, means[u][channel]);
            }
        }
    }
}

}  // namespace

void crop_normalize(const FrameView& frame, const SourceMap& source, const ChannelMap& channels, const PlanesOut& out) {
    if (is_upright(source)) {
        crop_upright(frame, source, channels, out);
    } else {
        crop_turned(frame, source, channels, out);
    }
}

}  // namespace emert::EMERT_ISA
