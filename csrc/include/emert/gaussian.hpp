// The cut Gaussian of a fixation map, one axis.
#pragma once

#include <cmath>

#include "emert/host_device.hpp"

namespace emert {

/// How many pixels a point reaches to each side of the pixel it lies in.
EMERT_HD double gaussian_reach(double sigma) {
    return ceil(4.0 * sigma);
}

/// k such that exp(-d^2 / 2 sigma^2) = 2^-(k d)^2.
EMERT_HD float gaussian_rate(double sigma) {
    const double rate = 0.84932180028801904272 / sigma;  // sqrt(log2(e) / 2)
    // Where sigma is so small that this binds, every distance but 0 gives 0 with or without it.
    return static_cast<float>(rate < 1e18 ? rate : 1e18);
}

/// The Gaussian at a distance in pixels.
EMERT_HD float gaussian_at(float distance, float rate) {
    const float scaled = distance * rate;
    return exp2f(-(scaled * scaled));
}

/// The pixel of an axis that a coordinate lies in, and how far from the coordinate that pixel's centre is.
struct Landing {
    double cell;
    float offset;
};

EMERT_HD Landing land(double at) {
    const double cell = floor(at);
    return {cell, static_cast<float>(0.5 - (at - cell))};
}

/// The pixels [first, stop) of an axis with `size` pixels that a point reaches; `cell` is floor(coordinate).
struct Reach {
    int first;
    int stop;
};

EMERT_HD Reach gaussian_span(double cell, double reach, int size) {
    const double low = cell - reach;
    const double high = cell + reach + 1.0;
    const double first = low > 0.0 ? low : 0.0;
    const double stop = high > 0.0 ? high : 0.0;
    Reach span;
    span.first = static_cast<int>(first < size ? first : size);
    span.stop = static_cast<int>(stop < size ? stop : size);
    return span;
}

}  // namespace emert
