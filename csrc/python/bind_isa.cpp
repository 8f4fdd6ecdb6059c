#include <pybind11/stl.h>

#include <string>

#include "kernels/isa.hpp"
#include "python/bindings.hpp"

namespace emert::python {

namespace py = pybind11;

namespace {

std::vector<std::string> available() {
    std::vector<std::string> names;
    for (const CpuBodies* bodies : available_cpu_bodies()) names.emplace_back(bodies->name);
    return names;
}

void choose(const std::string& name) {
    if (!choose_cpu_bodies(name.c_str())) throw py::value_error("this CPU has no bodies named \"" + name + "\"");
}

}  // namespace

void register_isa(py::module_& module) {
    module.def("isa", [] { return cpu_bodies().name; });
    module.def("available_isas", &available);
    module.def("choose_isa", &choose, py::arg("name"));
}

}  // namespace emert::python
