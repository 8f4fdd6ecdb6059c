// What event detection finds, and the stretches of points that it is made of.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "eye/trace.hpp"

namespace emert {

struct FoundFixation {
    std::int64_t start_ns;
    std::int64_t stop_ns;
    double x, y;
    double dispersion_deg;
};

struct FoundSaccade {
    std::int64_t start_ns;
    std::int64_t stop_ns;
    double amplitude_deg, peak_velocity_deg_s;
    double start_x, start_y, end_x, end_y;
};

struct FoundBlink {
    std::int64_t start_ns;
    std::int64_t stop_ns;
    bool by_openness;
};

struct FoundEvents {
    std::vector<FoundFixation> fixations;
    std::vector<FoundSaccade> saccades;
    std::vector<FoundBlink> blinks;
};

/// Points that follow each other, as far as a fixation needs them.
struct Stretch {
    std::int64_t first_ns = 0;
    std::int64_t last_ns = 0;
    std::int64_t count = 0;
    double sum_x = 0.0, sum_y = 0.0;
    double low_x = 0.0, high_x = 0.0, low_y = 0.0, high_y = 0.0;

    void add(const MovingPoint& point) {
        join({point.t_ns, point.t_ns, 1, point.x, point.y, point.x, point.x, point.y, point.y});
    }

    void join(const Stretch& next) {
        if (next.count == 0) return;
        if (count == 0) {
            *this = next;
            return;
        }
        last_ns = next.last_ns;
        count += next.count;
        sum_x += next.sum_x;
        sum_y += next.sum_y;
        low_x = std::min(low_x, next.low_x);
        high_x = std::max(high_x, next.high_x);
        low_y = std::min(low_y, next.low_y);
        high_y = std::max(high_y, next.high_y);
    }

    double x() const { return sum_x / static_cast<double>(count); }
    double y() const { return sum_y / static_cast<double>(count); }
    std::uint64_t duration_ns() const { return elapsed_ns(first_ns, last_ns); }

    /// Horizontal plus vertical extent.
    double dispersion_deg(const Viewing& viewing) const {
        return viewing.direction_deg(viewing.right_mm(high_x)) - viewing.direction_deg(viewing.right_mm(low_x)) +
               viewing.direction_deg(viewing.below_mm(high_y)) - viewing.direction_deg(viewing.below_mm(low_y));
    }

    FoundFixation fixation(const Viewing& viewing) const {
        return {first_ns, last_ns, x(), y(), dispersion_deg(viewing)};
    }
};

}  // namespace emert
