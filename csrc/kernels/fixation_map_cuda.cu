#include "kernels/cuda_kernels.hpp"
#include "kernels/fixation_tile.hpp"

namespace emert::cuda {

namespace {

struct PointsOfMap {
    PointSets sets;
    int map;

    EMERT_BODY void operator()(int index, double& x, double& y, float& weight) const {
        const Points& points = sets.points;
        x = number_at({points.x.data + map * sets.xy_step, points.x.stride, points.x.is_double}, index);
        y = number_at({points.y.data + map * sets.xy_step, points.y.stride, points.y.is_double}, index);
        weight = static_cast<float>(number_at(
            {points.weight.data + map * sets.weight_step, points.weight.stride, points.weight.is_double}, index));
    }
};

struct FixationMapBody {
    static constexpr int kThreads = kTileThreads;
    using Shared = TileShared;

    PointSets sets;
    double sigma;
    ImagesOut out;

    template <typename Thread>
    EMERT_BODY void operator()(Thread& thread, Shared& shared) const {
        const TilePlace place = tile_place(thread, out.height, out.width);
        const int map = thread.block_z();
        float total[kTileRows];
        gather_tile(thread, shared, place, sigma, static_cast<int>(sets.points.count), PointsOfMap{sets, map}, total);
        const std::ptrdiff_t first_row = static_cast<std::ptrdiff_t>(map) * out.height;
        each_tile_pixel(thread, place, [&](int row, int column, int i) {
            write_value(out.values, (first_row + row) * out.width + column, total[i]);
        });
    }
};

}  // namespace

cudaError_t fixation_map(const PointSets& sets, double sigma, const ImagesOut& out, cudaStream_t stream) {
    return launch(FixationMapBody{sets, sigma, out}, tile_grid(out.height, out.width, out.count), stream);
}

}  // namespace emert::cuda
