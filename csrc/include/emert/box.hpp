// The mean over a box of pixels, one axis: the one resampling rule of the fused frames and the face crops.
#pragma once

#include <cmath>
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
EMERT_HD BoxSpan box_span(double centre, double side, std::int32_t size) {
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
    const double share = 1.0 / side;
    const bool single = span.first == span.last;
    span.first_share = single ? 1.0f : static_cast<float>((span.first + 1.0 - begin + before) * share);
    span.inner_share = static_cast<float>(share);
    span.last_share = single ? 0.0f : static_cast<float>((end - span.last + after) * share);
    return span;
}

/// The span of output pixel `index` when `size` source pixels become `out_size`.
EMERT_HD BoxSpan resize_span(std::int32_t index, std::int32_t size, std::int32_t out_size) {
    const double scale = static_cast<double>(size) / out_size;
    return box_span((index + 0.5) * scale, scale > 1.0 ? scale : 1.0, size);
}

}  // namespace emert
