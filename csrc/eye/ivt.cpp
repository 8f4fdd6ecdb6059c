#include "eye/ivt.hpp"

namespace emert {

void Ivt::push(const MovingPoint& point, FoundEvents& out) {
    const Kind kind = point.velocity > settings_.velocity_deg_s    ? Kind::jump
                      : point.velocity <= settings_.velocity_deg_s ? Kind::rest
                                                                   : Kind::unknown;
    if (kind != kind_ || point.opens) {
        close_run(out);
        kind_ = kind;
        start_x_ = point.x;
        start_y_ = point.y;
        peak_ = point.velocity;
    }
    run_.add(point);
    end_x_ = point.x;
    end_y_ = point.y;
    if (point.velocity > peak_) peak_ = point.velocity;
    if (pending_ && !soon(point.t_ns) && !(kind_ == Kind::rest && soon(run_.first_ns))) settle(out);
}

void Ivt::finish(FoundEvents& out) {
    close_run(out);
    settle(out);
    kind_ = Kind::none;
}

void Ivt::close_run(FoundEvents& out) {
    const Stretch run = run_;
    run_ = {};
    if (kind_ == Kind::rest) {
        Stretch& known = candidate_.stretch;
        if (pending_ && soon(run.first_ns) &&
            viewing_.angle_deg(known.x(), known.y(), run.x(), run.y()) < settings_.merge_deg) {
            known.join(between_);
            known.join(run);
            candidate_.within.insert(candidate_.within.end(), after_.begin(), after_.end());
            after_.clear();
        } else {
            settle(out);
            pending_ = true;
            known = run;
        }
        between_ = {};
        if (long_enough()) candidate_.within.clear();
        return;
    }
    if (kind_ == Kind::jump) {
        const FoundSaccade saccade{run.first_ns, run.last_ns, viewing_.angle_deg(start_x_, start_y_, end_x_, end_y_),
                                   peak_,        start_x_,    start_y_,
                                   end_x_,       end_y_};
        (pending_ ? after_ : out.saccades).push_back(saccade);
    }
    if (pending_) between_.join(run);
}

/// Nothing can merge with the candidate any more.
void Ivt::settle(FoundEvents& out) {
    if (pending_) {
        if (long_enough()) {
            out.fixations.push_back(candidate_.stretch.fixation(viewing_));
        } else {
            out.saccades.insert(out.saccades.end(), candidate_.within.begin(), candidate_.within.end());
        }
        out.saccades.insert(out.saccades.end(), after_.begin(), after_.end());
    }
    pending_ = false;
    candidate_.within.clear();
    after_.clear();
    between_ = {};
}

}  // namespace emert
