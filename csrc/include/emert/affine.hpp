// Output pixel to source point, for crops.
#pragma once

#include <cmath>

#include "emert/box.hpp"
#include "emert/host_device.hpp"

namespace emert {

/// Output index (u, v) to a source point with pixel edges at integers: x = m[0] u + m[1] v + m[2], y with m[3..5].
struct SourceMap {
    double m[6];
    double side_x;  ///< width of the averaged box, at least 1
    double side_y;
    double share_x;  ///< 1 / side_x
    double share_y;
};

/// Inverts `affine` (row-major 2x3, source to output, pixel centres at integers); false where it has no finite inverse.
EMERT_HD bool invert_affine(const double affine[6], SourceMap& map) {
    const double a = affine[0], b = affine[1], c = affine[3], d = affine[4];
    const double determinant = a * d - b * c;
    map.m[0] = d / determinant;
    map.m[1] = -b / determinant;
    map.m[3] = -c / determinant;
    map.m[4] = a / determinant;
    // + 0.5: from OpenCV's index coordinates to edges at integers.
    map.m[2] = -(map.m[0] * affine[2] + map.m[1] * affine[5]) + 0.5;
    map.m[5] = -(map.m[3] * affine[2] + map.m[4] * affine[5]) + 0.5;
    map.side_x = fmax(1.0, hypot(map.m[0], map.m[1]));
    map.side_y = fmax(1.0, hypot(map.m[3], map.m[4]));
    map.share_x = 1.0 / map.side_x;
    map.share_y = 1.0 / map.side_y;
    bool finite = true;
    for (double value : map.m) finite = finite && fabs(value) < 1e100;
    return finite;
}

/// A column of the output is a span of source columns, whatever its row, and likewise for rows.
EMERT_HD bool is_upright(const SourceMap& map) {
    return map.m[1] == 0.0 && map.m[3] == 0.0;
}

EMERT_HD double upright_x(const SourceMap& map, std::int32_t u) {
    return map.m[0] * u + map.m[2];
}

EMERT_HD double upright_y(const SourceMap& map, std::int32_t v) {
    return map.m[4] * v + map.m[5];
}

EMERT_HD double source_x(const SourceMap& map, std::int32_t u, std::int32_t v) {
    return map.m[0] * u + map.m[1] * v + map.m[2];
}

EMERT_HD double source_y(const SourceMap& map, std::int32_t u, std::int32_t v) {
    return map.m[3] * u + map.m[4] * v + map.m[5];
}

/// The columns of a box centred on x, and the rows of one centred on y.
EMERT_HD BoxSpan columns_at(const SourceMap& map, double x, std::int32_t width) {
    return box_span(x, map.side_x, map.share_x, width);
}

EMERT_HD BoxSpan rows_at(const SourceMap& map, double y, std::int32_t height) {
    return box_span(y, map.side_y, map.share_y, height);
}

}  // namespace emert
