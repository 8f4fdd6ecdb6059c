// Viewing geometry: fractions of a screen to degrees of visual angle.
#pragma once

#include <cmath>

namespace emert {

constexpr double kDegrees = 180.0 / 3.14159265358979323846;

/// A plane of known size, looked at from a point before its middle.
struct Viewing {
    double width_mm;
    double height_mm;
    double distance_mm;

    double right_mm(double x) const { return (x - 0.5) * width_mm; }
    double below_mm(double y) const { return (y - 0.5) * height_mm; }

    /// Angle of a place from the plane's middle, along one axis.
    double direction_deg(double mm) const { return std::atan2(mm, distance_mm) * kDegrees; }

    /// Angle between two points given as fractions: atan2(|u x v|, u . v) of the two lines of sight.
    double angle_deg(double x, double y, double to_x, double to_y) const {
        const double ax = right_mm(x), ay = below_mm(y), bx = right_mm(to_x), by = below_mm(to_y);
        const double d = distance_mm;
        const double c0 = d * (ay - by), c1 = d * (bx - ax), c2 = ax * by - ay * bx;
        return std::atan2(std::sqrt(c0 * c0 + c1 * c1 + c2 * c2), ax * bx + ay * by + d * d) * kDegrees;
    }
};

}  // namespace emert
