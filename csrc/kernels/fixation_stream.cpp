#include "kernels/fixation_stream.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/isa.hpp"

namespace emert {

namespace {

constexpr int kChunk = 512;
constexpr double kMostHalfLives = 256.0;  // 2^256 is 1e77: room for any weight that float32 can hold
constexpr double kForgotten = 1e-250;     // far below any float32 output; keeps denormal numbers out of the sums

/// (a - b), which may not fit int64.
double difference_ns(std::int64_t a, std::int64_t b) {
    const auto magnitude = [](std::int64_t high, std::int64_t low) {
        return static_cast<double>(static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low));
    };
    return a >= b ? magnitude(a, b) : -magnitude(b, a);
}

std::ptrdiff_t round_up(std::ptrdiff_t value, std::ptrdiff_t step) {
    return (value + step - 1) / step * step;
}

double number_at(const Column& column, std::ptrdiff_t index) {
    const char* at = column.data + index * column.stride;
    if (column.is_double) {
        double value;
        std::memcpy(&value, at, sizeof value);
        return value;
    }
    float value;
    std::memcpy(&value, at, sizeof value);
    return static_cast<double>(value);
}

std::int64_t time_at(const TimeColumn& column, std::ptrdiff_t index) {
    std::int64_t value;
    std::memcpy(&value, column.data + index * column.stride, sizeof value);
    return value;
}

}  // namespace

void FixationStream::Free::operator()(double* values) const {
    std::free(values);
}

FixationStream::FixationStream(std::int32_t height, std::int32_t width, double sigma, double half_life_s)
    : sigma_(sigma), half_life_ns_(half_life_s * 1e9) {
    const std::ptrdiff_t row_stride = round_up(width, TiledSum::kColumnPadding);
    size_ = round_up(height, TiledSum::kRowPadding) * row_stride;
    // Zeroed by the system: pages that no gaze ever reaches cost nothing.
    values_.reset(static_cast<double*>(std::calloc(static_cast<std::size_t>(size_), sizeof(double))));
    if (!values_) throw std::bad_alloc();
    sum_ = {values_.get(), height, width, row_stride};
}

void FixationStream::add(const TimeColumn& times, const Points& points) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (std::ptrdiff_t first = 0; first < points.count; first += kChunk) {
        add_chunk(times, points, first, static_cast<int>(std::min<std::ptrdiff_t>(kChunk, points.count - first)));
    }
}

void FixationStream::add_chunk(const TimeColumn& times, const Points& points, std::ptrdiff_t first, int count) {
    struct Sample {
        double x;
        double y;
        double weight;
        std::int64_t t_ns;
    };
    Sample samples[kChunk];
    int kept = 0;
    for (std::ptrdiff_t i = first; i < first + count; ++i) {
        const Sample sample{number_at(points.x, i), number_at(points.y, i), number_at(points.weight, i),
                            time_at(times, i)};
        if (!std::isfinite(sample.x) || !std::isfinite(sample.y) || !std::isfinite(sample.weight)) continue;
        samples[kept++] = sample;
    }
    if (kept == 0) return;

    std::int64_t newest = samples[0].t_ns;
    for (int i = 1; i < kept; ++i) newest = std::max(newest, samples[i].t_ns);
    for (int i = 0; i < kept; ++i) {
        samples[i].weight *= std::exp2(difference_ns(samples[i].t_ns, newest) / half_life_ns_);
    }

    newest_ns_ = empty_ ? newest : std::max(newest_ns_, newest);
    if (empty_) reference_ns_ = newest;
    empty_ = false;
    double half_lives = difference_ns(newest, reference_ns_) / half_life_ns_;
    if (half_lives > kMostHalfLives) {
        move_reference(newest, half_lives);
        half_lives = 0.0;
    }
    const auto column = [](const double& member) {
        return Column{reinterpret_cast<const char*>(&member), sizeof samples[0], true};
    };
    const Points kept_points{column(samples[0].x), column(samples[0].y), column(samples[0].weight), kept};
    cpu_bodies().fixation_sum(kept_points, sigma_, std::exp2(half_lives), sum_);
}

void FixationStream::move_reference(std::int64_t t_ns, double half_lives) {
    const double factor = std::exp2(-half_lives);
    for (double* value = sum_.data; value != sum_.data + size_; ++value) {
        const double faded = *value * factor;
        *value = std::abs(faded) < kForgotten ? 0.0 : faded;
    }
    reference_ns_ = t_ns;
}

bool FixationStream::read(std::int64_t t_ns, float* out) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!empty_ && t_ns < newest_ns_) return false;
    const double scale = empty_ ? 1.0 : std::exp2(-difference_ns(t_ns, reference_ns_) / half_life_ns_);
    cpu_bodies().fixation_read(sum_, scale, {out, sum_.height, sum_.width});
    return true;
}

void FixationStream::reset() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::fill_n(sum_.data, size_, 0.0);
    empty_ = true;
}

}  // namespace emert
