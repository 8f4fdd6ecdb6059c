#include "kernels/box_tile.hpp"
#include "kernels/cuda_kernels.hpp"

namespace emert::cuda {

namespace {

constexpr int kCropsALaunch = 32;  // as many as travel by value

/// A face is some hundred pixels wide: three rows of a tile give each thread something to read.
constexpr int kFewRows = 3;

/// So many blocks occupy the largest GPU several times over; then each may do more rows, which share what a block
/// begins with: the affine's inverse and the columns' spans.
constexpr std::int64_t kManyBlocks = 8192;

struct CropShared {
    BoxShared<FrameLanes> box;
    SourceMap source;
    bool invertible;
};

/// invert_affine for an affine that is upright: without its roots, and with two divisions instead of six.
EMERT_BODY bool invert_upright(const double affine[6], SourceMap& map) {
    const double across = 1.0 / affine[0], down = 1.0 / affine[4];
    map.m[0] = across;
    map.m[1] = 0.0;
    map.m[2] = 0.5 - across * affine[2];
    map.m[3] = 0.0;
    map.m[4] = down;
    map.m[5] = 0.5 - down * affine[5];
    map.side_x = fmax(1.0, fabs(across));
    map.side_y = fmax(1.0, fabs(down));
    map.share_x = fmin(1.0, fabs(affine[0]));
    map.share_y = fmin(1.0, fabs(affine[4]));
    bool finite = true;
    for (double value : map.m) finite = finite && fabs(value) < 1e100;
    return finite;
}

struct CropNormalizeBody {
    static constexpr int kThreads = kBoxThreads;
    static constexpr int kBlocks = 4;  // whose reads under way are many times what the memory needs
    using Shared = CropShared;

    SourceMap sources[kCropsALaunch];
    const double* affines;  // where they are, instead of `sources`
    Frames frames;
    std::int32_t unit;
    ChannelMap channels;
    ImagesOut out;
    Tiling tiling;

    EMERT_BODY void take_source(Shared& shared, int image) const {
        if (affines == nullptr) {
            shared.source = sources[image];
            shared.invertible = true;
            return;
        }
        const double* affine = affines + 6 * static_cast<std::ptrdiff_t>(image);
        const bool upright = affine[1] == 0.0 && affine[3] == 0.0;
        shared.invertible = upright ? invert_upright(affine, shared.source) : invert_affine(affine, shared.source);
    }

    /// Adds share * the mean over a row's pixels, of which `at` is the first.
    EMERT_BODY static void add_row(const FrameView& frame, const std::uint8_t* at, const BoxSpan& columns, float share,
                                   float (&mean)[3]) {
        float sum[3] = {};
        for (std::int32_t i = columns.first; i <= columns.last; ++i, at += frame.pixel_stride) {
            const float each = box_share(columns, i);
#pragma unroll
            for (int c = 0; c < 3; ++c) sum[c] += each * static_cast<float>(at[c * frame.channel_stride]);
        }
#pragma unroll
        for (int c = 0; c < 3; ++c) mean[c] += share * sum[c];
    }

    template <typename Thread>
    EMERT_BODY void upright_tile(Thread& thread, Shared& shared, const FrameLanes& lanes,
                                 const TilePlace& place) const {
        const SourceMap& source = shared.source;
        const int self = thread.index();
        if (self < place.columns) {
            shared.box.columns[self] = columns_at(source, upright_x(source, place.column + self), lanes.frame.width);
        } else if (self >= kBoxColumns && self - kBoxColumns < place.rows) {
            const int row = self - kBoxColumns;
            shared.box.rows[row] = rows_at(source, upright_y(source, place.row + row), lanes.frame.height);
        } else if (self == kThreads - 1) {
            const auto span = [&](int column) {
                return columns_at(source, upright_x(source, place.column + column), lanes.frame.width);
            };
            shared.box.plan = box_plan(lanes, place.rows, span(0), span(place.columns - 1));
        }
        thread.sync();
        BoxTile<FrameLanes> tile(lanes, shared.box, place.rows, place.columns);
        while (true) {
            tile.load(thread);
            thread.sync();
            tile.reduce(thread, [&](int row, int column, const float (&mean)[3]) {
                write_colours(out, channels,
                              pixel_place(out, 3, thread.block_z(), place.row + row, place.column + column), mean);
            });
            tile.next();
            if (!tile.more()) return;
            thread.sync();
        }
    }

    /// Boxes that lean have rows and columns of their own for each pixel; neighbouring threads read neighbouring bytes.
    template <typename Thread>
    EMERT_BODY void turned_tile(const Thread& thread, const SourceMap& source, const FrameView& frame,
                                const TilePlace& place) const {
        each_pixel(thread, place, [&](int row, int column) {
            const int v = place.row + row, u = place.column + column;
            const BoxSpan columns = columns_at(source, source_x(source, u, v), frame.width);
            const BoxSpan rows = rows_at(source, source_y(source, u, v), frame.height);
            float mean[3] = {};
            const std::uint8_t* at = frame.data + (rows.first * frame.row_stride + columns.first * frame.pixel_stride);
            for (std::int32_t i = rows.first; i <= rows.last; ++i, at += frame.row_stride) {
                add_row(frame, at, columns, box_share(rows, i), mean);
            }
            write_colours(out, channels, pixel_place(out, 3, thread.block_z(), v, u), mean);
        });
    }

    template <typename Thread>
    EMERT_BODY void operator()(Thread& thread, Shared& shared) const {
        const TilePlace place = box_place(thread, tiling, out);
        const int image = thread.block_z();
        FrameLanes lanes{frames.first, unit};
        lanes.frame.data += image * frames.step;
        if (thread.index() == 0) take_source(shared, image);
        thread.sync();
        if (!shared.invertible) {
            each_pixel(thread, place, [&](int row, int column) {
                write_colours(out, channels, pixel_place(out, 3, image, place.row + row, place.column + column),
                              {NAN, NAN, NAN});
            });
        } else if (is_upright(shared.source)) {
            upright_tile(thread, shared, lanes, place);
        } else {
            turned_tile(thread, shared.source, lanes.frame, place);
        }
    }
};

Tiling crop_tiling(const ImagesOut& out) {
    const std::int32_t columns = tile_columns(out.width);
    const std::int64_t blocks =
        static_cast<std::int64_t>(out.count) * pieces(out.width, columns) * pieces(out.height, kFewRows);
    return {blocks < kManyBlocks ? kFewRows : kBoxRows, columns};
}

}  // namespace

cudaError_t crop_normalize(const Frames& frames, const SourceMap* sources, const ChannelMap& channels,
                           const ImagesOut& out, cudaStream_t stream) {
    CropNormalizeBody body{{}, nullptr, frames, unit_bytes(frames.first, frames.step), channels, out, {}};
    const std::size_t image_bytes = static_cast<std::size_t>(3) * out.height * out.width *
                                    (out.values.half ? sizeof(std::uint16_t) : sizeof(float));
    for (std::int32_t first = 0; first < out.count; first += kCropsALaunch) {
        body.out.count = lesser(kCropsALaunch, out.count - first);
        body.tiling = crop_tiling(body.out);
        for (std::int32_t i = 0; i < body.out.count; ++i) body.sources[i] = sources[first + i];
        body.frames.first.data = frames.first.data + first * frames.step;
        body.out.values.data = static_cast<char*>(out.values.data) + static_cast<std::size_t>(first) * image_bytes;
        if (const cudaError_t status = launch(body, box_grid(body.tiling, body.out), stream)) return status;
    }
    return cudaSuccess;
}

cudaError_t crop_normalize_at(const Frames& frames, const double* affines, const ChannelMap& channels,
                              const ImagesOut& out, cudaStream_t stream) {
    const CropNormalizeBody body{{},       affines, frames,          unit_bytes(frames.first, frames.step),
                                 channels, out,     crop_tiling(out)};
    return launch(body, box_grid(body.tiling, out), stream);
}

}  // namespace emert::cuda
