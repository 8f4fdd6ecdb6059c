#include "python/gaze_columns.hpp"

#include <string>

namespace emert::python {

GazeColumnsArgument::GazeColumnsArgument(py::handle t_ns, const py::sequence& arrays) {
    if (!py::isinstance<py::array_t<std::int64_t>>(t_ns)) throw py::type_error("t_ns must be an int64 array");
    t_ns_ = py::reinterpret_borrow<py::array>(t_ns);
    if (t_ns_.ndim() != 1) throw py::value_error("t_ns must have one dimension");
    if (arrays.size() != arrays_.size()) {
        throw py::value_error("arrays must be " + std::to_string(arrays_.size()) + ", not " +
                              std::to_string(arrays.size()));
    }
    for (std::size_t place = 0; place < arrays_.size(); ++place) {
        const py::object array = arrays[place];
        if (!py::isinstance<py::array_t<float>>(array)) throw py::type_error("arrays must be float32");
        arrays_[place] = py::reinterpret_borrow<py::array>(array);
        if (arrays_[place].ndim() != 1 || arrays_[place].shape(0) != t_ns_.shape(0)) {
            throw py::value_error("arrays must have one value for each time");
        }
    }
}

GazeColumns GazeColumnsArgument::columns() const {
    const auto column = [this](std::size_t place) {
        const py::array& array = arrays_[place];
        return FloatColumn{static_cast<const char*>(array.data()), array.strides(0)};
    };
    GazeColumns columns;
    columns.t_ns = {static_cast<const char*>(t_ns_.data()), t_ns_.strides(0)};
    columns.x = column(0);
    columns.y = column(1);
    columns.left_x = column(2);
    columns.left_y = column(3);
    columns.right_x = column(4);
    columns.right_y = column(5);
    columns.pupil_left = column(6);
    columns.pupil_right = column(7);
    columns.openness_left = column(8);
    columns.openness_right = column(9);
    columns.count = t_ns_.shape(0);
    return columns;
}

}  // namespace emert::python
