// Python arguments of the CUDA bodies: arrays that a GPU can read, streams, statuses. Messages name the argument.
#pragma once

#include <cuda_runtime_api.h>

#include <initializer_list>

#include "kernels/cuda_kernels.hpp"
#include "python/arguments.hpp"

namespace emert::python {

/// Raises DeviceUnavailable or EngineError, naming what was tried, unless `status` says that it worked.
void check_cuda(cudaError_t status, const std::string& what);

/// An array by whatever protocol it came: __cuda_array_interface__, DLPack, or NumPy.
struct Strided {
    py::object owner;  // keeps the memory for the length of the call
    std::uintptr_t address = 0;
    std::string type;  // as in NumPy's array interface: "f4", "u1"
    std::vector<std::ptrdiff_t> shape;
    std::vector<std::ptrdiff_t> strides;  // in bytes
    bool read_only = false;

    std::ptrdiff_t axes() const { return static_cast<std::ptrdiff_t>(shape.size()); }
    std::ptrdiff_t itemsize() const;
    std::ptrdiff_t size() const;
    bool contiguous() const;
    bool aligned() const;
};

/// Wherever the memory lies.
Strided strided_argument(py::handle value, const char* name);

/// Remembers the GPU that the arguments of a call lie on, which must be one.
class OneDevice {
  public:
    /// Checks that a GPU can read the array; page-locked and managed memory belong to all.
    void take(Strided& array, const char* name);

    /// -1: none of them says.
    int index() const { return index_; }

  private:
    int index_ = -1;
    std::string name_;
};

/// Makes a GPU current, and the one before it again.
class Current {
  public:
    explicit Current(int device);
    ~Current();
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

  private:
    int before_ = -1;
};

/// A stream: its handle as an integer, or an object that has one (__cuda_stream__, cuda_stream, ptr, handle).
cudaStream_t stream_argument(py::handle value);

/// An array on the device of `types` ("f4"), any strides but aligned.
Strided device_argument(py::handle value, const char* name, std::initializer_list<const char*> types,
                        OneDevice& device);

/// A contiguous, writable output in float32 or float16, apart from the inputs.
Strided device_out(py::handle value, const char* name, OneDevice& device, std::initializer_list<const Strided*> inputs);

ValuesOut values_of(const Strided& out);

[[noreturn]] void wrong_shape(const char* name, const std::string& wanted, const Strided& got);

/// A side of an image, in pixels.
std::int32_t pixels_argument(std::ptrdiff_t size, const char* name);

void register_cuda_memory(py::module_& module);
void register_cuda_kernels(py::module_& module);

}  // namespace emert::python
