// Output pixel to source point, for crops.
#pragma once

#include <cmath>

#include "emert/host_device.hpp"

namespace emert {

/// Output index (u, v) to a source point with pixel edges at integers: x = m[0] u + m[1] v + m[2], y with m[3..5].
struct SourceMap {
    double m[6];
    double side_x;  ///< width of the averaged box, at least 1
    double side_y;
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
    bool finite = true;
    for (double value : map.m) finite = finite && fabs(value) < 1e100;
    return finite;
}

}  // namespace emert
