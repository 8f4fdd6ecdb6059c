// Marks the per-pixel mathematics that the CPU and the CUDA bodies share.
//
// On the host such a function has internal linkage: each instruction set's objects keep their own copy, so that the
// linker can never hand a function compiled for AVX-512 to the baseline body.
#pragma once

#if defined(__CUDACC__)
#define EMERT_HD __host__ __device__ __forceinline__
#else
#define EMERT_HD [[maybe_unused]] static inline __attribute__((always_inline))
#endif
