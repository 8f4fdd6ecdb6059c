#include <pybind11/stl.h>

#include "kernels/cuda_kernels.hpp"
#include "python/cuda_arguments.hpp"

namespace emert::python {

namespace {

/// Why GPU `index` cannot be used here; None where it can.
py::object fault(int index) {
    const auto text = [](const std::string& why) -> py::object { return py::str(why); };
    int driver = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
        cudaGetLastError();
        return text("no NVIDIA driver is installed (libcuda.so.1 was not found)");
    }
    const auto version = [](int number) {
        return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
    };
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    cudaGetLastError();
    if (status == cudaErrorInsufficientDriver) {
        return text("the NVIDIA driver is too old: it knows CUDA " + version(driver) + ", and this build needs CUDA " +
                    version(CUDART_VERSION));
    }
    if (status != cudaSuccess) return text(std::string("CUDA cannot start: ") + cudaGetErrorString(status));
    if (index < 0 || index >= count) {
        return text("GPU " + std::to_string(index) + " was asked for and the driver sees " + std::to_string(count));
    }
    const Current current(index);
    const cudaError_t image = cuda::probe_bodies();
    cudaGetLastError();
    if (image == cudaErrorNoKernelImageForDevice) {
        int major = 0;
        int minor = 0;
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index);
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index);
        const std::string architecture = std::to_string(major) + std::to_string(minor);
        return text("this build has no kernels for GPU " + std::to_string(index) + " (sm_" + architecture +
                    "): build with CMAKE_CUDA_ARCHITECTURES=" + architecture + " (docs/cuda.md)");
    }
    if (image != cudaSuccess) return text(std::string("CUDA cannot start: ") + cudaGetErrorString(image));
    return py::none();
}

/// Memory of one GPU, freed with its owner.
class DeviceMemory {
  public:
    DeviceMemory(std::size_t size, int device) : size_(size), device_(device) {
        const Current current(device);
        check_cuda(cudaMalloc(&data_, size > 0 ? size : 1), "allocating " + std::to_string(size) + " bytes");
    }
    ~DeviceMemory() { cudaFree(data_); }
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;

    std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(data_); }
    std::size_t size() const { return size_; }
    int device() const { return device_; }

  private:
    void* data_ = nullptr;
    std::size_t size_;
    int device_;
};

/// Host memory that a GPU reads and writes by itself, as bytes.
class PinnedMemory {
  public:
    explicit PinnedMemory(std::size_t size) : size_(size) {
        check_cuda(cudaHostAlloc(&data_, size > 0 ? size : 1, cudaHostAllocPortable | cudaHostAllocMapped),
                   "page-locking " + std::to_string(size) + " bytes");
    }
    ~PinnedMemory() { cudaFreeHost(data_); }
    PinnedMemory(const PinnedMemory&) = delete;
    PinnedMemory& operator=(const PinnedMemory&) = delete;

    py::buffer_info buffer() {
        return py::buffer_info(static_cast<std::uint8_t*>(data_), static_cast<py::ssize_t>(size_));
    }

  private:
    void* data_ = nullptr;
    std::size_t size_;
};

/// A stream that doesn't wait for the default one.
class Stream {
  public:
    explicit Stream(int device) : device_(device) {
        const Current current(device);
        check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
    }
    ~Stream() { cudaStreamDestroy(stream_); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    std::uintptr_t handle() const { return reinterpret_cast<std::uintptr_t>(stream_); }
    int device() const { return device_; }
    void synchronize() const {
        cudaError_t status;
        {
            const py::gil_scoped_release released;
            status = cudaStreamSynchronize(stream_);
        }
        check_cuda(status, "waiting for a stream");
    }

  private:
    cudaStream_t stream_ = nullptr;
    int device_;
};

/// Between any two arrays of one dtype and size, wherever they lie.
void copy(py::handle to, py::handle from, py::handle stream) {
    const Strided target = strided_argument(to, "to");
    const Strided source = strided_argument(from, "from");
    if (target.read_only) throw py::value_error("to must be writable");
    if (target.type != source.type) throw py::type_error("to and from must have one dtype");
    if (target.shape != source.shape) throw py::value_error("to and from must have one shape");
    if (!target.contiguous() || !source.contiguous()) throw py::value_error("to and from must be C-contiguous");
    const auto bytes = static_cast<std::size_t>(source.size() * source.itemsize());
    const cudaStream_t enqueued = stream_argument(stream);
    cudaError_t status;
    {
        const py::gil_scoped_release released;
        status = cudaMemcpyAsync(reinterpret_cast<void*>(target.address), reinterpret_cast<const void*>(source.address),
                                 bytes, cudaMemcpyDefault, enqueued);
    }
    check_cuda(status, "copying " + std::to_string(bytes) + " bytes");
}

py::tuple shape_of(py::handle value, const char* name) {
    const Strided array = strided_argument(value, name);
    return py::tuple(py::cast(array.shape));
}

/// The GPU that an array lies on; -1 where the memory belongs to all of them.
int device_of(py::handle value, const char* name) {
    Strided array = strided_argument(value, name);
    OneDevice device;
    device.take(array, name);
    return device.index();
}

}  // namespace

void register_cuda_memory(py::module_& module) {
    module.attr("cuda_version") = CUDART_VERSION;
    module.def("fault", &fault, py::arg("index"));
    module.def("copy", &copy, py::arg("to"), py::arg("from_"), py::arg("stream"));
    module.def("shape_of", &shape_of, py::arg("array"), py::arg("name"));
    module.def("device_of", &device_of, py::arg("array"), py::arg("name"));
    py::class_<DeviceMemory>(module, "DeviceMemory")
        .def(py::init<std::size_t, int>(), py::arg("size"), py::arg("device"))
        .def_property_readonly("address", &DeviceMemory::address)
        .def_property_readonly("size", &DeviceMemory::size)
        .def_property_readonly("device", &DeviceMemory::device);
    py::class_<PinnedMemory>(module, "PinnedMemory", py::buffer_protocol())
        .def(py::init<std::size_t>(), py::arg("size"))
        .def_buffer(&PinnedMemory::buffer);
    py::class_<Stream>(module, "Stream")
        .def(py::init<int>(), py::arg("device"))
        .def_property_readonly("handle", &Stream::handle)
        .def_property_readonly("device", &Stream::device)
        .def("synchronize", &Stream::synchronize);
}

}  // namespace emert::python
