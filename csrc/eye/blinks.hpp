// Blinks, from pupils that are lost and from eyelids that close: see emert_edge/eye/definitions.py.
#pragma once

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "eye/found_events.hpp"

namespace emert {

/// The median openness of the last seconds, from one value every so often: how far the eyes are open usually.
class UsualOpenness {
  public:
    void add(std::int64_t t_ns, double openness);
    double median() const;

  private:
    std::deque<std::pair<std::int64_t, double>> lately_;
    std::vector<double> sorted_;  // the same values
};

class Blinks {
  public:
    void push(const GazeColumns& samples, std::ptrdiff_t index, FoundEvents& out);
    void finish(FoundEvents& out);

  private:
    struct Lids {
        std::int64_t t_ns;
        bool lost;
        double openness;  // NaN: not known
    };

    /// Closed samples that follow each other, and the open ones on both sides.
    struct Closure {
        std::int64_t before_ns;
        std::int64_t first_ns;
        std::int64_t last_ns;
        std::int64_t after_ns;
        bool lowered;
    };

    void judge(const Lids& lids, FoundEvents& out);
    void take(const Closure& closure, FoundEvents& out);
    void settle(FoundEvents& out);

    UsualOpenness usual_;
    bool measured_ = false;  // whether there is openness at all
    std::int64_t first_measured_ns_ = 0;
    bool known_ = false;  // whether enough of it was seen to judge
    std::deque<Lids> waiting_;
    bool pupils_ = false;

    bool opened_ = false;  // whether an open sample was seen
    std::int64_t last_open_ns_ = 0;
    bool closed_ = false;
    Closure run_{};
    bool pending_ = false;
    Closure candidate_{};  // a later closure may follow within a flicker
};

}  // namespace emert
