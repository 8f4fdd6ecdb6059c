// A fixation map that forgets: each sample's weight halves every half-life, and adding or fading never walks the map.
//
// The map is kept as of a reference time: a sample at t is added with weight w 2^((t - reference) / half_life), in
// whatever order samples come, and reading scales once. Before the exponent grows out of float64's comfort the map is
// scaled down and the reference moved.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "kernels/fixation_map.hpp"

namespace emert {

/// n int64 times in nanoseconds, any stride in bytes.
struct TimeColumn {
    const char* data;
    std::ptrdiff_t stride;
};

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
    double sigma() const { return sigma_; }
    double half_life_s() const { return half_life_ns_ * 1e-9; }

  private:
    void add_chunk(const TimeColumn& times, const Points& points, std::ptrdiff_t first, int count);
    void move_reference(std::int64_t t_ns, double half_lives);

    struct Free {
        void operator()(double* values) const;
    };

    mutable std::mutex mutex_;
    double sigma_;
    double half_life_ns_;
    std::ptrdiff_t size_;
    std::unique_ptr<double, Free> values_;
    TiledSum sum_;
    bool empty_ = true;
    std::int64_t reference_ns_ = 0;
    std::int64_t newest_ns_ = 0;
};

}  // namespace emert
