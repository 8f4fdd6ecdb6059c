#include "eye/token_features.hpp"

#include <algorithm>
#include <cmath>

namespace emert {

namespace {

constexpr double kHeight = 9.0 / 16.0;  // a height, in widths
constexpr std::int64_t kHalfWindowNs = 10'000'000;
constexpr std::int64_t kGapNs = 75'000'000;
constexpr double kSaccadeVelocity = 0.65;  // widths a second
constexpr double kLimit = 1e6;             // no column can mean anything beyond it

enum Feature {
    gaze_x_mean,
    gaze_y_mean,
    gaze_x_std,
    gaze_y_std,
    gaze_x_range,
    gaze_y_range,
    gaze_dispersion,
    gaze_path_length,
    velocity_mean,
    velocity_std,
    velocity_max,
    fixation_share,
    fixation_count,
    fixation_duration_mean,
    fixation_dispersion,
    saccade_share,
    saccade_count,
    saccade_duration_mean,
    saccade_amplitude_mean,
    saccade_peak_velocity,
    blink_share,
    blink_count,
    gap_longest,
    gaze_valid_share,
    left_valid_share,
    right_valid_share,
    disparity,
    pupil_mean,
    pupil_left_mean,
    pupil_right_mean,
    pupil_std,
    pupil_range,
    pupil_slope,
    pupil_difference,
    pupil_valid_share,
    openness_mean,
    openness_min,
    openness_valid_share,
    sample_rate
};
static_assert(sample_rate + 1 == kFeatures);

/// Smallest and largest of some values.
struct Range {
    double low = INFINITY;
    double high = -INFINITY;

    void add(double value) {
        low = std::min(low, value);
        high = std::max(high, value);
    }
    double extent() const { return high - low; }
};

/// A point of gaze, its time from the token's start.
struct Point {
    std::int64_t t_ns;
    double x;
    double y;
};

double distance(const Point& a, const Point& b) {
    const double right = b.x - a.x, below = kHeight * (b.y - a.y);
    return std::sqrt(right * right + below * below);
}

/// One token after the other; what they need of memory is used again.
class Token {
  public:
    void compute(const GazeColumns& samples, std::ptrdiff_t first, std::ptrdiff_t last, std::int64_t start_ns,
                 std::int64_t length_ns, float* out);

  private:
    enum class Kind { rest, jump, undefined };

    void gaze(const GazeColumns& samples, std::ptrdiff_t first, std::ptrdiff_t last, std::int64_t start_ns);
    void movement();
    double velocity_at(std::size_t at, std::size_t& begin, std::size_t& end) const;
    void runs();
    void pupil(const GazeColumns& samples, std::ptrdiff_t first, std::ptrdiff_t last, std::int64_t start_ns);
    void openness(const GazeColumns& samples, std::ptrdiff_t first, std::ptrdiff_t last);

    double number_ = 0.0;
    std::int64_t length_ns_ = 0;
    double row_[kFeatures] = {};
    std::vector<Point> points_;
    std::vector<double> velocities_;                  // NaN where undefined
    std::vector<std::pair<double, double>> changes_;  // of the pupil: time, size about each eye's own mean
};

void Token::compute(const GazeColumns& samples, std::ptrdiff_t first, std::ptrdiff_t last, std::int64_t start_ns,
                    std::int64_t length_ns, float* out) {
    std::fill(std::begin(row_), std::end(row_), 0.0);
    length_ns_ = length_ns;
    row_[gap_longest] = static_cast<double>(length_ns) / 1e9;
    if (last > first) {
        number_ = static_cast<double>(last - first);
        row_[sample_rate] = number_ / (static_cast<double>(length_ns) / 1e9);
        gaze(samples, first, last, start_ns);
        movement();
        pupil(samples, first, last, start_ns);
        openness(samples, first, last);
    }
    for (int column = 0; column < kFeatures; ++column) {
        const double value = row_[column];
        out[column] = static_cast<float>(std::isnan(value) ? 0.0 : std::min(std::max(value, -kLimit), kLimit));
    }
}

void Token::gaze(const GazeColumns& samples, std::ptrdiff_t first, std::ptrdiff_t last, std::int64_t start_ns) {
    points_.clear();
    std::int64_t left_seen = 0, right_seen = 0, lost = 0, closures = 0, both = 0;
    double apart = 0.0;
    bool was_lost = false;
    for (std::ptrdiff_t index = first; index < last; ++index) {
        const float x = samples.x[index], y = samples.y[index];
        const float left_x = samples.left_x[index], right_x = samples.right_x[index];
        const bool left_point = std::isfinite(left_x) && std::isfinite(samples.left_y[index]);
        const bool right_point = std::isfinite(right_x) && std::isfinite(samples.right_y[index]);
        const bool left = left_point || is_pupil(samples.pupil_left[index]);
        const bool right = right_point || is_pupil(samples.pupil_right[index]);
        const bool valid = std::isfinite(x) && std::isfinite(y);
        left_seen += left;
        right_seen += right;
        const bool is_lost = !valid && !left && !right;
        lost += is_lost;
        closures += is_lost && !was_lost;
        was_lost = is_lost;
        if (left_point && right_point) {
            ++both;
            apart += static_cast<double>(left_x) - right_x;
        }
        if (valid) points_.push_back({samples.t_ns[index] - start_ns, x, y});
    }
    row_[left_valid_share] = static_cast<double>(left_seen) / number_;
    row_[right_valid_share] = static_cast<double>(right_seen) / number_;
    row_[gaze_valid_share] = static_cast<double>(points_.size()) / number_;
    row_[blink_share] = static_cast<double>(lost) / number_;
    row_[blink_count] = static_cast<double>(closures);
    if (both > 0) row_[disparity] = apart / static_cast<double>(both);
}

void Token::movement() {
    if (points_.empty()) return;
    const auto count = static_cast<double>(points_.size());
    double sum_x = 0.0, sum_y = 0.0;
    Range across, down;
    for (const Point& point : points_) {
        sum_x += point.x;
        sum_y += point.y;
        across.add(point.x);
        down.add(point.y);
    }
    const double x = sum_x / count, y = sum_y / count;
    double square_x = 0.0, square_y = 0.0, path = 0.0;
    std::int64_t longest = points_.front().t_ns;
    const Point* before = nullptr;
    for (const Point& point : points_) {
        square_x += (point.x - x) * (point.x - x);
        square_y += (point.y - y) * (point.y - y);
        if (before != nullptr) {
            const std::int64_t elapsed = point.t_ns - before->t_ns;
            longest = std::max(longest, elapsed);
            if (elapsed <= kGapNs) path += distance(*before, point);
        }
        before = &point;
    }
    longest = std::max(longest, length_ns_ - points_.back().t_ns);
    row_[gaze_x_mean] = x;
    row_[gaze_y_mean] = y;
    row_[gaze_x_std] = std::sqrt(square_x / count);
    row_[gaze_y_std] = std::sqrt(square_y / count);
    row_[gaze_dispersion] = std::sqrt(square_x / count + kHeight * kHeight * (square_y / count));
    row_[gaze_x_range] = across.extent();
    row_[gaze_y_range] = down.extent();
    row_[gaze_path_length] = path;
    row_[gap_longest] = static_cast<double>(longest) / 1e9;

    velocities_.clear();
    std::size_t begin = 0, end = 0, defined = 0;
    double sum = 0.0, largest = 0.0;
    for (std::size_t at = 0; at < points_.size(); ++at) {
        const double velocity = velocity_at(at, begin, end);
        velocities_.push_back(velocity);
        if (std::isnan(velocity)) continue;
        ++defined;
        sum += velocity;
        largest = std::max(largest, velocity);
    }
    if (defined > 0) {
        const double mean = sum / static_cast<double>(defined);
        double square = 0.0;
        for (const double velocity : velocities_) {
            if (!std::isnan(velocity)) square += (velocity - mean) * (velocity - mean);
        }
        row_[velocity_mean] = mean;
        row_[velocity_std] = std::sqrt(square / static_cast<double>(defined));
        row_[velocity_max] = largest;
    }
    runs();
}

/// `begin` and `end` are the window's first and last point; both only ever rise.
double Token::velocity_at(std::size_t at, std::size_t& begin, std::size_t& end) const {
    const std::size_t last = points_.size() - 1;
    const std::int64_t t_ns = points_[at].t_ns;
    while (points_[begin].t_ns < t_ns - kHalfWindowNs) ++begin;
    end = std::max(end, at);
    while (end < last && points_[end + 1].t_ns <= t_ns + kHalfWindowNs) ++end;
    const Point& from = points_[begin < at || at == 0 ? begin : at - 1];
    const Point& to = points_[end > at || at == last ? end : at + 1];
    const std::int64_t elapsed = to.t_ns - from.t_ns;
    if (elapsed <= 0 || elapsed > kGapNs) return std::nan("");
    return distance(from, to) / (static_cast<double>(elapsed) / 1e9);
}

void Token::runs() {
    const auto kind_of = [this](std::size_t at) {
        const double velocity = velocities_[at];
        return velocity > kSaccadeVelocity ? Kind::jump : velocity <= kSaccadeVelocity ? Kind::rest : Kind::undefined;
    };
    std::int64_t resting = 0, rests = 0, jumping = 0, jumps = 0;
    double rest_s = 0.0, jump_s = 0.0, amplitude = 0.0, off = 0.0, peak = 0.0;
    for (std::size_t first = 0, next = 0; first < points_.size(); first = next) {
        const Kind kind = kind_of(first);
        double sum_x = 0.0, sum_y = 0.0;
        for (; next < points_.size(); ++next) {
            if (next > first && (kind_of(next) != kind || points_[next].t_ns - points_[next - 1].t_ns > kGapNs)) {
                break;
            }
            sum_x += points_[next].x;
            sum_y += points_[next].y;
        }
        const auto size = static_cast<std::int64_t>(next - first);
        const Point& head = points_[first];
        const Point& tail = points_[next - 1];
        const double duration = static_cast<double>(tail.t_ns - head.t_ns) / 1e9;
        if (kind == Kind::rest) {
            ++rests;
            resting += size;
            rest_s += duration;
            const double x = sum_x / static_cast<double>(size), y = sum_y / static_cast<double>(size);
            for (std::size_t at = first; at < next; ++at) {
                const double right = points_[at].x - x, below = kHeight * (points_[at].y - y);
                off += right * right + below * below;
            }
        } else if (kind == Kind::jump) {
            ++jumps;
            jumping += size;
            jump_s += duration;
            amplitude += distance(head, tail);
            for (std::size_t at = first; at < next; ++at) peak = std::max(peak, velocities_[at]);
        }
    }
    if (rests > 0) {
        row_[fixation_share] = static_cast<double>(resting) / number_;
        row_[fixation_count] = static_cast<double>(rests);
        row_[fixation_duration_mean] = rest_s / static_cast<double>(rests);
        row_[fixation_dispersion] = std::sqrt(off / static_cast<double>(resting));
    }
    if (jumps > 0) {
        row_[saccade_share] = static_cast<double>(jumping) / number_;
        row_[saccade_count] = static_cast<double>(jumps);
        row_[saccade_duration_mean] = jump_s / static_cast<double>(jumps);
        row_[saccade_amplitude_mean] = amplitude / static_cast<double>(jumps);
        row_[saccade_peak_velocity] = peak;
    }
}

void Token::pupil(const GazeColumns& samples, std::ptrdiff_t first, std::ptrdiff_t last, std::int64_t start_ns) {
    double sums[2] = {}, apart = 0.0;
    std::int64_t numbers[2] = {}, both = 0;
    for (std::ptrdiff_t index = first; index < last; ++index) {
        const float left = samples.pupil_left[index], right = samples.pupil_right[index];
        const bool has_left = is_pupil(left), has_right = is_pupil(right);
        if (has_left) sums[0] += left;
        if (has_right) sums[1] += right;
        numbers[0] += has_left;
        numbers[1] += has_right;
        if (has_left && has_right) {
            ++both;
            apart += static_cast<double>(left) - right;
        }
    }
    const int eyes = (numbers[0] > 0) + (numbers[1] > 0);
    if (eyes == 0) return;
    double means[2] = {};
    for (int eye = 0; eye < 2; ++eye) {
        if (numbers[eye] > 0) means[eye] = sums[eye] / static_cast<double>(numbers[eye]);
    }
    row_[pupil_left_mean] = means[0];
    row_[pupil_right_mean] = means[1];
    row_[pupil_mean] = (means[0] + means[1]) / eyes;
    if (both > 0) row_[pupil_difference] = apart / static_cast<double>(both);

    changes_.clear();
    double sum = 0.0, sum_t = 0.0;
    for (std::ptrdiff_t index = first; index < last; ++index) {
        const float left = samples.pupil_left[index], right = samples.pupil_right[index];
        const bool has_left = is_pupil(left), has_right = is_pupil(right);
        if (!has_left && !has_right) continue;
        double change = 0.0;
        if (has_left) change += left - means[0];
        if (has_right) change += right - means[1];
        if (has_left && has_right) change /= 2.0;
        const double t = static_cast<double>(samples.t_ns[index] - start_ns) / 1e9;
        changes_.emplace_back(t, change);
        sum += change;
        sum_t += t;
    }
    const auto count = static_cast<double>(changes_.size());
    const double middle = sum / count, middle_t = sum_t / count;
    double square = 0.0, spread = 0.0, along = 0.0;
    Range range;
    for (const auto& [t, change] : changes_) {
        const double off = change - middle, off_t = t - middle_t;
        square += off * off;
        spread += off_t * off_t;
        along += off_t * off;
        range.add(off);
    }
    row_[pupil_valid_share] = count / number_;
    row_[pupil_std] = std::sqrt(square / count);
    row_[pupil_range] = range.extent();
    if (spread > 0.0) row_[pupil_slope] = along / spread;
}

void Token::openness(const GazeColumns& samples, std::ptrdiff_t first, std::ptrdiff_t last) {
    std::int64_t seen = 0;
    double sum = 0.0, smallest = INFINITY;
    for (std::ptrdiff_t index = first; index < last; ++index) {
        const float left = samples.openness_left[index], right = samples.openness_right[index];
        const bool has_left = std::isfinite(left), has_right = std::isfinite(right);
        if (!has_left && !has_right) continue;
        double value = 0.0;
        if (has_left) value += left;
        if (has_right) value += right;
        if (has_left && has_right) value /= 2.0;
        ++seen;
        sum += value;
        smallest = std::min(smallest, value);
    }
    if (seen == 0) return;
    row_[openness_valid_share] = static_cast<double>(seen) / number_;
    row_[openness_mean] = sum / static_cast<double>(seen);
    row_[openness_min] = smallest;
}

/// The first sample at or after a time.
std::ptrdiff_t first_from(const StridedColumn<std::int64_t>& times, std::ptrdiff_t low, std::ptrdiff_t high,
                          std::int64_t t_ns) {
    while (low < high) {
        const std::ptrdiff_t middle = low + (high - low) / 2;
        if (times[middle] < t_ns) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

}  // namespace

void token_features(const GazeColumns& samples, std::int64_t start_ns, std::int64_t stop_ns, std::int64_t tokens,
                    float* out) {
    Token token;
    const std::int64_t span_ns = stop_ns - start_ns;
    std::int64_t begin_ns = start_ns;
    std::ptrdiff_t first = first_from(samples.t_ns, 0, samples.count, start_ns);
    for (std::int64_t row = 0; row < tokens; ++row, out += kFeatures) {
        // (row + 1) * span / tokens in whole numbers, without their product
        const std::int64_t whole = span_ns / tokens, rest = span_ns % tokens;
        const std::int64_t end_ns = start_ns + (row + 1) * whole + (row + 1) * rest / tokens;
        const std::ptrdiff_t last = first_from(samples.t_ns, first, samples.count, end_ns);
        token.compute(samples, first, last, begin_ns, end_ns - begin_ns, out);
        begin_ns = end_ns;
        first = last;
    }
}

}  // namespace emert
