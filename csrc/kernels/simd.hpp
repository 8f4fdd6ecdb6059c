// The few vector operations that the CPU bodies need, for the instruction set that this file is compiled for.
//
// Arithmetic is that of the compiler's vector types; only widenings, which compilers lower badly, are spelled out.
// Everything lives in the instruction set's own namespace and is inlined: no symbol here may be shared by two sets.
// For the same reason the bodies use no standard-library templates.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define EMERT_INLINE static inline __attribute__((always_inline))
#define EMERT_MEMBER_INLINE inline __attribute__((always_inline))

namespace emert::EMERT_ISA {

#if defined(__AVX512BW__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef std::int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef std::uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef std::uint16_t Shorts __attribute__((vector_size(4 * kLanes)));  // 2 * kLanes of them
typedef float Pixel __attribute__((vector_size(16)));                   // one pixel's channels and a spare lane

typedef float UnalignedFloats __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef float UnalignedPixel __attribute__((vector_size(16), aligned(4), may_alias));

EMERT_INLINE Floats load(const float* from) {
    return *reinterpret_cast<const UnalignedFloats*>(from);
}
EMERT_INLINE void store(float* to, Floats value) {
    *reinterpret_cast<UnalignedFloats*>(to) = value;
}
EMERT_INLINE Pixel load_pixel(const float* from) {
    return *reinterpret_cast<const UnalignedPixel*>(from);
}
EMERT_INLINE void store_pixel(float* to, Pixel value) {
    *reinterpret_cast<UnalignedPixel*>(to) = value;
}
EMERT_INLINE Floats splat(float value) {
    return Floats{} + value;
}

/// 2 * kLanes bytes.
EMERT_INLINE Shorts load_bytes_as_shorts(const std::uint8_t* from) {
#if defined(__AVX512BW__)
    return (Shorts)_mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__AVX2__)
    return (Shorts)_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#elif defined(__SSE2__)
    return (Shorts)_mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)), _mm_setzero_si128());
#elif defined(__ARM_NEON)
    return (Shorts)vmovl_u8(vld1_u8(from));
#else
    Shorts value;
    for (int lane = 0; lane < 2 * kLanes; ++lane) value[lane] = from[lane];
    return value;
#endif
}

/// kLanes bytes.
EMERT_INLINE Floats load_bytes_as_floats(const std::uint8_t* from) {
#if defined(__AVX512BW__)
    return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#elif defined(__AVX2__)
    return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#elif defined(__SSE2__)
    std::int32_t bits;
    std::memcpy(&bits, from, sizeof bits);
    const __m128i zero = _mm_setzero_si128();
    const __m128i shorts = _mm_unpacklo_epi8(_mm_cvtsi32_si128(bits), zero);
    return (Floats)_mm_cvtepi32_ps(_mm_unpacklo_epi16(shorts, zero));
#elif defined(__ARM_NEON)
    std::uint32_t bits;
    std::memcpy(&bits, from, sizeof bits);
    const uint16x8_t shorts = vmovl_u8(vcreate_u8(bits));
    return (Floats)vcvtq_f32_u32(vmovl_u16(vget_low_u16(shorts)));
#else
    Floats value;
    for (int lane = 0; lane < kLanes; ++lane) value[lane] = from[lane];
    return value;
#endif
}

EMERT_INLINE void shorts_to_floats(Shorts value, Floats& low, Floats& high) {
#if defined(__AVX512BW__)
    low = (Floats)_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm512_castsi512_si256((__m512i)value)));
    high = (Floats)_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64((__m512i)value, 1)));
#elif defined(__AVX2__)
    low = (Floats)_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm256_castsi256_si128((__m256i)value)));
    high = (Floats)_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm256_extracti128_si256((__m256i)value, 1)));
#elif defined(__SSE2__)
    const __m128i zero = _mm_setzero_si128();
    low = (Floats)_mm_cvtepi32_ps(_mm_unpacklo_epi16((__m128i)value, zero));
    high = (Floats)_mm_cvtepi32_ps(_mm_unpackhi_epi16((__m128i)value, zero));
#elif defined(__ARM_NEON)
    low = (Floats)vcvtq_f32_u32(vmovl_u16(vget_low_u16((uint16x8_t)value)));
    high = (Floats)vcvtq_f32_u32(vmovl_u16(vget_high_u16((uint16x8_t)value)));
#else
    for (int lane = 0; lane < kLanes; ++lane) {
        low[lane] = value[lane];
        high[lane] = value[lane + kLanes];
    }
#endif
}

/// Four pixels to four channels.
EMERT_INLINE void transpose(Pixel (&pixels)[4]) {
#if defined(__clang__)
#define EMERT_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
    typedef std::int32_t Lanes __attribute__((vector_size(16)));
#define EMERT_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Lanes{__VA_ARGS__})
#endif
    const Pixel low01 = EMERT_SHUFFLE(pixels[0], pixels[1], 0, 4, 1, 5);
    const Pixel high01 = EMERT_SHUFFLE(pixels[0], pixels[1], 2, 6, 3, 7);
    const Pixel low23 = EMERT_SHUFFLE(pixels[2], pixels[3], 0, 4, 1, 5);
    const Pixel high23 = EMERT_SHUFFLE(pixels[2], pixels[3], 2, 6, 3, 7);
    pixels[0] = EMERT_SHUFFLE(low01, low23, 0, 1, 4, 5);
    pixels[1] = EMERT_SHUFFLE(low01, low23, 2, 3, 6, 7);
    pixels[2] = EMERT_SHUFFLE(high01, high23, 0, 1, 4, 5);
    pixels[3] = EMERT_SHUFFLE(high01, high23, 2, 3, 6, 7);
#undef EMERT_SHUFFLE
}

EMERT_INLINE Floats lane_numbers() {
    Floats value;
    for (int lane = 0; lane < kLanes; ++lane) value[lane] = static_cast<float>(lane);
    return value;
}

/// 2^t for |t| < 126, to a relative 2e-7.
EMERT_INLINE Floats exp2_of(Floats t) {
    const Floats shifted = t + 12582912.0f;  // 1.5 * 2^23: the integer part lands in the low bits
    const Floats f = t - (shifted - 12582912.0f);
    Floats p = splat(1.3264724e-3f);  // of 2^f on [-0.5, 0.5]
    p = p * f + 9.6715130e-3f;
    p = p * f + 5.5507336e-2f;
    p = p * f + 2.4022242e-1f;
    p = p * f + 6.9314700e-1f;
    p = p * f + 1.0f;
    return (Floats)((Words)p + ((Words)shifted << 23));  // wraps: the upper bits of `shifted` leave by the shift
}

/// 2^t for t <= 0; 0 below 2^-126, so that no denormal number ever arises.
EMERT_INLINE Floats exp2_of_negative(Floats t) {
    const Ints normal = t > -126.0f;
    return (Floats)((Ints)exp2_of((Floats)((Ints)t & normal)) & normal);
}

}  // namespace emert::EMERT_ISA
