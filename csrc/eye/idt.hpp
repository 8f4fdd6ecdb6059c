// The dispersion-threshold identification of fixations (I-DT): see emert_edge/eye/definitions.py.
#pragma once

#include <vector>

#include "eye/found_events.hpp"

namespace emert {

class Idt {
  public:
    Idt(const Viewing& viewing, double dispersion_deg, std::uint64_t min_fixation_ns)
        : viewing_(viewing), dispersion_deg_(dispersion_deg), min_fixation_ns_(min_fixation_ns) {}

    void push(const MovingPoint& point, FoundEvents& out);
    void finish(FoundEvents& out);

  private:
    /// A point and its angles from the screen's middle.
    struct Seen {
        MovingPoint point;
        double right;
        double below;
    };

    struct Extent {
        double low_right, high_right, low_below, high_below;

        Extent with(const Seen& seen) const {
            return {std::min(low_right, seen.right), std::max(high_right, seen.right), std::min(low_below, seen.below),
                    std::max(high_below, seen.below)};
        }
        double sum() const { return (high_right - low_right) + (high_below - low_below); }
    };

    /// What lies between the last fixation of this segment and the next one.
    struct Between {
        bool after_fixation = false;
        MovingPoint origin{};
        std::int64_t first_ns = 0, last_ns = 0;
        std::int64_t count = 0;
        double peak = 0.0;
    };

    bool grow(FoundEvents& out);
    bool look(FoundEvents& out);
    void pass_over(const MovingPoint& point);
    void close_fixation(FoundEvents& out);

    Viewing viewing_;
    double dispersion_deg_;
    std::uint64_t min_fixation_ns_;
    std::vector<Seen> held_;  // of this segment; those before `head_` are done with
    std::size_t head_ = 0;
    std::size_t reach_ = 0;
    bool growing_ = false;
    Extent extent_{};
    Stretch fixation_;
    MovingPoint fixation_end_{};
    Between between_;
};

}  // namespace emert
