#include "eye/trace.hpp"

#include <algorithm>

namespace emert {

namespace {

constexpr double kHoleSteps = 4.0;    // a hole is a step so many times the usual one,
constexpr double kLongestStep = 1e9;  // or longer than any tracker's

}  // namespace

bool Trace::is_hole(std::uint64_t elapsed) {
    if (elapsed == 0) return false;
    steps_[seen_ % kSteps] = elapsed;
    ++seen_;
    if (static_cast<double>(elapsed) <= gap_ns_) return false;
    const auto held = static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(seen_, kSteps));
    std::array<std::uint64_t, kSteps> sorted = steps_;
    const auto middle = sorted.begin() + (held - 1) / 2;
    std::nth_element(sorted.begin(), middle, sorted.begin() + held);
    const double usual = static_cast<double>(*middle);
    return static_cast<double>(elapsed) > std::max(gap_ns_, std::min(kHoleSteps * usual, kLongestStep));
}

}  // namespace emert
