// The 39 features of eye behaviour: emert_edge/eye/features.py defines them.
#pragma once

#include <cstdint>
#include <vector>

#include "eye/gaze_columns.hpp"

namespace emert {

constexpr int kFeatures = 39;

/// Rows of `kFeatures`, one for each of `tokens` equal spans of [start, stop); the samples' times rise.
void token_features(const GazeColumns& samples, std::int64_t start_ns, std::int64_t stop_ns, std::int64_t tokens,
                    float* out);

}  // namespace emert
