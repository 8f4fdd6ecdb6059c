// Events of a stream of gaze, in pieces of any size: what is found does not depend on how the stream was cut.
#pragma once

#include <optional>

#include "eye/blinks.hpp"
#include "eye/idt.hpp"
#include "eye/ivt.hpp"
#include "eye/trace.hpp"

namespace emert {

struct EventSettings {
    bool by_dispersion;  // I-DT, otherwise I-VT
    double velocity_deg_s;
    double window_ms;
    double gap_ms;
    double merge_ms;
    double merge_deg;
    double min_fixation_ms;
    double dispersion_deg;
};

class EventStream {
  public:
    EventStream(const Viewing& viewing, const EventSettings& settings);

    /// Samples by rising time; those before the newest one of earlier pieces are counted and left out.
    void push(const GazeColumns& samples);

    /// The stream is over: what waited is decided. Another may follow.
    void finish();

    /// What has been decided since this was last asked.
    FoundEvents take();

    std::int64_t late() const { return late_; }

  private:
    Viewing viewing_;
    EventSettings settings_;
    Trace trace_;
    Velocity velocity_;
    Ivt ivt_;
    Idt idt_;
    Blinks blinks_;
    FoundEvents found_;
    std::optional<std::int64_t> newest_ns_;
    std::int64_t late_ = 0;
};

}  // namespace emert
