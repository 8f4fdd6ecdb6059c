#include "kernels/box_resample.hpp"
#include "kernels/fuse_gaze_frame.hpp"
#include "kernels/scratch.hpp"
#include "kernels/simd.hpp"

namespace emert::EMERT_ISA {

namespace {

void fill_spans(BoxSpan* spans, std::int32_t size, std::int32_t out_size) {
    const Resize axis = resize_axis(size, out_size);
    for (std::int32_t i = 0; i < out_size; ++i) spans[i] = resize_span(i, axis);
}

}  // namespace

void fuse_gaze_frame(const FrameView& frame, const PlaneView& map, const ChannelMap& channels, const PlanesOut& out) {
    const std::size_t columns = static_cast<std::size_t>(out.width);
    const std::size_t rows = static_cast<std::size_t>(out.height);
    const std::size_t frame_bytes = frame_scratch_bytes(frame.width, out.width);
    const std::size_t plane_bytes = plane_scratch_bytes(map.width);
    const std::size_t work_bytes = frame_bytes > plane_bytes ? frame_bytes : plane_bytes;
    Carver carver(scratch(Carver::padded(columns * sizeof(BoxSpan)) + Carver::padded(rows * sizeof(BoxSpan)) +
                          Carver::padded(work_bytes)));
    BoxSpan* column_spans = carver.take<BoxSpan>(columns);
    BoxSpan* row_spans = carver.take<BoxSpan>(rows);
    void* work = carver.take<char>(work_bytes);

    fill_spans(column_spans, frame.width, out.width);
    fill_spans(row_spans, frame.height, out.height);
    resample_frame(frame, {column_spans, row_spans}, channels, out, work);

    fill_spans(column_spans, map.width, out.width);
    fill_spans(row_spans, map.height, out.height);
    const PlanesOut last{out.data + static_cast<std::ptrdiff_t>(3) * out.height * out.width, out.height, out.width};
    resample_plane(map, {column_spans, row_spans}, last, work);
}

}  // namespace emert::EMERT_ISA
