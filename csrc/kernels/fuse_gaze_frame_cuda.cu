#include "kernels/box_row.hpp"
#include "kernels/cuda_kernels.hpp"

namespace emert::cuda {

namespace {

struct FuseGazeFrameBody {
    static constexpr int kThreads = kRowThreads;
    using Shared = RowShared;

    Frames frames;
    bool words;
    Planes maps;
    Resize frame_columns;
    Resize frame_rows;
    Resize map_columns;
    Resize map_rows;
    ChannelMap channels;
    ImagesOut out;

    template <typename Thread>
    EMERT_BODY void take_spans(Thread& thread, Shared& shared, const Resize& across, const Resize& down, int first,
                               int columns) const {
        const int self = thread.index();
        if (self < columns) shared.columns[self] = resize_span(first + self, across);
        if (self == kThreads - 1) shared.rows[0] = resize_span(thread.block_y(), down);
        thread.sync();
    }

    template <typename Thread>
    EMERT_BODY void operator()(Thread& thread, Shared& shared) const {
        const int first = thread.block_x() * kRowColumns;
        const int columns = lesser(kRowColumns, out.width - first);
        const int row = thread.block_y();
        const int image = thread.block_z();

        take_spans(thread, shared, frame_columns, frame_rows, first, columns);
        FrameLanes frame{frames.first, words};
        frame.frame.data += image * frames.step;
        const float mean = row_box_mean(thread, shared, frame, shared.rows[0], columns);
        const RowTask colour = row_task(thread, 3, columns);
        if (colour.own) {
            write_value(
                out.values,
                place_of(image, 4, channels.plane[colour.channel], row, first + colour.column, out.height, out.width),
                normalised(channels, colour.channel, mean));
        }

        take_spans(thread, shared, map_columns, map_rows, first, columns);
        PlaneLanes map{maps.first};
        map.plane.data += image * maps.step;
        const float gaze = row_box_mean(thread, shared, map, shared.rows[0], columns);
        const RowTask own = row_task(thread, 1, columns);
        if (own.own) {
            write_value(out.values, place_of(image, 4, 3, row, first + own.column, out.height, out.width), gaze);
        }
    }
};

}  // namespace

cudaError_t fuse_gaze_frame(const Frames& frames, const Planes& maps, const ChannelMap& channels, const ImagesOut& out,
                            cudaStream_t stream) {
    const FrameView& frame = frames.first;
    const PlaneView& map = maps.first;
    const FuseGazeFrameBody body{frames,
                                 reads_words(frame, frames.step),
                                 maps,
                                 resize_axis(frame.width, out.width),
                                 resize_axis(frame.height, out.height),
                                 resize_axis(map.width, out.width),
                                 resize_axis(map.height, out.height),
                                 channels,
                                 out};
    return launch(body, row_grid(out.height, out.width, out.count), stream);
}

}  // namespace emert::cuda
