#include "kernels/isa.hpp"
#include "python/arguments.hpp"
#include "python/bindings.hpp"

namespace emert::python {

namespace {

void run(const FrameArgument& frame, const PlaneArgument& map, const ChannelMap& channels, const PlanesOut& out) {
    const py::gil_scoped_release released;
    cpu_bodies().fuse_gaze_frame(frame.view, map.view, channels, out);
}

py::array_t<float> fuse_gaze_frame(py::handle frame, py::handle fixation_map, py::handle size, py::handle mean,
                                   py::handle std, const std::string& color) {
    const FrameArgument pixels = frame_argument(frame, "frame");
    const PlaneArgument map = plane_argument(fixation_map, "fixation_map");
    const Extent extent = extent_argument(size, "size");
    const ChannelMap channels = channels_argument(mean, std, color);
    py::array_t<float> out = make_out(4, extent);
    run(pixels, map, channels, view_of(out, extent));
    return out;
}

void fuse_gaze_frame_into(py::handle out, py::handle frame, py::handle fixation_map, py::handle mean, py::handle std,
                          const std::string& color) {
    const FrameArgument pixels = frame_argument(frame, "frame");
    const PlaneArgument map = plane_argument(fixation_map, "fixation_map");
    const ChannelMap channels = channels_argument(mean, std, color);
    run(pixels, map, channels, out_argument(out, 4, {pixels.array, map.array}));
}

}  // namespace

void register_fuse_gaze_frame(py::module_& module) {
    module.def("fuse_gaze_frame", &fuse_gaze_frame, py::arg("frame"), py::arg("fixation_map"), py::arg("size"),
               py::arg("mean"), py::arg("std"), py::kw_only(), py::arg("color") = "bgr");
    module.def("fuse_gaze_frame_into", &fuse_gaze_frame_into, py::arg("out"), py::arg("frame"), py::arg("fixation_map"),
               py::arg("mean"), py::arg("std"), py::kw_only(), py::arg("color") = "bgr");
}

}  // namespace emert::python
