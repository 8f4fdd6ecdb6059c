#include "eye/event_stream.hpp"

#include <cmath>
#include <utility>

namespace emert {

namespace {

constexpr double kWindowTolerance = 1.05;  // clocks jitter: samples a little outside the velocity's window belong to it

std::uint64_t whole_ns(double ns) {
    return static_cast<std::uint64_t>(std::nearbyint(ns));
}

}  // namespace

EventStream::EventStream(const Viewing& viewing, const EventSettings& settings)
    : viewing_(viewing),
      settings_(settings),
      trace_(settings.gap_ms * 1e6),
      velocity_(viewing, whole_ns(settings.window_ms * 0.5e6 * kWindowTolerance)),
      ivt_(viewing,
           {settings.velocity_deg_s, settings.merge_ms * 1e6, settings.merge_deg, settings.min_fixation_ms * 1e6}),
      idt_(viewing, settings.dispersion_deg, whole_ns(settings.min_fixation_ms * 1e6)) {}

void EventStream::push(const GazeColumns& samples) {
    const bool by_dispersion = settings_.by_dispersion;
    const auto moving = [this, by_dispersion](const MovingPoint& point) {
        if (by_dispersion) {
            idt_.push(point, found_);
        } else {
            ivt_.push(point, found_);
        }
    };
    const auto placed = [this, &moving](const TracePoint& point) { velocity_.push(point, moving); };
    for (std::ptrdiff_t index = 0; index < samples.count; ++index) {
        const std::int64_t t_ns = samples.t_ns[index];
        if (newest_ns_ && t_ns < *newest_ns_) {
            ++late_;
            continue;
        }
        newest_ns_ = t_ns;
        blinks_.push(samples, index, found_);
        trace_.push(t_ns, samples.x[index], samples.y[index], placed);
    }
}

void EventStream::finish() {
    if (settings_.by_dispersion) {
        velocity_.flush([this](const MovingPoint& point) { idt_.push(point, found_); });
        idt_.finish(found_);
    } else {
        velocity_.flush([this](const MovingPoint& point) { ivt_.push(point, found_); });
        ivt_.finish(found_);
    }
    blinks_.finish(found_);
    trace_.reset();
    newest_ns_.reset();
}

FoundEvents EventStream::take() {
    return std::exchange(found_, {});
}

}  // namespace emert
