// Gaze prepared for event detection, sample by sample: short gaps filled, long ones marked, velocity at each point.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "eye/gaze_columns.hpp"
#include "eye/viewing.hpp"

namespace emert {

/// A point of gaze; `opens` where an unbroken stretch (a segment) begins.
struct TracePoint {
    std::int64_t t_ns;
    double x;
    double y;
    bool opens;
};

/// ... with its angular velocity in degrees a second, NaN where no time passes around it.
struct MovingPoint {
    std::int64_t t_ns;
    double x;
    double y;
    double velocity;
    bool opens;
};

/// Turns samples by rising time into points. A gap waits until the next point tells whether it is filled.
class Trace {
  public:
    explicit Trace(double gap_ns) : gap_ns_(gap_ns) {}

    void reset() { *this = Trace(gap_ns_); }

    template <typename Sink>
    void push(std::int64_t t_ns, double x, double y, Sink&& sink) {
        if (!std::isfinite(x) || !std::isfinite(y)) {
            if (!begun_) return;
            skipped_ = true;
            if (static_cast<double>(elapsed_ns(last_.t_ns, t_ns)) <= gap_ns_) waiting_.push_back(t_ns);
            return;
        }
        bool opens = true;
        if (begun_) {
            const std::uint64_t elapsed = elapsed_ns(last_.t_ns, t_ns);
            if (skipped_) {
                opens = static_cast<double>(elapsed) > gap_ns_;
                if (!opens) fill(t_ns, x, y, elapsed, sink);
            } else {
                opens = is_hole(elapsed);
            }
        }
        waiting_.clear();
        skipped_ = false;
        begun_ = true;
        last_ = {t_ns, x, y, opens};
        sink(last_);
    }

  private:
    static constexpr int kSteps = 31;

    template <typename Sink>
    void fill(std::int64_t t_ns, double x, double y, std::uint64_t elapsed, Sink&& sink) const {
        for (const std::int64_t t : waiting_) {
            const double share =
                elapsed > 0 ? static_cast<double>(elapsed_ns(last_.t_ns, t)) / static_cast<double>(elapsed) : 1.0;
            sink(TracePoint{t, last_.x + share * (x - last_.x), last_.y + share * (y - last_.y), false});
        }
        (void)t_ns;
    }

    /// Whether samples are missing between two that follow each other.
    bool is_hole(std::uint64_t elapsed);

    double gap_ns_;
    bool begun_ = false;
    bool skipped_ = false;
    TracePoint last_{};
    std::vector<std::int64_t> waiting_;
    std::array<std::uint64_t, kSteps> steps_{};  // the latest ones, a ring
    std::uint64_t seen_ = 0;
};

/// The angle between the first and the last point within half a window before and after (direct neighbours at least),
/// over the time between them, within the point's own segment. A point waits until its window has passed.
class Velocity {
  public:
    Velocity(const Viewing& viewing, std::uint64_t half_ns) : viewing_(viewing), half_ns_(half_ns) {}

    void reset() {
        points_.clear();
        begin_ = end_ = next_ = 0;
    }

    template <typename Sink>
    void push(const TracePoint& point, Sink&& sink) {
        if (point.opens) flush(sink);
        points_.push_back(point);
        while (next_ + 1 < points_.size() && elapsed_ns(points_[next_].t_ns, point.t_ns) > half_ns_) give(sink);
    }

    /// The segment is over.
    template <typename Sink>
    void flush(Sink&& sink) {
        while (next_ < points_.size()) give(sink);
        reset();
    }

  private:
    template <typename Sink>
    void give(Sink&& sink) {
        const std::size_t at = next_++;
        const TracePoint& point = points_[at];
        const std::size_t last = points_.size() - 1;
        while (elapsed_ns(points_[begin_].t_ns, point.t_ns) > half_ns_) ++begin_;
        if (end_ < at) end_ = at;
        while (end_ < last && elapsed_ns(point.t_ns, points_[end_ + 1].t_ns) <= half_ns_) ++end_;
        const TracePoint& from = points_[begin_ < at || at == 0 ? begin_ : at - 1];
        const TracePoint& to = points_[end_ > at || at == last ? end_ : at + 1];
        const std::uint64_t elapsed = elapsed_ns(from.t_ns, to.t_ns);
        const double velocity =
            elapsed > 0 ? viewing_.angle_deg(from.x, from.y, to.x, to.y) / (static_cast<double>(elapsed) / 1e9)
                        : std::nan("");
        sink(MovingPoint{point.t_ns, point.x, point.y, velocity, point.opens});
        const std::size_t needed = begin_ < at ? begin_ : at;  // by the next point
        if (needed >= kForget) {
            points_.erase(points_.begin(), points_.begin() + static_cast<std::ptrdiff_t>(needed));
            begin_ -= needed;
            end_ -= needed;
            next_ -= needed;
        }
    }

    static constexpr std::size_t kForget = 4096;

    Viewing viewing_;
    std::uint64_t half_ns_;
    std::vector<TracePoint> points_;  // of this segment: from `begin_` on they are needed
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    std::size_t next_ = 0;
};

}  // namespace emert
