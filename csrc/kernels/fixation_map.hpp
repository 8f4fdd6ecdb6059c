// sum_i w_i exp(-|p - p_i|^2 / 2 sigma^2) at pixel centres, each Gaussian cut at ceil(4 sigma) pixels.
//
// points   x, y float32 or float64 in pixels, weight likewise; a point with a non-finite value is skipped
// out      float32 (height, width), C-contiguous, or a TiledSum
#pragma once

#include "emert/views.hpp"

namespace emert {

/// A float64 map with padded rows and columns, so that every body adds whole tiles.
struct TiledSum {
    double* data;
    std::int32_t height;
    std::int32_t width;
    std::ptrdiff_t row_stride;  ///< in elements, a multiple of kColumnPadding

    static constexpr std::int32_t kRowPadding = 8;
    static constexpr std::int32_t kColumnPadding = 16;
};

/// Writes the map of `points`.
using FixationMapBody = void(const Points& points, double sigma, const PlanesOut& out);

/// Adds scale times the map of `points` to `sum`.
using FixationSumBody = void(const Points& points, double sigma, double scale, const TiledSum& sum);

/// Writes scale times `sum`; what is below float32's smallest normal number is written as 0.
using FixationReadBody = void(const TiledSum& sum, double scale, const PlanesOut& out);

}  // namespace emert
