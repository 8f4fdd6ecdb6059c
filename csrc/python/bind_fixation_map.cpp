#include "kernels/isa.hpp"
#include "python/arguments.hpp"
#include "python/bindings.hpp"

namespace emert::python {

namespace {

void run(const PointsArgument& argument, double sigma, const PlanesOut& out) {
    const py::gil_scoped_release released;
    cpu_bodies().fixation_map(argument.points, sigma, out);
}

py::array_t<float> fixation_map(py::handle xy, py::handle weight, py::handle shape, double sigma) {
    const PointsArgument points = points_argument(xy, weight);
    const Extent extent = extent_argument(shape, "shape");
    positive_argument(sigma, "sigma");
    py::array_t<float> out = make_out(0, extent);
    run(points, sigma, view_of(out, extent));
    return out;
}

void fixation_map_into(py::handle out, py::handle xy, py::handle weight, double sigma) {
    const PointsArgument points = points_argument(xy, weight);
    positive_argument(sigma, "sigma");
    run(points, sigma, out_argument(out, 0, {points.xy.array, points.weight.array}));
}

}  // namespace

void register_fixation_map(py::module_& module) {
    module.def("fixation_map", &fixation_map, py::arg("xy"), py::arg("weight"), py::arg("shape"), py::arg("sigma"));
    module.def("fixation_map_into", &fixation_map_into, py::arg("out"), py::arg("xy"), py::arg("weight"),
               py::arg("sigma"));
}

}  // namespace emert::python
