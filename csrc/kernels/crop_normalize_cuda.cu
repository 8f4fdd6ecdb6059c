#include "kernels/box_row.hpp"
#include "kernels/cuda_kernels.hpp"

namespace emert::cuda {

namespace {

constexpr int kCropsALaunch = 32;  // as many as travel by value

struct CropShared {
    RowShared row;
    SourceMap source;
    bool invertible;
};

struct CropNormalizeBody {
    static constexpr int kThreads = kRowThreads;
    using Shared = CropShared;

    SourceMap sources[kCropsALaunch];
    const double* affines;  // where they are, instead of `sources`
    Frames frames;
    bool words;
    ChannelMap channels;
    ImagesOut out;

    /// The mean over one channel of a box that lies anywhere: neighbouring threads read neighbouring bytes.
    EMERT_BODY static float box_mean(const FrameView& frame, int channel, const BoxSpan& rows, const BoxSpan& columns) {
        const std::uint8_t* at = frame.data + channel * frame.channel_stride;
        float mean = 0.0f;
        for (std::int32_t row = rows.first; row <= rows.last; ++row) {
            mean += box_share(rows, row) * row_mean(at + row * frame.row_stride, frame.pixel_stride, columns);
        }
        return mean;
    }

    template <typename Thread>
    EMERT_BODY void operator()(Thread& thread, Shared& shared) const {
        const int self = thread.index();
        const int first = thread.block_x() * kRowColumns;
        const int columns = lesser(kRowColumns, out.width - first);
        const int v = thread.block_y();
        const int image = thread.block_z();
        FrameLanes lanes{frames.first, words};
        lanes.frame.data += image * frames.step;
        const FrameView& frame = lanes.frame;

        if (self == 0) {
            if (affines != nullptr) {
                shared.invertible = invert_affine(affines + 6 * static_cast<std::ptrdiff_t>(image), shared.source);
            } else {
                shared.source = sources[image];
                shared.invertible = true;
            }
        }
        thread.sync();
        const bool invertible = shared.invertible;
        const bool upright = is_upright(shared.source);
        if (invertible && self < columns) {
            const SourceMap& source = shared.source;
            const int u = first + self;
            const double x = upright ? upright_x(source, u) : source_x(source, u, v);
            shared.row.columns[self] = columns_at(source, x, frame.width);
            if (self == 0 || !upright) {
                const double y = upright ? upright_y(source, v) : source_y(source, u, v);
                shared.row.rows[self] = rows_at(source, y, frame.height);
            }
        }
        thread.sync();

        const RowTask task = row_task(thread, 3, columns);
        float mean = NAN;
        if (invertible && upright) {
            mean = row_box_mean(thread, shared.row, lanes, shared.row.rows[0], columns);
        } else if (invertible && task.own) {
            mean = box_mean(frame, task.channel, shared.row.rows[task.column], shared.row.columns[task.column]);
        }
        if (task.own) {
            write_value(out.values,
                        place_of(image, 3, channels.plane[task.channel], v, first + task.column, out.height, out.width),
                        normalised(channels, task.channel, mean));
        }
    }
};

}  // namespace

cudaError_t crop_normalize(const Frames& frames, const SourceMap* sources, const ChannelMap& channels,
                           const ImagesOut& out, cudaStream_t stream) {
    CropNormalizeBody body{{}, nullptr, frames, reads_words(frames.first, frames.step), channels, out};
    const std::size_t image_bytes = static_cast<std::size_t>(3) * out.height * out.width *
                                    (out.values.half ? sizeof(std::uint16_t) : sizeof(float));
    for (std::int32_t first = 0; first < out.count; first += kCropsALaunch) {
        body.out.count = lesser(kCropsALaunch, out.count - first);
        for (std::int32_t i = 0; i < body.out.count; ++i) body.sources[i] = sources[first + i];
        body.frames.first.data = frames.first.data + first * frames.step;
        body.out.values.data = static_cast<char*>(out.values.data) + static_cast<std::size_t>(first) * image_bytes;
        if (const cudaError_t status = launch(body, row_grid(out.height, out.width, body.out.count), stream)) {
            return status;
        }
    }
    return cudaSuccess;
}

cudaError_t crop_normalize_at(const Frames& frames, const double* affines, const ChannelMap& channels,
                              const ImagesOut& out, cudaStream_t stream) {
    const CropNormalizeBody body{{}, affines, frames, reads_words(frames.first, frames.step), channels, out};
    return launch(body, row_grid(out.height, out.width, out.count), stream);
}

}  // namespace emert::cuda
