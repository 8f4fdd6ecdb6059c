// A fixation map that forgets: each sample's weight halves every half-life, and adding or fading never walks the map.
// The map is kept as of the reference time of a FadingClock, and reading scales once.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "kernels/fading.hpp"
#include "kernels/fixation_map.hpp"

namespace emert {

class FixationStream {
  public:
    /// `half_life_s` may be infinite: nothing fades. Throws std::bad_alloc.
    FixationStream(std::int32_t height, std::int32_t width, double sigma, double half_life_s);

    /// Adds samples, in any order of time; those with a non-finite value are skipped.
    void add(const TimeColumn& times, const Points& points);

    /// Writes the map as of `t_ns`. Returns false, and writes nothing, where that is before the newest sample.
    bool read(std::int64_t t_ns, float* out) const;

    /// Forgets every sample.
    void reset();

    std::int32_t height() const { return sum_.height; }
    std::int32_t width() const { return sum_.width; }

  private:
    void fade(double factor);

    struct Free {
        void operator()(double* values) const;
    };

    mutable std::mutex mutex_;
    double sigma_;
    FadingClock clock_;
    std::ptrdiff_t size_;
    std::unique_ptr<double, Free> values_;
    TiledSum sum_;
};

}  // namespace emert
