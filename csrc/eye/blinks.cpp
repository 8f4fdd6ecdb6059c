#include "eye/blinks.hpp"

#include <algorithm>

namespace emert {

namespace {

constexpr std::uint64_t kShortestNs = 50'000'000, kLongestNs = 500'000'000;
constexpr std::uint64_t kFlickerNs = 20'000'000;
constexpr double kClosedShare = 0.3;
constexpr std::uint64_t kEveryNs = 50'000'000, kLatelyNs = 10'000'000'000, kKnownNs = 2'000'000'000;

}  // namespace

void UsualOpenness::add(std::int64_t t_ns, double openness) {
    if (!lately_.empty() && elapsed_ns(lately_.back().first, t_ns) < kEveryNs) return;
    while (!lately_.empty() && elapsed_ns(lately_.front().first, t_ns) > kLatelyNs) {
        sorted_.erase(std::lower_bound(sorted_.begin(), sorted_.end(), lately_.front().second));
        lately_.pop_front();
    }
    lately_.emplace_back(t_ns, openness);
    sorted_.insert(std::lower_bound(sorted_.begin(), sorted_.end(), openness), openness);
}

double UsualOpenness::median() const {
    const std::size_t count = sorted_.size();
    return 0.5 * (sorted_[(count - 1) / 2] + sorted_[count / 2]);
}

void Blinks::push(const GazeColumns& samples, std::ptrdiff_t index, FoundEvents& out) {
    const float left = samples.pupil_left[index], right = samples.pupil_right[index];
    pupils_ = pupils_ || std::isfinite(left) || std::isfinite(right);
    const bool valid = std::isfinite(samples.x[index]) && std::isfinite(samples.y[index]);
    const double lids[2] = {samples.openness_left[index], samples.openness_right[index]};
    double openness = 0.0;
    int eyes = 0;
    for (const double lid : lids) {
        if (!std::isfinite(lid)) continue;
        openness += lid;
        ++eyes;
    }
    const Lids seen{samples.t_ns[index], pupils_ && !valid && !is_pupil(left) && !is_pupil(right),
                    eyes > 0 ? openness / eyes : std::nan("")};
    if (measured_ && !known_ && elapsed_ns(first_measured_ns_, seen.t_ns) >= kKnownNs) {
        known_ = true;
        for (const Lids& earlier : waiting_) judge(earlier, out);
        waiting_.clear();
    }
    if (eyes > 0) {
        if (!measured_) first_measured_ns_ = seen.t_ns;
        measured_ = true;
        usual_.add(seen.t_ns, seen.openness);
    }
    if (measured_ && !known_) {
        waiting_.push_back(seen);
    } else {
        judge(seen, out);
    }
}

void Blinks::finish(FoundEvents& out) {
    for (const Lids& earlier : waiting_) judge(earlier, out);
    settle(out);  // a closure at the very end may be a lost tracker
    *this = Blinks();
}

void Blinks::judge(const Lids& lids, FoundEvents& out) {
    const bool lowered = measured_ && lids.openness < kClosedShare * usual_.median();
    if (lids.lost || lowered) {
        if (!opened_) return;  // closed from the beginning
        if (!closed_) run_ = {last_open_ns_, lids.t_ns, lids.t_ns, 0, false};
        closed_ = true;
        run_.last_ns = lids.t_ns;
        run_.lowered = run_.lowered || lowered;
        return;
    }
    if (closed_) {
        run_.after_ns = lids.t_ns;
        take(run_, out);
    } else if (pending_ && elapsed_ns(candidate_.last_ns, lids.t_ns) > kFlickerNs) {
        settle(out);
    }
    closed_ = false;
    opened_ = true;
    last_open_ns_ = lids.t_ns;
}

/// Join a closure to the one before it, or let that one be and wait for what follows this one.
void Blinks::take(const Closure& closure, FoundEvents& out) {
    if (pending_ && elapsed_ns(candidate_.last_ns, closure.first_ns) <= kFlickerNs) {
        candidate_.last_ns = closure.last_ns;
        candidate_.after_ns = closure.after_ns;
        candidate_.lowered = candidate_.lowered || closure.lowered;
        return;
    }
    settle(out);
    pending_ = true;
    candidate_ = closure;
}

void Blinks::settle(FoundEvents& out) {
    // From the last open sample before to the first one after: at low rates the closed samples alone fall short.
    const std::uint64_t elapsed = elapsed_ns(candidate_.before_ns, candidate_.after_ns);
    if (pending_ && elapsed >= kShortestNs && elapsed <= kLongestNs) {
        out.blinks.push_back({candidate_.first_ns, candidate_.last_ns, candidate_.lowered});
    }
    pending_ = false;
}

}  // namespace emert
