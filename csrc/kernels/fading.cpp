#include "kernels/fading.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace emert {

namespace {

constexpr double kMostHalfLives = 256.0;  // 2^256 is 1e77: room for any weight that float32 can hold

/// (a - b), which may not fit int64.
double difference_ns(std::int64_t a, std::int64_t b) {
    const auto magnitude = [](std::int64_t high, std::int64_t low) {
        return static_cast<double>(static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low));
    };
    return a >= b ? magnitude(a, b) : -magnitude(b, a);
}

std::int64_t time_at(const TimeColumn& column, std::ptrdiff_t index) {
    std::int64_t value;
    std::memcpy(&value, column.data + index * column.stride, sizeof value);
    return value;
}

}  // namespace

int take_samples(const TimeColumn& times, const Points& points, std::ptrdiff_t first, FadingSample* samples, int most) {
    const std::ptrdiff_t stop = std::min<std::ptrdiff_t>(points.count, first + most);
    int kept = 0;
    for (std::ptrdiff_t i = first; i < stop; ++i) {
        const FadingSample sample{number_at(points.x, i), number_at(points.y, i), number_at(points.weight, i),
                                  time_at(times, i)};
        if (!std::isfinite(sample.x) || !std::isfinite(sample.y) || !std::isfinite(sample.weight)) continue;
        samples[kept++] = sample;
    }
    return kept;
}

FadingStep FadingClock::take(FadingSample* samples, int count) {
    std::int64_t newest = samples[0].t_ns;
    for (int i = 1; i < count; ++i) newest = std::max(newest, samples[i].t_ns);
    for (int i = 0; i < count; ++i) {
        samples[i].weight *= std::exp2(difference_ns(samples[i].t_ns, newest) / half_life_ns_);
    }
    newest_ns_ = empty_ ? newest : std::max(newest_ns_, newest);
    if (empty_) reference_ns_ = newest;
    empty_ = false;
    const double half_lives = difference_ns(newest, reference_ns_) / half_life_ns_;
    if (half_lives <= kMostHalfLives) return {1.0, std::exp2(half_lives)};
    reference_ns_ = newest;
    return {std::exp2(-half_lives), 1.0};
}

bool FadingClock::scale_at(std::int64_t t_ns, double& scale) const {
    if (!empty_ && t_ns < newest_ns_) return false;
    scale = empty_ ? 1.0 : std::exp2(-difference_ns(t_ns, reference_ns_) / half_life_ns_);
    return true;
}

}  // namespace emert
