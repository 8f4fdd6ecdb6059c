// What kernels see of arrays: a pointer, sizes and strides. Nothing here owns memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "emert/host_device.hpp"

namespace emert {

/// One numeric column of n values, float32 or float64, any stride in bytes.
struct Column {
    const char* data;
    std::ptrdiff_t stride;
    bool is_double;
};

EMERT_HD double number_at(const Column& column, std::ptrdiff_t index) {
    const char* at = column.data + index * column.stride;
#if defined(__CUDA_ARCH__)
    // Aligned: the border sees to that.
    return column.is_double ? *reinterpret_cast<const double*>(at)
                            : static_cast<double>(*reinterpret_cast<const float*>(at));
#else
    if (column.is_double) {
        double value;
        std::memcpy(&value, at, sizeof value);
        return value;
    }
    float value;
    std::memcpy(&value, at, sizeof value);
    return static_cast<double>(value);
#endif
}

/// Gaze points in pixels of a map, and their weights.
struct Points {
    Column x;
    Column y;
    Column weight;
    std::ptrdiff_t count;
};

/// Three-channel uint8 pixels; strides in bytes, of any sign.
struct FrameView {
    const std::uint8_t* data;
    std::int32_t height;
    std::int32_t width;
    std::ptrdiff_t row_stride;
    std::ptrdiff_t pixel_stride;
    std::ptrdiff_t channel_stride;

    /// Rows whose bytes follow one another: pixel after pixel, three channels each.
    bool packed() const { return pixel_stride == 3 && channel_stride == 1; }
};

/// One float32 plane; strides in bytes, of any sign.
struct PlaneView {
    const char* data;
    std::int32_t height;
    std::int32_t width;
    std::ptrdiff_t row_stride;
    std::ptrdiff_t column_stride;
};

/// A C-contiguous float32 output (planes, height, width).
struct PlanesOut {
    float* data;
    std::int32_t height;
    std::int32_t width;
};

/// value * scale + offset takes a channel's 0-255 value to its normalised one; `plane` is where it goes.
struct ChannelMap {
    float scale[3];
    float offset[3];
    std::int32_t plane[3];
};

/// The normalised value of a channel's mean.
EMERT_HD float normalised(const ChannelMap& channels, int channel, float mean) {
    return mean * channels.scale[channel] + channels.offset[channel];
}

}  // namespace emert
