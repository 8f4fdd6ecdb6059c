// Marks the per-pixel mathematics that the CPU and the CUDA bodies share.
//
// On the host such a function has internal linkage: each instruction set's objects keep their own copy, so that the
// linker can never hand a function compiled for AVX-512 to the baseline body.
//
// EMERT_BODY marks what runs on the GPU alone; a host compiler takes it too, so that the tests can run it there.
#pragma once

#if defined(__CUDACC__)
#define EMERT_HD __host__ __device__ __forceinline__
#define EMERT_BODY __device__ __forceinline__
#else
#define EMERT_BODY inline
#define EMERT_HD [[maybe_unused]] static inline __attribute__((always_inline))
#endif
