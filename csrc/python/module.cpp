#include "python/bindings.hpp"

PYBIND11_MODULE(_core, module) {
    module.doc() = "The compiled core; emert_edge.kernels is its public face.";
    emert::python::register_fixation_map(module);
    emert::python::register_fixation_stream(module);
    emert::python::register_fuse_gaze_frame(module);
    emert::python::register_crop_normalize(module);
    emert::python::register_isa(module);
    emert::python::register_event_stream(module);
    emert::python::register_token_features(module);
    emert::python::register_text(module);
}
