// The time of a map whose samples fade, which the CPU's and the GPU's stream share.
//
// A sample at t is added with weight w 2^((t - reference) / half_life), in whatever order samples come. Before the
// exponent grows out of float64's comfort the map is scaled down and the reference moved.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emert/views.hpp"

namespace emert {

/// n int64 times in nanoseconds, any stride in bytes.
struct TimeColumn {
    const char* data;
    std::ptrdiff_t stride;
};

struct FadingSample {
    double x;
    double y;
    double weight;
    std::int64_t t_ns;
};

constexpr int kFadingChunk = 512;

/// Copies points from `first` on, at most `most` of them, to `samples`; those with a non-finite value are left out.
/// Returns how many it wrote.
int take_samples(const TimeColumn& times, const Points& points, std::ptrdiff_t first, FadingSample* samples, int most);

/// What is to happen to a map: multiply it by `fade`, then add `scale` times the samples' map.
struct FadingStep {
    double fade;
    double scale;
};

class FadingClock {
  public:
    /// `half_life_s` may be infinite: nothing fades.
    explicit FadingClock(double half_life_s) : half_life_ns_(half_life_s * 1e9) {}

    /// Takes one sample or more, whose weights become those at the newest one's time.
    FadingStep take(FadingSample* samples, int count);

    /// What the map is to be multiplied by when it is read at a time; false where that is before the newest sample.
    bool scale_at(std::int64_t t_ns, double& scale) const;

    void reset() { empty_ = true; }

  private:
    double half_life_ns_;
    bool empty_ = true;
    std::int64_t reference_ns_ = 0;
    std::int64_t newest_ns_ = 0;
};

}  // namespace emert
