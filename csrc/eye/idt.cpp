#include "eye/idt.hpp"

#include <cmath>

namespace emert {

namespace {

constexpr std::size_t kForget = 4096;

}  // namespace

void Idt::push(const MovingPoint& point, FoundEvents& out) {
    if (point.opens) finish(out);
    held_.push_back({point, viewing_.direction_deg(viewing_.right_mm(point.x)),
                     viewing_.direction_deg(viewing_.below_mm(point.y))});
    while (head_ < held_.size() && (growing_ ? grow(out) : look(out))) {
    }
    if (head_ >= kForget) {
        held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(head_));
        reach_ = reach_ > head_ ? reach_ - head_ : 0;
        head_ = 0;
    }
}

void Idt::finish(FoundEvents& out) {
    if (growing_) close_fixation(out);
    held_.clear();
    head_ = reach_ = 0;
    between_ = {};
}

/// Take one more point into the fixation, or end it before that point.
bool Idt::grow(FoundEvents& out) {
    const Seen& next = held_[head_];
    const Extent extent = extent_.with(next);
    if (extent.sum() > dispersion_deg_) {
        close_fixation(out);
        return true;
    }
    extent_ = extent;
    fixation_.add(next.point);
    fixation_end_ = next.point;
    ++head_;
    return true;
}

/// Begin a fixation at the head if the shortest window from there allows it, or pass over points that cannot begin one.
bool Idt::look(FoundEvents& out) {
    reach_ = std::max(reach_, head_ + 1);
    while (reach_ < held_.size() && elapsed_ns(held_[head_].point.t_ns, held_[reach_].point.t_ns) < min_fixation_ns_) {
        ++reach_;
    }
    if (reach_ >= held_.size()) return false;
    // Backwards: what spreads too far from some point on does so in every window that holds it.
    const Seen& last = held_[reach_];
    Extent extent{last.right, last.right, last.below, last.below};
    for (std::size_t at = reach_; at-- > head_;) {
        extent = extent.with(held_[at]);
        if (extent.sum() > dispersion_deg_) {
            for (; head_ <= at; ++head_) pass_over(held_[head_].point);
            return true;
        }
    }
    const MovingPoint& first = held_[head_].point;
    if (between_.after_fixation && between_.count > 0) {
        const MovingPoint& from = between_.origin;
        out.saccades.push_back({between_.first_ns, between_.last_ns,
                                viewing_.angle_deg(from.x, from.y, first.x, first.y), between_.peak, from.x, from.y,
                                first.x, first.y});
    }
    growing_ = true;
    extent_ = extent;
    fixation_ = {};
    for (; head_ <= reach_; ++head_) fixation_.add(held_[head_].point);
    fixation_end_ = last.point;
    return true;
}

void Idt::pass_over(const MovingPoint& point) {
    if (between_.count++ == 0) {
        between_.first_ns = point.t_ns;
        between_.peak = point.velocity;
    }
    between_.last_ns = point.t_ns;
    between_.peak = std::fmax(between_.peak, point.velocity);
}

void Idt::close_fixation(FoundEvents& out) {
    out.fixations.push_back(fixation_.fixation(viewing_));
    growing_ = false;
    between_ = {};
    between_.after_fixation = true;
    between_.origin = fixation_end_;
}

}  // namespace emert
