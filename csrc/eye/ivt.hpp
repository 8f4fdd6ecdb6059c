// The velocity-threshold identification of fixations (I-VT): see emert_edge/eye/definitions.py.
#pragma once

#include <vector>

#include "eye/found_events.hpp"

namespace emert {

class Ivt {
  public:
    struct Settings {
        double velocity_deg_s;
        double merge_ns;
        double merge_deg;
        double min_fixation_ns;
    };

    Ivt(const Viewing& viewing, const Settings& settings) : viewing_(viewing), settings_(settings) {}

    void push(const MovingPoint& point, FoundEvents& out);
    void finish(FoundEvents& out);

  private:
    enum class Kind { none, rest, jump, unknown };

    /// A fixation that later ones may still merge with.
    struct Candidate {
        Stretch stretch;
        std::vector<FoundSaccade> within;  // jumps between its parts, as long as it may be discarded
    };

    void close_run(FoundEvents& out);
    void settle(FoundEvents& out);
    bool soon(std::int64_t t_ns) const {
        return static_cast<double>(elapsed_ns(candidate_.stretch.last_ns, t_ns)) < settings_.merge_ns;
    }
    bool long_enough() const {
        return static_cast<double>(candidate_.stretch.duration_ns()) >= settings_.min_fixation_ns;
    }

    Viewing viewing_;
    Settings settings_;
    Kind kind_ = Kind::none;  // of the run that is under way
    Stretch run_;
    double start_x_ = 0.0, start_y_ = 0.0, end_x_ = 0.0, end_y_ = 0.0;
    double peak_ = 0.0;
    bool pending_ = false;
    Candidate candidate_;
    Stretch between_;                  // what has come since the candidate,
    std::vector<FoundSaccade> after_;  // and the jumps among it
};

}  // namespace emert
