#include "python/cuda_arguments.hpp"

#include <pybind11/stl.h>

#include <limits>

namespace emert::python {

namespace {

/// DLPack's tensor, as its specification lays it out (version 0 and 1 alike, behind the older capsule).
struct DlTensor {
    void* data;
    std::int32_t device_type;
    std::int32_t device_id;
    std::int32_t axes;
    std::uint8_t type_code;  // 0 integer, 1 unsigned, 2 float
    std::uint8_t bits;
    std::uint16_t lanes;
    const std::int64_t* shape;
    const std::int64_t* strides;  // in items, or null
    std::uint64_t byte_offset;
};

constexpr int kDlCpu = 1;
constexpr int kDlCudaHost = 3;

std::string shape_text(const Strided& array) {
    std::string text = "(";
    for (std::size_t i = 0; i < array.shape.size(); ++i) {
        text += (i > 0 ? ", " : "") + std::to_string(array.shape[i]);
    }
    return text + (array.shape.size() == 1 ? ",)" : ")");
}

void take_contiguous_strides(Strided& array) {
    array.strides.resize(array.shape.size());
    std::ptrdiff_t step = array.itemsize();
    for (std::size_t i = array.shape.size(); i-- > 0;) {
        array.strides[i] = step;
        step *= array.shape[i];
    }
}

/// "<f4" and "f4" are what this machine reads; numbers of one byte have no order.
std::string native_type(const std::string& type, const char* name) {
    if (type.empty()) throw py::type_error(std::string(name) + " has no dtype");
    if (type[0] == '>') throw py::type_error(std::string(name) + " must be in the machine's byte order");
    return type[0] == '<' || type[0] == '|' || type[0] == '=' ? type.substr(1) : type;
}

Strided from_interface(py::handle value, const py::dict& interface, const char* name) {
    Strided array;
    array.owner = py::reinterpret_borrow<py::object>(value);
    array.type = native_type(interface["typestr"].cast<std::string>(), name);
    const auto data = interface["data"].cast<py::tuple>();
    array.address = data[0].is_none() ? 0 : data[0].cast<std::uintptr_t>();
    array.read_only = data[1].cast<bool>();
    array.shape = interface["shape"].cast<std::vector<std::ptrdiff_t>>();
    if (interface.contains("strides") && !interface["strides"].is_none()) {
        array.strides = interface["strides"].cast<std::vector<std::ptrdiff_t>>();
    } else {
        take_contiguous_strides(array);
    }
    if (interface.contains("mask") && !interface["mask"].is_none()) {
        throw py::type_error(std::string(name) + " must not be masked");
    }
    return array;
}

Strided from_numpy(const py::array& value, const char* name) {
    Strided array;
    array.owner = value;
    array.type = native_type(value.dtype().attr("str").cast<std::string>(), name);
    array.address = reinterpret_cast<std::uintptr_t>(value.data());
    array.read_only = !value.writeable();
    array.shape.assign(value.shape(), value.shape() + value.ndim());
    array.strides.assign(value.strides(), value.strides() + value.ndim());
    return array;
}

Strided from_dlpack(py::handle value, const char* name) {
    // The producer is told not to wait: who owns streams orders them, whatever protocol the memory comes by.
    const int device_type = value.attr("__dlpack_device__")().cast<py::tuple>()[0].cast<int>();
    const bool on_host = device_type == kDlCpu || device_type == kDlCudaHost;
    const py::object capsule =
        on_host ? value.attr("__dlpack__")() : value.attr("__dlpack__")(py::arg("stream") = py::int_(-1));
    const auto* tensor = static_cast<const DlTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
    if (tensor == nullptr) throw py::error_already_set();
    if (tensor->type_code > 2 || tensor->lanes != 1 || tensor->bits % 8 != 0) {
        throw py::type_error(std::string(name) + " must hold plain numbers");
    }
    Strided array;
    array.owner = py::make_tuple(value, capsule);
    array.type = std::string(1, "iuf"[tensor->type_code]) + std::to_string(tensor->bits / 8);
    array.address = reinterpret_cast<std::uintptr_t>(tensor->data) + tensor->byte_offset;
    array.shape.assign(tensor->shape, tensor->shape + tensor->axes);
    if (tensor->strides == nullptr) {
        take_contiguous_strides(array);
    } else {
        for (int i = 0; i < tensor->axes; ++i) array.strides.push_back(tensor->strides[i] * array.itemsize());
    }
    return array;
}

struct MemoryRange {
    std::uintptr_t begin;
    std::uintptr_t end;
};

MemoryRange memory_of(const Strided& array) {
    std::uintptr_t begin = array.address;
    std::uintptr_t end = begin;
    if (array.size() == 0) return {begin, begin};
    for (std::size_t i = 0; i < array.shape.size(); ++i) {
        const std::ptrdiff_t reach = (array.shape[i] - 1) * array.strides[i];
        (reach < 0 ? begin : end) += static_cast<std::uintptr_t>(reach);
    }
    return {begin, end + static_cast<std::uintptr_t>(array.itemsize())};
}

std::string type_name(const std::string& type) {
    const char* kind = type[0] == 'f' ? "float" : type[0] == 'u' ? "uint" : type[0] == 'i' ? "int" : nullptr;
    return kind == nullptr ? type : kind + std::to_string(8 * std::stoi(type.substr(1)));
}

}  // namespace

void check_cuda(cudaError_t status, const std::string& what) {
    if (status == cudaSuccess) return;
    cudaGetLastError();  // or the next call would report it once more
    const bool no_device = status == cudaErrorInsufficientDriver || status == cudaErrorNoDevice ||
                           status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDevice ||
                           status == cudaErrorStubLibrary || status == cudaErrorSystemDriverMismatch;
    const py::object error =
        py::module_::import("emert_edge.errors").attr(no_device ? "DeviceUnavailable" : "EngineError");
    const std::string text =
        "CUDA: " + what + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")";
    PyErr_SetString(error.ptr(), text.c_str());
    throw py::error_already_set();
}

std::ptrdiff_t Strided::itemsize() const {
    return std::stoi(type.substr(1));
}

std::ptrdiff_t Strided::size() const {
    std::ptrdiff_t count = 1;
    for (const std::ptrdiff_t side : shape) count *= side;
    return count;
}

bool Strided::contiguous() const {
    if (size() == 0) return true;
    std::ptrdiff_t step = itemsize();
    for (std::size_t i = shape.size(); i-- > 0;) {
        if (shape[i] != 1 && strides[i] != step) return false;
        step *= shape[i];
    }
    return true;
}

bool Strided::aligned() const {
    const std::ptrdiff_t item = itemsize();
    bool whole = address % static_cast<std::uintptr_t>(item) == 0;
    for (std::size_t i = 0; i < shape.size(); ++i) whole = whole && (shape[i] < 2 || strides[i] % item == 0);
    return whole;
}

Strided strided_argument(py::handle value, const char* name) {
    if (py::isinstance<py::array>(value)) return from_numpy(py::reinterpret_borrow<py::array>(value), name);
    if (py::hasattr(value, "__cuda_array_interface__")) {
        return from_interface(value, value.attr("__cuda_array_interface__").cast<py::dict>(), name);
    }
    if (py::hasattr(value, "__dlpack__") && py::hasattr(value, "__dlpack_device__")) return from_dlpack(value, name);
    throw py::type_error(std::string(name) + " must be an array with __cuda_array_interface__ or DLPack, not " +
                         py::cast<std::string>(py::type::of(value).attr("__name__")));
}

void OneDevice::take(Strided& array, const char* name) {
    if (array.size() == 0) return;
    cudaPointerAttributes attributes{};
    check_cuda(cudaPointerGetAttributes(&attributes, reinterpret_cast<const void*>(array.address)), name);
    const bool reachable = attributes.type != cudaMemoryTypeUnregistered && attributes.devicePointer != nullptr;
    if (!reachable) {
        throw py::type_error(std::string(name) +
                             " lies in ordinary host memory, which a GPU cannot read: make it page-locked "
                             "(emert_edge.kernels.cuda.pinned) or copy it to the device (cuda.upload)");
    }
    array.address = reinterpret_cast<std::uintptr_t>(attributes.devicePointer);
    if (attributes.type != cudaMemoryTypeDevice) return;
    if (index_ >= 0 && attributes.device != index_) {
        throw py::value_error(std::string(name) + " lies on GPU " + std::to_string(attributes.device) + " and " +
                              name_ + " on GPU " + std::to_string(index_));
    }
    index_ = attributes.device;
    name_ = name;
}

Current::Current(int device) {
    if (device < 0) return;
    int before = 0;
    check_cuda(cudaGetDevice(&before), "the current GPU");
    if (before == device) return;
    check_cuda(cudaSetDevice(device), "GPU " + std::to_string(device));
    before_ = before;
}

Current::~Current() {
    if (before_ >= 0) cudaSetDevice(before_);
}

cudaStream_t stream_argument(py::handle value) {
    py::object handle = py::reinterpret_borrow<py::object>(value);
    if (py::hasattr(value, "__cuda_stream__")) {
        handle = value.attr("__cuda_stream__");
        if (PyCallable_Check(handle.ptr())) handle = handle();
        handle = handle.cast<py::tuple>()[1];
    } else if (!PyLong_Check(value.ptr())) {
        for (const char* name : {"cuda_stream", "ptr", "handle"}) {
            if (py::hasattr(value, name)) {
                handle = value.attr(name);
                break;
            }
        }
    }
    if (PyBool_Check(handle.ptr()) || !PyLong_Check(handle.ptr())) {
        throw py::type_error("stream must be a CUDA stream or its handle, not " +
                             py::cast<std::string>(py::type::of(value).attr("__name__")));
    }
    return reinterpret_cast<cudaStream_t>(handle.cast<std::uintptr_t>());
}

Strided device_argument(py::handle value, const char* name, std::initializer_list<const char*> types,
                        OneDevice& device) {
    Strided array = strided_argument(value, name);
    std::string wanted;
    bool fits = false;
    for (const char* type : types) {
        wanted += (wanted.empty() ? "" : " or ") + type_name(type);
        fits = fits || array.type == type;
    }
    if (!fits) throw py::type_error(std::string(name) + " must be " + wanted + ", not " + type_name(array.type));
    if (!array.aligned()) throw py::value_error(std::string(name) + " must be aligned");
    device.take(array, name);
    return array;
}

Strided device_out(py::handle value, const char* name, OneDevice& device,
                   std::initializer_list<const Strided*> inputs) {
    Strided out = device_argument(value, name, {"f4", "f2"}, device);
    if (out.read_only) throw py::value_error(std::string(name) + " must be writable");
    if (!out.contiguous()) throw py::value_error(std::string(name) + " must be C-contiguous");
    const MemoryRange written = memory_of(out);
    for (const Strided* input : inputs) {
        const MemoryRange read = memory_of(*input);
        if (read.begin < written.end && written.begin < read.end) {
            throw py::value_error(std::string(name) + " must not share memory with an input");
        }
    }
    return out;
}

ValuesOut values_of(const Strided& out) {
    return {reinterpret_cast<void*>(out.address), out.type == "f2"};
}

void wrong_shape(const char* name, const std::string& wanted, const Strided& got) {
    throw py::value_error(std::string(name) + " must have shape " + wanted + ", not " + shape_text(got));
}

std::int32_t pixels_argument(std::ptrdiff_t size, const char* name) {
    if (size < 1) throw py::value_error(std::string(name) + " must have at least one pixel a side");
    if (size > std::numeric_limits<std::int32_t>::max() / 4) {
        throw py::value_error(std::string(name) + " is too large: " + std::to_string(size) + " pixels a side");
    }
    return static_cast<std::int32_t>(size);
}

}  // namespace emert::python
