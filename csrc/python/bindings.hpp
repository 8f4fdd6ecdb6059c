// One function a file of bindings.
#pragma once

#include <pybind11/pybind11.h>

namespace emert::python {

void register_fixation_map(pybind11::module_& module);
void register_fixation_stream(pybind11::module_& module);
void register_fuse_gaze_frame(pybind11::module_& module);
void register_crop_normalize(pybind11::module_& module);
void register_isa(pybind11::module_& module);
void register_event_stream(pybind11::module_& module);
void register_token_features(pybind11::module_& module);
void register_text(pybind11::module_& module);

}  // namespace emert::python
