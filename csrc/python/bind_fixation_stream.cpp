#include <cmath>
#include <optional>

#include "kernels/fixation_stream.hpp"
#include "python/arguments.hpp"
#include "python/bindings.hpp"

namespace emert::python {

namespace {

/// One argument of add(): a scalar, which goes with every sample, or a column.
struct Series {
    py::array array;  // keeps the column's memory
    double number = 0.0;
    std::int64_t time = 0;
    std::ptrdiff_t length = -1;  // -1: a scalar
};

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

TimeColumn times_of(const Series& series) {
    if (series.length < 0) return {reinterpret_cast<const char*>(&series.time), 0};
    return {static_cast<const char*>(series.array.data()), series.array.strides(0)};
}

void add(FixationStream& stream, py::handle t_ns, py::handle x, py::handle y, py::handle weight) {
    const Series times = time_series(t_ns, "t_ns");
    const Series xs = number_series(x, "x");
    const Series ys = number_series(y, "y");
    const Series weights = number_series(weight, "weight");
    std::ptrdiff_t count = -1;
    const auto agree = [&count](const Series& series, const char* name) {
        if (series.length < 0) return;
        if (count >= 0 && series.length != count) {
            throw py::value_error(std::string(name) + " must have " + std::to_string(count) +
                                  " values like the arrays before it, not " + std::to_string(series.length));
        }
        count = series.length;
    };
    agree(times, "t_ns");
    agree(xs, "x");
    agree(ys, "y");
    agree(weights, "weight");
    const Points points{column_of(xs), column_of(ys), column_of(weights), count < 0 ? 1 : count};
    const TimeColumn time_column = times_of(times);
    const py::gil_scoped_release released;
    stream.add(time_column, points);
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
    const Series time = time_series(t_ns, "t_ns");
    if (time.length >= 0) throw py::type_error("t_ns must be one time");
    py::array_t<float> out = make_out(0, {stream.height(), stream.width()});
    read_to(stream, time.time, out.mutable_data());
    return out;
}

void read_into(const FixationStream& stream, py::handle out, py::handle t_ns) {
    const Series time = time_series(t_ns, "t_ns");
    if (time.length >= 0) throw py::type_error("t_ns must be one time");
    const PlanesOut view = out_argument(out, 0, {});
    if (view.height != stream.height() || view.width != stream.width()) {
        throw py::value_error("out must have the map's shape (" + std::to_string(stream.height()) + ", " +
                              std::to_string(stream.width()) + ")");
    }
    read_to(stream, time.time, view.data);
}

std::unique_ptr<FixationStream> make(py::handle shape, double sigma, double half_life_s) {
    const Extent extent = extent_argument(shape, "shape");
    positive_argument(sigma, "sigma");
    if (!(half_life_s > 0.0)) {
        throw py::value_error("half_life_s must be above 0 (infinite: nothing fades), not " +
                              std::to_string(half_life_s));
    }
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
