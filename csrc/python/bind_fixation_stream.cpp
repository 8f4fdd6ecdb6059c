#include "kernels/fixation_stream.hpp"
#include "python/arguments.hpp"
#include "python/bindings.hpp"
#include "python/samples.hpp"

namespace emert::python {

namespace {

void add(FixationStream& stream, py::handle t_ns, py::handle x, py::handle y, py::handle weight) {
    const SamplesArgument samples(t_ns, x, y, weight);
    const TimeColumn times = samples.times();
    const Points points = samples.points();
    const py::gil_scoped_release released;
    stream.add(times, points);
}

void read_to(const FixationStream& stream, std::int64_t t_ns, float* out) {
    bool done;
    {
        const py::gil_scoped_release released;
        done = stream.read(t_ns, out);
    }
    if (!done) throw py::value_error("t_ns is before the newest sample: what came later cannot be taken back");
}

py::array_t<float> read(const FixationStream& stream, py::handle t_ns) {
    const std::int64_t time = time_argument(t_ns, "t_ns");
    py::array_t<float> out = make_out(0, {stream.height(), stream.width()});
    read_to(stream, time, out.mutable_data());
    return out;
}

void read_into(const FixationStream& stream, py::handle out, py::handle t_ns) {
    const std::int64_t time = time_argument(t_ns, "t_ns");
    const PlanesOut view = out_argument(out, 0, {});
    if (view.height != stream.height() || view.width != stream.width()) {
        throw py::value_error("out must have the map's shape (" + std::to_string(stream.height()) + ", " +
                              std::to_string(stream.width()) + ")");
    }
    read_to(stream, time, view.data);
}

std::unique_ptr<FixationStream> make(py::handle shape, double sigma, double half_life_s) {
    const Extent extent = extent_argument(shape, "shape");
    positive_argument(sigma, "sigma");
    half_life_argument(half_life_s);
    return std::make_unique<FixationStream>(extent.height, extent.width, sigma, half_life_s);
}

}  // namespace

void register_fixation_stream(py::module_& module) {
    py::class_<FixationStream>(module, "FixationStream")
        .def(py::init(&make), py::arg("shape"), py::arg("sigma"), py::arg("half_life_s"))
        .def("add", &add, py::arg("t_ns"), py::arg("x"), py::arg("y"), py::arg("weight"))
        .def("read", &read, py::arg("t_ns"))
        .def("read_into", &read_into, py::arg("out"), py::arg("t_ns"))
        .def("reset", &FixationStream::reset, py::call_guard<py::gil_scoped_release>());
}

}  // namespace emert::python
