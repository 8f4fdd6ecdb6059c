// Python arguments, checked once at the border; messages name the argument.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "emert/affine.hpp"
#include "emert/views.hpp"

namespace emert::python {

namespace py = pybind11;

struct Extent {
    std::int32_t height;
    std::int32_t width;
};

/// (height, width), both positive.
Extent extent_argument(py::handle value, const char* name);

/// A finite number above 0.
double positive_argument(double value, const char* name);

/// float64 and float32 arrays as they are, other real numbers converted.
struct NumbersArgument {
    py::array array;

    Column column(py::ssize_t index = 0) const;
};

/// Numbers of any shape; the caller checks that.
NumbersArgument numbers_argument(py::handle value, const char* name);

/// (n, 2) points and their n weights.
struct PointsArgument {
    NumbersArgument xy;
    NumbersArgument weight;
    Points points;
};

PointsArgument points_argument(py::handle xy, py::handle weight);

/// uint8 (height, width, 3) of any strides.
struct FrameArgument {
    py::array array;
    FrameView view;
};

FrameArgument frame_argument(py::handle value, const char* name);

/// float32 (height, width) of any strides.
struct PlaneArgument {
    py::array array;
    PlaneView view;
};

PlaneArgument plane_argument(py::handle value, const char* name);

/// What takes the frame's channels, in `color`'s order, to normalised planes R, G, B.
ChannelMap channels_argument(py::handle mean, py::handle std, const std::string& color);

/// A (2, 3) affine, inverted.
SourceMap source_argument(py::handle affine);

/// As many as an (n, 2, 3) array has.
std::vector<SourceMap> sources_argument(py::handle affine);

/// A writable, C-contiguous float32 output of `planes` planes (0: a single plane without that axis), apart from the
/// inputs' memory.
PlanesOut out_argument(py::handle value, int planes, std::initializer_list<py::array> inputs);

/// A fresh output of the same kind.
py::array_t<float> make_out(int planes, Extent extent);
PlanesOut view_of(py::array_t<float>& out, Extent extent);

}  // namespace emert::python
