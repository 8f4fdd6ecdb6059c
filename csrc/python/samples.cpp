#include "python/samples.hpp"

namespace emert::python {

namespace {

bool is_scalar(py::handle value) {
    if (py::isinstance<py::array>(value)) return py::reinterpret_borrow<py::array>(value).ndim() == 0;
    return PyFloat_Check(value.ptr()) || PyLong_Check(value.ptr()) || PyNumber_Check(value.ptr()) == 1;
}

void take_length(Series& series, const char* name) {
    if (series.array.ndim() != 1) throw py::value_error(std::string(name) + " must be a number or one-dimensional");
    series.length = series.array.shape(0);
}

Series number_series(py::handle value, const char* name) {
    Series series;
    if (is_scalar(value)) {
        series.number = PyFloat_AsDouble(value.ptr());
        if (PyErr_Occurred()) {
            PyErr_Clear();
            throw py::type_error(std::string(name) + " must hold real numbers");
        }
        return series;
    }
    series.array = numbers_argument(value, name).array;
    take_length(series, name);
    return series;
}

Series time_series(py::handle value, const char* name) {
    const auto wrong = [name] { return py::type_error(std::string(name) + " must hold int64 nanoseconds"); };
    Series series;
    if (is_scalar(value)) {
        const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
        if (index) series.time = PyLong_AsLongLong(index.ptr());
        if (PyErr_Occurred()) {
            PyErr_Clear();
            throw wrong();
        }
        return series;
    }
    py::array array = py::array::ensure(value);
    if (!array) throw wrong();
    if (!py::isinstance<py::array_t<std::int64_t>>(array) && array.size() > 0) {
        const char kind = array.dtype().kind();
        if (kind != 'i' && !(kind == 'u' && array.itemsize() < 8)) throw wrong();
        array = py::array_t<std::int64_t, py::array::forcecast>::ensure(array);
    }
    series.array = array;
    take_length(series, name);
    return series;
}

Column column_of(const Series& series) {
    if (series.length < 0) return {reinterpret_cast<const char*>(&series.number), 0, true};
    return NumbersArgument{series.array}.column();
}

}  // namespace

SamplesArgument::SamplesArgument(py::handle t_ns, py::handle x, py::handle y, py::handle weight)
    : times_(time_series(t_ns, "t_ns")),
      x_(number_series(x, "x")),
      y_(number_series(y, "y")),
      weight_(number_series(weight, "weight")) {
    const auto agree = [this](const Series& series, const char* name) {
        if (series.length < 0) return;
        if (count_ >= 0 && series.length != count_) {
            throw py::value_error(std::string(name) + " must have " + std::to_string(count_) +
                                  " values like the arrays before it, not " + std::to_string(series.length));
        }
        count_ = series.length;
    };
    agree(times_, "t_ns");
    agree(x_, "x");
    agree(y_, "y");
    agree(weight_, "weight");
    if (count_ < 0) count_ = 1;
}

TimeColumn SamplesArgument::times() const {
    if (times_.length < 0) return {reinterpret_cast<const char*>(&times_.time), 0};
    return {static_cast<const char*>(times_.array.data()), times_.array.strides(0)};
}

Points SamplesArgument::points() const {
    return {column_of(x_), column_of(y_), column_of(weight_), count_};
}

std::int64_t time_argument(py::handle value, const char* name) {
    const Series series = time_series(value, name);
    if (series.length >= 0) throw py::type_error(std::string(name) + " must be one time");
    return series.time;
}

double half_life_argument(double half_life_s) {
    if (!(half_life_s > 0.0)) {
        throw py::value_error("half_life_s must be above 0 (infinite: nothing fades), not " +
                              std::to_string(half_life_s));
    }
    return half_life_s;
}

}  // namespace emert::python
