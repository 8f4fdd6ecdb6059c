// The mean over a box of pixels, one axis: the one resampling rule of the fused frames and the face crops.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "emert/host_device.hpp"

namespace emert {

/// Pixels first..last of an axis with their shares of a box. Shares sum to 1; those between first and last are equal.
struct BoxSpan {
    std::int32_t first;
    std::int32_t last;
    float first_share;
    float inner_share;
    float last_share;
};

/// The box [centre - side / 2, centre + side / 2] over pixels that are the unit squares [i, i + 1), i < size.
///
/// What reaches beyond an edge falls to the pixel at that edge. A box of side 1 is linear interpolation between pixel
/// centres; boxes of side s at the centres of s-sized cells are the area average.
///
/// `share` is 1 / side: who asks for many boxes of one side divides once.
EMERT_HD BoxSpan box_span(double centre, double side, double share, std::int32_t size) {
    const double edge = size;
    const double low = centre - 0.5 * side;
    const double high = centre + 0.5 * side;
    const double begin = low > 0.0 ? (low < edge ? low : edge) : 0.0;
    const double end = high > 0.0 ? (high < edge ? high : edge) : 0.0;
    const double before = low < 0.0 ? (high < 0.0 ? side : -low) : 0.0;
    const double after = high > edge ? (low > edge ? side : high - edge) : 0.0;
    BoxSpan span;
    span.first = static_cast<std::int32_t>(begin < edge - 1.0 ? begin : edge - 1.0);
    const std::int32_t last = static_cast<std::int32_t>(ceil(end)) - 1;
    span.last = last > span.first ? last : span.first;
    const bool single = span.first == span.last;
    span.first_share = single ? 1.0f : static_cast<float>((span.first + 1.0 - begin + before) * share);
    span.inner_share = static_cast<float>(share);
    span.last_share = single ? 0.0f : static_cast<float>((end - span.last + after) * share);
    return span;
}

/// The share of pixel `index`, which the span holds.
EMERT_HD float box_share(const BoxSpan& span, std::int32_t index) {
    return index == span.first ? span.first_share : index == span.last ? span.last_share : span.inner_share;
}

/// `size` source pixels of an axis that become another number of them.
struct Resize {
    double scale;
    double side;
    double share;
    std::int32_t size;
};

EMERT_HD Resize resize_axis(std::int32_t size, std::int32_t out_size) {
    const double scale = static_cast<double>(size) / out_size;
    const double side = scale > 1.0 ? scale : 1.0;
    return {scale, side, 1.0 / side, size};
}

/// The span of output pixel `index`.
EMERT_HD BoxSpan resize_span(std::int32_t index, const Resize& axis) {
    return box_span((index + 0.5) * axis.scale, axis.side, axis.share, axis.size);
}

/// The mean over a span of one row's bytes, `stride` apart; `row` is its first pixel.
EMERT_HD float row_mean(const std::uint8_t* row, std::ptrdiff_t stride, const BoxSpan& span) {
    std::int64_t inner = 0;
    for (std::int32_t i = span.first + 1; i < span.last; ++i) inner += row[i * stride];
    return span.first_share * static_cast<float>(row[span.first * stride]) +
           span.inner_share * static_cast<float>(inner) + span.last_share * static_cast<float>(row[span.last * stride]);
}

}  // namespace emert
