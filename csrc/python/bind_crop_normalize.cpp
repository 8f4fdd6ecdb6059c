#include "kernels/isa.hpp"
#include "python/arguments.hpp"
#include "python/bindings.hpp"

namespace emert::python {

namespace {

void run(const FrameArgument& frame, const SourceMap& source, const ChannelMap& channels, const PlanesOut& out) {
    const py::gil_scoped_release released;
    cpu_bodies().crop_normalize(frame.view, source, channels, out);
}

py::array_t<float> crop_normalize(py::handle frame, py::handle affine, py::handle size, py::handle mean, py::handle std,
                                  const std::string& color) {
    const FrameArgument pixels = frame_argument(frame, "frame");
    const SourceMap source = source_argument(affine);
    const Extent extent = extent_argument(size, "size");
    const ChannelMap channels = channels_argument(mean, std, color);
    py::array_t<float> out = make_out(3, extent);
    run(pixels, source, channels, view_of(out, extent));
    return out;
}

void crop_normalize_into(py::handle out, py::handle frame, py::handle affine, py::handle mean, py::handle std,
                         const std::string& color) {
    const FrameArgument pixels = frame_argument(frame, "frame");
    const SourceMap source = source_argument(affine);
    const ChannelMap channels = channels_argument(mean, std, color);
    run(pixels, source, channels, out_argument(out, 3, {pixels.array}));
}

}  // namespace

void register_crop_normalize(py::module_& module) {
    module.def("crop_normalize", &crop_normalize, py::arg("frame"), py::arg("affine"), py::arg("size"), py::arg("mean"),
               py::arg("std"), py::kw_only(), py::arg("color") = "bgr");
    module.def("crop_normalize_into", &crop_normalize_into, py::arg("out"), py::arg("frame"), py::arg("affine"),
               py::arg("mean"), py::arg("std"), py::kw_only(), py::arg("color") = "bgr");
}

}  // namespace emert::python
