#include "kernels/cuda_kernels.hpp"
#include "kernels/fixation_tile.hpp"

namespace emert::cuda {

namespace {

constexpr int kSamplesALaunch = 128;  // as many as travel by value
constexpr double kForgotten = 1e-250;

struct TravellingSamples {
    double x[kSamplesALaunch];
    double y[kSamplesALaunch];
    float weight[kSamplesALaunch];

    EMERT_BODY void operator()(int index, double& x_at, double& y_at, float& weight_at) const {
        x_at = x[index];
        y_at = y[index];
        weight_at = weight[index];
    }
};

struct FixationSumBody {
    static constexpr int kThreads = kTileThreads;
    using Shared = TileShared;

    TravellingSamples samples;
    int count;
    double sigma;
    FadingStep step;
    double* sum;
    int height;
    int width;

    template <typename Thread>
    EMERT_BODY void operator()(Thread& thread, Shared& shared) const {
        const TilePlace place = tile_place(thread, height, width);
        float total[kTileRows];
        const bool reached = gather_tile(thread, shared, place, sigma, count, samples, total);
        if (!reached && step.fade == 1.0) return;
        each_tile_pixel(thread, place, [&](int row, int column, int i) {
            double& value = sum[static_cast<std::ptrdiff_t>(row) * width + column];
            const double faded = value * step.fade;
            value = (fabs(faded) < kForgotten ? 0.0 : faded) + step.scale * static_cast<double>(total[i]);
        });
    }
};

struct FixationReadBody {
    static constexpr int kThreads = kTileThreads;
    struct Shared {};

    const double* sum;
    double scale;
    ImagesOut out;

    template <typename Thread>
    EMERT_BODY void operator()(Thread& thread, Shared&) const {
        each_tile_pixel(thread, tile_place(thread, out.height, out.width), [&](int row, int column, int) {
            const std::ptrdiff_t index = static_cast<std::ptrdiff_t>(row) * out.width + column;
            const double value = sum[index] * scale;
            write_value(out.values, index, static_cast<float>(fabs(value) < 1.1754943508222875e-38 ? 0.0 : value));
        });
    }
};

}  // namespace

cudaError_t fixation_sum(const FadingSample* samples, int count, double sigma, const FadingStep& step, double* sum,
                         std::int32_t height, std::int32_t width, cudaStream_t stream) {
    FixationSumBody body{{}, 0, sigma, step, sum, height, width};
    // Weights travel as shares of the largest: none is too large or too small for float32.
    double largest = 0.0;
    for (int i = 0; i < count; ++i) largest = fmax(largest, fabs(samples[i].weight));
    const double unit = largest > 0.0 ? largest : 1.0;
    body.step.scale *= unit;
    for (int first = 0; first < count; first += kSamplesALaunch) {
        body.count = count - first < kSamplesALaunch ? count - first : kSamplesALaunch;
        for (int i = 0; i < body.count; ++i) {
            body.samples.x[i] = samples[first + i].x;
            body.samples.y[i] = samples[first + i].y;
            body.samples.weight[i] = static_cast<float>(samples[first + i].weight / unit);
        }
        if (const cudaError_t status = launch(body, tile_grid(height, width, 1), stream)) return status;
        body.step.fade = 1.0;
    }
    return cudaSuccess;
}

cudaError_t fixation_read(const double* sum, double scale, const ImagesOut& out, cudaStream_t stream) {
    return launch(FixationReadBody{sum, scale, out}, tile_grid(out.height, out.width, 1), stream);
}

}  // namespace emert::cuda
