#include "kernels/box_tile.hpp"
#include "kernels/cuda_kernels.hpp"

namespace emert::cuda {

namespace {

constexpr int kMostFusedRows = 4;

struct FuseShared {
    BoxShared<FrameLanes> frame;
    BoxShared<PlaneLanes> map;
};

struct FuseGazeFrameBody {
    static constexpr int kThreads = kBoxThreads;
    static constexpr int kBlocks = 4;  // whose reads under way are many times what the memory needs
    using Shared = FuseShared;

    Frames frames;
    std::int32_t unit;
    Planes maps;
    Resize axes[4];  // the frame's columns and rows, the map's columns and rows
    ChannelMap channels;
    ImagesOut out;
    Tiling tiling;
    bool copied;  // the map, which has the output's size

    /// Once for the tile: a thread finds a span, and one in another warp what follows from the outermost columns'.
    template <typename Thread, typename Lanes>
    EMERT_BODY void take_plan(const Thread& thread, BoxShared<Lanes>& shared, const Lanes& lanes,
                              const TilePlace& place, const Resize& axis, int who) const {
        if (thread.index() != who) return;
        shared.plan = box_plan(lanes, place.rows, resize_span(place.column, axis),
                               resize_span(place.column + place.columns - 1, axis));
    }

    template <typename Thread>
    EMERT_BODY void take_spans(const Thread& thread, Shared& shared, const TilePlace& place) const {
        const int each = place.columns + place.rows;
        for (int task = thread.index(); task < (copied ? each : 2 * each); task += kThreads) {
            const bool of_map = task >= each;
            const int at = of_map ? task - each : task;
            const bool down = at >= place.columns;
            const int index = down ? at - place.columns : at;
            BoxSpan* spans = of_map ? (down ? shared.map.rows : shared.map.columns)
                                    : (down ? shared.frame.rows : shared.frame.columns);
            spans[index] = resize_span((down ? place.row : place.column) + index, axes[2 * of_map + down]);
        }
    }

    EMERT_BODY PixelPlace pixel(int image, const TilePlace& tile, int row, int column) const {
        return pixel_place(out, 4, image, tile.row + row, tile.column + column);
    }

    EMERT_BODY void write_map(int image, const TilePlace& tile, int row, int column, float value) const {
        const PixelPlace at = pixel(image, tile, row, column);
        write_value(out.values, at.at + 3 * at.plane, value);
    }

    template <typename Thread>
    EMERT_BODY void operator()(Thread& thread, Shared& shared) const {
        const TilePlace place = box_place(thread, tiling, out);
        const int image = thread.block_z();
        FrameLanes frame{frames.first, unit};
        frame.frame.data += image * frames.step;
        PlaneLanes map{maps.first};
        map.plane.data += image * maps.step;
        take_spans(thread, shared, place);
        take_plan(thread, shared.frame, frame, place, axes[0], kThreads - 1);
        if (!copied) {
            take_plan(thread, shared.map, map, place, axes[2], kThreads - 33);
        } else {
            each_pixel(thread, place, [&](int row, int column) {
                const char* from = map.plane.data + ((place.row + row) * map.plane.row_stride +
                                                     (place.column + column) * map.plane.column_stride);
                write_map(image, place, row, column, *reinterpret_cast<const float*>(from));
            });
        }
        thread.sync();

        BoxTile<FrameLanes> colours(frame, shared.frame, place.rows, place.columns);
        BoxTile<PlaneLanes> gaze(map, shared.map, copied ? 0 : place.rows, place.columns);
        while (true) {
            if (colours.more()) colours.load(thread);
            if (gaze.more()) gaze.load(thread);
            thread.sync();
            if (colours.more()) {
                colours.reduce(thread, [&](int row, int column, const float (&mean)[3]) {
                    write_colours(out, channels, pixel(image, place, row, column), mean);
                });
                colours.next();
            }
            if (gaze.more()) {
                gaze.reduce(thread, [&](int row, int column, const float (&mean)[1]) {
                    write_map(image, place, row, column, mean[0]);
                });
                gaze.next();
            }
            if (!colours.more() && !gaze.more()) break;
            thread.sync();
        }
    }
};

/// As many rows as give each thread something to read.
Tiling fusion_tiling(const FrameView& frame, std::int32_t unit, std::int32_t width) {
    const std::int32_t columns = tile_columns(width);
    const std::int64_t units = static_cast<std::int64_t>(3) * frame.width / pieces(width, columns) / unit + 1;
    return {greater(lesser(static_cast<std::int32_t>(kBoxThreads / units), kMostFusedRows), 1), columns};
}

}  // namespace

cudaError_t fuse_gaze_frame(const Frames& frames, const Planes& maps, const ChannelMap& channels, const ImagesOut& out,
                            cudaStream_t stream) {
    const FrameView& frame = frames.first;
    const PlaneView& map = maps.first;
    const std::int32_t unit = unit_bytes(frame, frames.step);
    const FuseGazeFrameBody body{frames,
                                 unit,
                                 maps,
                                 {resize_axis(frame.width, out.width), resize_axis(frame.height, out.height),
                                  resize_axis(map.width, out.width), resize_axis(map.height, out.height)},
                                 channels,
                                 out,
                                 fusion_tiling(frame, unit, out.width),
                                 map.width == out.width && map.height == out.height};
    return launch(body, box_grid(body.tiling, out), stream);
}

}  // namespace emert::cuda
