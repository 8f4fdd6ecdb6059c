#include "eye/token_features.hpp"
#include "python/bindings.hpp"
#include "python/gaze_columns.hpp"

namespace emert::python {

namespace {

py::array_t<float> features(py::handle t_ns, const py::sequence& arrays, std::int64_t start_ns, std::int64_t stop_ns,
                            std::int64_t tokens) {
    const GazeColumnsArgument samples(t_ns, arrays);
    if (tokens < 1 || stop_ns <= start_ns) throw py::value_error("there must be a token, and a span");
    const GazeColumns columns = samples.columns();
    py::array_t<float> out({static_cast<py::ssize_t>(tokens), static_cast<py::ssize_t>(kFeatures)});
    float* rows = out.mutable_data();
    {
        const py::gil_scoped_release released;
        token_features(columns, start_ns, stop_ns, tokens, rows);
    }
    return out;
}

}  // namespace

void register_token_features(py::module_& module) {
    module.def("token_features", &features, py::arg("t_ns"), py::arg("arrays"), py::arg("start_ns"), py::arg("stop_ns"),
               py::arg("tokens"));
}

}  // namespace emert::python
