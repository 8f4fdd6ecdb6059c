// Outputs in float32 or in half precision (IEEE binary16, rounded to nearest, ties to even).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "emert/host_device.hpp"

namespace emert {

EMERT_HD std::uint16_t half_bits(float value) {
#if defined(__CUDA_ARCH__)
    std::uint16_t half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
#else
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const std::uint32_t sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7fffu);   // NaN
    if (bits >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // from 65520 on: infinity
    if (bits < 0x33000001u) return static_cast<std::uint16_t>(sign);             // up to 2^-25: 0
    const std::uint32_t exponent = bits >> 23;
    const std::uint32_t mantissa = exponent < 113 ? (bits & 0x7fffffu) | 0x800000u : bits - (112u << 23);
    const std::uint32_t shift = exponent < 113 ? 126 - exponent : 13;
    const std::uint32_t rounded = (mantissa + (1u << (shift - 1)) - 1 + (mantissa >> shift & 1u)) >> shift;
    return static_cast<std::uint16_t>(sign | rounded);
#endif
}

EMERT_HD float float_of_half(std::uint16_t half) {
#if defined(__CUDA_ARCH__)
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
#else
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
    const std::uint32_t exponent = half >> 10 & 31u;
    const std::uint32_t mantissa = half & 1023u;
    if (exponent == 0) {
        const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;  // 2^-24
        return sign != 0 ? -magnitude : magnitude;
    }
    const std::uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | mantissa << 13;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
#endif
}

/// Values of one of the two kinds, one after the other.
struct ValuesOut {
    void* data;
    bool half;
};

EMERT_HD void write_value(const ValuesOut& out, std::ptrdiff_t index, float value) {
    if (out.half) {
        static_cast<std::uint16_t*>(out.data)[index] = half_bits(value);
    } else {
        static_cast<float*>(out.data)[index] = value;
    }
}

struct ValuesIn {
    const void* data;
    bool half;
};

EMERT_HD float read_value(const ValuesIn& in, std::ptrdiff_t index) {
    return in.half ? float_of_half(static_cast<const std::uint16_t*>(in.data)[index])
                   : static_cast<const float*>(in.data)[index];
}

}  // namespace emert
