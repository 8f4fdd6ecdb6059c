// How a body runs on the GPU. A body is a struct with kThreads, a plain struct Shared, and
//
//   template <typename Thread> EMERT_BODY void operator()(Thread& thread, Shared& shared) const
//
// that every thread of every block runs; it travels by value, so a launch copies nothing and a graph can keep it. The
// tests run the same bodies on the CPU (tests/kernels/cuda_on_host): what a thread knows it knows from its Thread.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace emert::cuda {

/// Blocks along x, y and z.
struct Grid {
    unsigned x;
    unsigned y;
    unsigned z;
};

}  // namespace emert::cuda

#if defined(__CUDACC__)

namespace emert::cuda {

class Thread {
  public:
    __device__ __forceinline__ int index() const { return static_cast<int>(threadIdx.x); }
    __device__ __forceinline__ int block_x() const { return static_cast<int>(blockIdx.x); }
    __device__ __forceinline__ int block_y() const { return static_cast<int>(blockIdx.y); }
    __device__ __forceinline__ int block_z() const { return static_cast<int>(blockIdx.z); }

    /// Waits for the block's other threads.
    __device__ __forceinline__ void sync() const { __syncthreads(); }

    /// Sets bits that other threads set too.
    __device__ __forceinline__ void mark(std::uint32_t& word, std::uint32_t bits) const { atomicOr(&word, bits); }
};

/// Blocks that are to fit on a multiprocessor at once: a body's kBlocks; 0 leaves it to the compiler.
template <typename Body, typename = void>
constexpr int kBlocksOf = 0;
template <typename Body>
constexpr int kBlocksOf<Body, decltype(void(Body::kBlocks))> = Body::kBlocks;

template <typename Body>
__global__ void __launch_bounds__(Body::kThreads, kBlocksOf<Body>) run(const __grid_constant__ Body body) {
    __shared__ typename Body::Shared shared;
    Thread thread;
    body(thread, shared);
}

/// Enqueues; neither waits nor allocates.
template <typename Body>
cudaError_t launch(const Body& body, const Grid& grid, cudaStream_t stream) {
    static_assert(sizeof(Body) <= 4096, "what every CUDA version passes by value");
    void* arguments[] = {const_cast<Body*>(&body)};
    return cudaLaunchKernel(reinterpret_cast<const void*>(&run<Body>), dim3(grid.x, grid.y, grid.z),
                            dim3(Body::kThreads), arguments, 0, stream);
}

/// Whether this build has the body for the current GPU.
template <typename Body>
cudaError_t probe() {
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&run<Body>));
}

}  // namespace emert::cuda

#else
#include "launch_on_host.hpp"
#endif
