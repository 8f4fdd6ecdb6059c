// Gaze samples as arguments: int64 times, and ten float32 columns of one length.
#pragma once

#include <pybind11/numpy.h>

#include <array>

#include "eye/gaze_columns.hpp"

namespace emert::python {

namespace py = pybind11;

/// Checked; what it hands out points into the arrays that it holds.
class GazeColumnsArgument {
  public:
    /// `arrays`: x, y, left x, left y, right x, right y, pupil left, right, openness left, right.
    GazeColumnsArgument(py::handle t_ns, const py::sequence& arrays);

    GazeColumns columns() const;

  private:
    py::array t_ns_;
    std::array<py::array, 10> arrays_;
};

}  // namespace emert::python
