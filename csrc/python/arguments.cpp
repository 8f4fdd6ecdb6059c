#include "python/arguments.hpp"

#include <cmath>
#include <limits>

namespace emert::python {

namespace {

std::string shape_text(const py::array& array) {
    std::string text = "(";
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
        text += (axis > 0 ? ", " : "") + std::to_string(array.shape(axis));
    }
    return text + (array.ndim() == 1 ? ",)" : ")");
}

std::string dtype_text(const py::array& array) {
    return py::cast<std::string>(py::str(array.dtype()));
}

[[noreturn]] void wrong_shape(const char* name, const std::string& wanted, const py::array& got) {
    throw py::value_error(std::string(name) + " must have shape " + wanted + ", not " + shape_text(got));
}

py::array array_argument(py::handle value, const char* name) {
    if (!py::isinstance<py::array>(value)) {
        throw py::type_error(std::string(name) + " must be a numpy.ndarray, not " +
                             py::cast<std::string>(py::type::of(value).attr("__name__")));
    }
    return py::reinterpret_borrow<py::array>(value);
}

std::int32_t pixels_of(py::ssize_t size, const char* name) {
    if (size < 1) throw py::value_error(std::string(name) + " must have at least one pixel a side");
    if (size > std::numeric_limits<std::int32_t>::max() / 4) {
        throw py::value_error(std::string(name) + " is too large: " + std::to_string(size) + " pixels a side");
    }
    return static_cast<std::int32_t>(size);
}

struct MemoryRange {
    const char* begin;
    const char* end;
};

MemoryRange memory_of(const py::array& array) {
    const char* begin = static_cast<const char*>(array.data());
    const char* end = begin;
    if (array.size() == 0) return {begin, begin};
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
        const py::ssize_t reach = (array.shape(axis) - 1) * array.strides(axis);
        (reach < 0 ? begin : end) += reach;
    }
    return {begin, end + array.itemsize()};
}

void triple_argument(py::handle value, const char* name, double (&numbers)[3]) {
    const NumbersArgument triple = numbers_argument(value, name);
    if (triple.array.ndim() != 1 || triple.array.shape(0) != 3) wrong_shape(name, "(3,): R, G, B", triple.array);
    const auto values = py::array_t<double, py::array::forcecast>::ensure(triple.array);
    for (int i = 0; i < 3; ++i) {
        numbers[i] = values.at(i);
        if (!std::isfinite(numbers[i])) throw py::value_error(std::string(name) + " must be finite");
    }
}

SourceMap invert(const double (&affine)[6]) {
    for (double value : affine) {
        if (!std::isfinite(value)) throw py::value_error("affine must be finite");
    }
    SourceMap source;
    if (!invert_affine(affine, source)) throw py::value_error("affine must be invertible");
    return source;
}

}  // namespace

Extent extent_argument(py::handle value, const char* name) {
    std::int32_t sides[2];
    const auto wrong = [name] { return py::value_error(std::string(name) + " must be (height, width)"); };
    if (!PySequence_Check(value.ptr())) {
        throw py::type_error(std::string(name) + " must be (height, width), two integers");
    }
    const auto sequence = py::reinterpret_borrow<py::sequence>(value);
    if (sequence.size() != 2) throw wrong();
    for (std::size_t i = 0; i < 2; ++i) {
        const py::object item = sequence[i];
        const py::ssize_t side = PyNumber_AsSsize_t(item.ptr(), nullptr);
        if (side == -1 && PyErr_Occurred()) {
            PyErr_Clear();
            throw py::type_error(std::string(name) + " must be (height, width), two integers");
        }
        sides[i] = pixels_of(side, name);
    }
    return {sides[0], sides[1]};
}

double positive_argument(double value, const char* name) {
    if (!std::isfinite(value) || value <= 0.0) {
        throw py::value_error(std::string(name) + " must be finite and above 0, not " + std::to_string(value));
    }
    return value;
}

Column NumbersArgument::column(py::ssize_t index) const {
    const char* data = static_cast<const char*>(array.data());
    if (array.ndim() == 2 && array.size() > 0) data += index * array.strides(1);
    return {data, array.ndim() == 0 ? 0 : array.strides(0), array.itemsize() == sizeof(double)};
}

NumbersArgument numbers_argument(py::handle value, const char* name) {
    py::array array = py::array::ensure(value);
    const auto wrong = [&](const std::string& what) {
        return py::type_error(std::string(name) + " must hold real numbers, not " + what);
    };
    if (!array) throw wrong(py::cast<std::string>(py::type::of(value).attr("__name__")));
    if (py::isinstance<py::array_t<double>>(array) || py::isinstance<py::array_t<float>>(array)) return {array};
    const char kind = array.dtype().kind();
    if (kind != 'f' && kind != 'i' && kind != 'u') throw wrong(dtype_text(array));
    return {py::array_t<double, py::array::forcecast>::ensure(array)};
}

PointsArgument points_argument(py::handle xy, py::handle weight) {
    PointsArgument argument{numbers_argument(xy, "xy"), numbers_argument(weight, "weight"), {}};
    const py::array& points = argument.xy.array;
    const py::array& weights = argument.weight.array;
    const bool none = points.ndim() == 1 && points.shape(0) == 0;  // what an empty list becomes
    if (!none && (points.ndim() != 2 || points.shape(1) != 2)) wrong_shape("xy", "(n, 2)", points);
    if (weights.ndim() != 1 || weights.shape(0) != points.shape(0)) {
        wrong_shape("weight", "(" + std::to_string(points.shape(0)) + ",), one for each point of xy", weights);
    }
    argument.points = {argument.xy.column(0), argument.xy.column(1), argument.weight.column(), points.shape(0)};
    return argument;
}

FrameArgument frame_argument(py::handle value, const char* name) {
    py::array array = array_argument(value, name);
    if (!py::isinstance<py::array_t<std::uint8_t>>(array)) {
        throw py::type_error(std::string(name) + " must be uint8, not " + dtype_text(array));
    }
    if (array.ndim() != 3 || array.shape(2) != 3) wrong_shape(name, "(height, width, 3)", array);
    const FrameView view{static_cast<const std::uint8_t*>(array.data()),
                         pixels_of(array.shape(0), name),
                         pixels_of(array.shape(1), name),
                         array.strides(0),
                         array.strides(1),
                         array.strides(2)};
    return {array, view};
}

PlaneArgument plane_argument(py::handle value, const char* name) {
    py::array array = array_argument(value, name);
    if (!py::isinstance<py::array_t<float>>(array)) {
        throw py::type_error(std::string(name) + " must be float32, not " + dtype_text(array));
    }
    if (array.ndim() != 2) wrong_shape(name, "(height, width)", array);
    if ((array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0) {
        throw py::value_error(std::string(name) + " must be aligned; numpy.ascontiguousarray() makes it so");
    }
    const PlaneView view{static_cast<const char*>(array.data()), pixels_of(array.shape(0), name),
                         pixels_of(array.shape(1), name), array.strides(0), array.strides(1)};
    return {array, view};
}

ChannelMap channels_argument(py::handle mean, py::handle std, const std::string& color) {
    if (color != "bgr" && color != "rgb") {
        throw py::value_error("color must be \"bgr\" or \"rgb\", not \"" + color + "\"");
    }
    double means[3];
    double deviations[3];
    triple_argument(mean, "mean", means);
    triple_argument(std, "std", deviations);
    ChannelMap channels;
    for (int channel = 0; channel < 3; ++channel) {
        const int plane = color == "rgb" ? channel : 2 - channel;
        channels.plane[channel] = plane;
        channels.scale[channel] = static_cast<float>(1.0 / (255.0 * deviations[plane]));
        channels.offset[channel] = static_cast<float>(-means[plane] / deviations[plane]);
        if (!std::isfinite(channels.scale[channel]) || !std::isfinite(channels.offset[channel])) {
            throw py::value_error("std must not be 0, nor so small that float32 overflows");
        }
    }
    return channels;
}

std::vector<SourceMap> sources_argument(py::handle affine) {
    const NumbersArgument numbers = numbers_argument(affine, "affine");
    const py::array& array = numbers.array;
    const py::ssize_t axes = array.ndim();
    if (axes != 3 || array.shape(1) != 2 || array.shape(2) != 3) wrong_shape("affine", "(2, 3) or (n, 2, 3)", array);
    const auto matrices = py::array_t<double, py::array::forcecast>::ensure(array);
    std::vector<SourceMap> sources;
    for (py::ssize_t i = 0; i < array.shape(0); ++i) {
        double values[6];
        for (int k = 0; k < 6; ++k) values[k] = matrices.at(i, k / 3, k % 3);
        sources.push_back(invert(values));
    }
    return sources;
}

SourceMap source_argument(py::handle affine) {
    const NumbersArgument numbers = numbers_argument(affine, "affine");
    if (numbers.array.ndim() != 2 || numbers.array.shape(0) != 2 || numbers.array.shape(1) != 3) {
        throw py::value_error("affine must have shape (2, 3)");
    }
    const auto matrix = py::array_t<double, py::array::forcecast>::ensure(numbers.array);
    double values[6];
    for (int i = 0; i < 6; ++i) {
        values[i] = matrix.at(i / 3, i % 3);
    }
    return invert(values);
}

PlanesOut out_argument(py::handle value, int planes, std::initializer_list<py::array> inputs) {
    py::array array = array_argument(value, "out");
    if (!py::isinstance<py::array_t<float>>(array)) {
        throw py::type_error("out must be float32, not " + dtype_text(array));
    }
    const std::string wanted = planes == 0 ? "(height, width)" : "(" + std::to_string(planes) + ", height, width)";
    if (array.ndim() != (planes == 0 ? 2 : 3) || (planes != 0 && array.shape(0) != planes)) {
        wrong_shape("out", wanted, array);
    }
    if (!array.writeable()) throw py::value_error("out must be writable");
    const int wanted_flags = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    if ((array.flags() & wanted_flags) != wanted_flags) throw py::value_error("out must be C-contiguous and aligned");
    const PlanesOut out{static_cast<float*>(array.mutable_data()), pixels_of(array.shape(array.ndim() - 2), "out"),
                        pixels_of(array.shape(array.ndim() - 1), "out")};
    const MemoryRange written = memory_of(array);
    for (const py::array& input : inputs) {
        const MemoryRange read = memory_of(input);
        if (read.begin < written.end && written.begin < read.end) {
            throw py::value_error("out must not share memory with an input");
        }
    }
    return out;
}

py::array_t<float> make_out(int planes, Extent extent) {
    if (planes == 0) return py::array_t<float>({py::ssize_t{extent.height}, py::ssize_t{extent.width}});
    return py::array_t<float>({py::ssize_t{planes}, py::ssize_t{extent.height}, py::ssize_t{extent.width}});
}

PlanesOut view_of(py::array_t<float>& out, Extent extent) {
    return {out.mutable_data(), extent.height, extent.width};
}

}  // namespace emert::python
