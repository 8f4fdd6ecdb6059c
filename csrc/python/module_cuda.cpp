#include "python/cuda_arguments.hpp"

PYBIND11_MODULE(_cuda, module) {
    module.doc() = "The kernels on NVIDIA's GPUs; emert_edge.kernels.cuda is its public face.";
    emert::python::register_cuda_memory(module);
    emert::python::register_cuda_kernels(module);
}
