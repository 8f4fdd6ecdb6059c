// The CUDA bodies as the host sees them. All enqueue on the stream that they are given and return; none allocates,
// waits, or keeps anything. Pointers are what the GPU can read: its own memory, managed or page-locked memory.
#pragma once

#include <cuda_runtime_api.h>

#include "emert/affine.hpp"
#include "emert/half.hpp"
#include "emert/views.hpp"
#include "kernels/fading.hpp"

namespace emert::cuda {

/// Blocks that CUDA takes along a launch's y and z, and with them the most images and rows of an output.
constexpr std::int32_t kMostBlocks = 65535;

/// `count` sets of points, as many points each; steps in bytes from one set to the next.
struct PointSets {
    Points points;
    std::ptrdiff_t xy_step;
    std::ptrdiff_t weight_step;
};

/// `count` images of planes (or single planes), contiguous.
struct ImagesOut {
    ValuesOut values;
    std::int32_t count;
    std::int32_t height;
    std::int32_t width;
};

/// As many frames as there are images, `step` bytes apart; 0: the same for all.
struct Frames {
    FrameView first;
    std::ptrdiff_t step;
};

struct Planes {
    PlaneView first;
    std::ptrdiff_t step;
};

/// Writes one map for each set of points. Weights and sums are float32.
cudaError_t fixation_map(const PointSets& sets, double sigma, const ImagesOut& out, cudaStream_t stream);

/// sum = fade * sum + scale * the map of the samples, `sum` (height, width) float64, contiguous.
cudaError_t fixation_sum(const FadingSample* samples, int count, double sigma, const FadingStep& step, double* sum,
                         std::int32_t height, std::int32_t width, cudaStream_t stream);

/// Writes scale * sum.
cudaError_t fixation_read(const double* sum, double scale, const ImagesOut& out, cudaStream_t stream);

cudaError_t fuse_gaze_frame(const Frames& frames, const Planes& maps, const ChannelMap& channels, const ImagesOut& out,
                            cudaStream_t stream);

/// `sources` are on the host, one for each image, and are read before the call returns.
cudaError_t crop_normalize(const Frames& frames, const SourceMap* sources, const ChannelMap& channels,
                           const ImagesOut& out, cudaStream_t stream);

/// `affines` (count, 2, 3) float64 lie where the GPU reads them, when it comes to it. One without a finite inverse
/// gives NaN.
cudaError_t crop_normalize_at(const Frames& frames, const double* affines, const ChannelMap& channels,
                              const ImagesOut& out, cudaStream_t stream);

/// Tokens of `length` values in a store of `capacity`, and which of them stand at `places` places.
struct TokenChoice {
    ValuesIn store;
    std::int64_t capacity;
    std::int64_t length;
    const std::int32_t* index;
    std::int64_t places;
};

/// out (places, length) and, unless its data are null, mask (places): 1 where a token stands, 0 where index is outside
/// of the store.
cudaError_t assemble_tokens(const TokenChoice& choice, const ValuesOut& out, const ValuesOut& mask,
                            cudaStream_t stream);

/// Whether this build has bodies for the current GPU.
cudaError_t probe_bodies();

}  // namespace emert::cuda
