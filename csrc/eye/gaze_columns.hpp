// Gaze samples as kernels see them: times and ten columns of float32, any stride (0: one value for all).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace emert {

template <typename Value>
struct StridedColumn {
    const char* data = nullptr;
    std::ptrdiff_t stride = 0;  // bytes

    Value operator[](std::ptrdiff_t index) const {
        Value value;
        std::memcpy(&value, data + index * stride, sizeof value);
        return value;
    }
};

using FloatColumn = StridedColumn<float>;

struct GazeColumns {
    StridedColumn<std::int64_t> t_ns;
    FloatColumn x, y;
    FloatColumn left_x, left_y;
    FloatColumn right_x, right_y;
    FloatColumn pupil_left, pupil_right;
    FloatColumn openness_left, openness_right;
    std::ptrdiff_t count = 0;
};

/// The time from `from` to `to`, which is not before it; exact for every pair of int64.
inline std::uint64_t elapsed_ns(std::int64_t from, std::int64_t to) {
    return static_cast<std::uint64_t>(to) - static_cast<std::uint64_t>(from);
}

/// A pupil that was measured.
inline bool is_pupil(float size) {
    return std::isfinite(size) && size > 0.0f;
}

}  // namespace emert
