#include "kernels/fixation_stream.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>

#include "kernels/isa.hpp"

namespace emert {

namespace {

constexpr double kForgotten = 1e-250;  // far below any float32 output; keeps denormal numbers out of the sums

std::ptrdiff_t round_up(std::ptrdiff_t value, std::ptrdiff_t step) {
    return (value + step - 1) / step * step;
}

}  // namespace

void FixationStream::Free::operator()(double* values) const {
    std::free(values);
}

FixationStream::FixationStream(std::int32_t height, std::int32_t width, double sigma, double half_life_s)
    : sigma_(sigma), clock_(half_life_s) {
    const std::ptrdiff_t row_stride = round_up(width, TiledSum::kColumnPadding);
    size_ = round_up(height, TiledSum::kRowPadding) * row_stride;
    // Zeroed by the system: pages that no gaze ever reaches cost nothing.
    values_.reset(static_cast<double*>(std::calloc(static_cast<std::size_t>(size_), sizeof(double))));
    if (!values_) throw std::bad_alloc();
    sum_ = {values_.get(), height, width, row_stride};
}

void FixationStream::add(const TimeColumn& times, const Points& points) {
    const std::lock_guard<std::mutex> lock(mutex_);
    FadingSample samples[kFadingChunk];
    for (std::ptrdiff_t first = 0; first < points.count; first += kFadingChunk) {
        const int kept = take_samples(times, points, first, samples, kFadingChunk);
        if (kept == 0) continue;
        const FadingStep step = clock_.take(samples, kept);
        if (step.fade != 1.0) fade(step.fade);
        const auto column = [](const double& member) {
            return Column{reinterpret_cast<const char*>(&member), sizeof samples[0], true};
        };
        const Points kept_points{column(samples[0].x), column(samples[0].y), column(samples[0].weight), kept};
        cpu_bodies().fixation_sum(kept_points, sigma_, step.scale, sum_);
    }
}

void FixationStream::fade(double factor) {
    for (double* value = sum_.data; value != sum_.data + size_; ++value) {
        const double faded = *value * factor;
        *value = std::abs(faded) < kForgotten ? 0.0 : faded;
    }
}

bool FixationStream::read(std::int64_t t_ns, float* out) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    double scale;
    if (!clock_.scale_at(t_ns, scale)) return false;
    cpu_bodies().fixation_read(sum_, scale, {out, sum_.height, sum_.width});
    return true;
}

void FixationStream::reset() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::fill_n(sum_.data, size_, 0.0);
    clock_.reset();
}

}  // namespace emert
