#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "cuda_runtime_api.h"
#include "launch_on_host.hpp"

struct CUstream_st {
    int unused;
};

namespace {

constexpr unsigned char kFence = 0xa5;
constexpr std::size_t kFront = 64;

struct Allocation {
    char* mapping;
    std::size_t mapped;
    std::size_t size;
    cudaMemoryType type;
};

std::mutex mutex;
std::map<std::uintptr_t, Allocation> allocations;

std::size_t page() {
    return static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// The array's last word ends at the forbidden page.
cudaError_t allocate(void** data, std::size_t size, cudaMemoryType type) {
    const std::size_t rounded = (size + 15) / 16 * 16;
    const std::size_t usable = (rounded + kFront + page() - 1) / page() * page();
    void* mapping = mmap(nullptr, usable + page(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return cudaErrorMemoryAllocation;
    char* begin = static_cast<char*>(mapping);
    mprotect(begin + usable, page(), PROT_NONE);
    char* array = begin + usable - rounded;
    std::memset(begin, kFence, usable);
    const std::lock_guard<std::mutex> lock(mutex);
    allocations[reinterpret_cast<std::uintptr_t>(array)] = {begin, usable + page(), size, type};
    *data = array;
    return cudaSuccess;
}

bool is_fence(const char* begin, const char* end) {
    for (; begin < end; ++begin) {
        if (static_cast<unsigned char>(*begin) != kFence) return false;
    }
    return true;
}

cudaError_t release(void* data) {
    if (data == nullptr) return cudaSuccess;
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = allocations.find(reinterpret_cast<std::uintptr_t>(data));
    if (found == allocations.end()) return cudaErrorInvalidValue;
    const Allocation& one = found->second;
    const char* array = static_cast<const char*>(data);
    const char* end = one.mapping + one.mapped - page();
    if (!is_fence(one.mapping, array) || !is_fence(array + one.size, end)) {
        std::fprintf(stderr, "a kernel wrote outside of an array of %zu bytes\n", one.size);
        std::abort();
    }
    munmap(one.mapping, one.mapped);
    allocations.erase(found);
    return cudaSuccess;
}

}  // namespace

const char* cudaGetErrorString(cudaError_t status) {
    return status == cudaSuccess ? "no error" : "an error of the stand-in";
}
const char* cudaGetErrorName(cudaError_t status) {
    return status == cudaSuccess ? "cudaSuccess" : "cudaError";
}
cudaError_t cudaGetLastError() {
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
    *value = 0;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    const std::lock_guard<std::mutex> lock(mutex);
    auto next = allocations.upper_bound(address);
    *attributes = {cudaMemoryTypeUnregistered, -1, nullptr, nullptr};
    if (next == allocations.begin()) return cudaSuccess;
    --next;
    const std::size_t size = next->second.size > 0 ? next->second.size : 1;
    if (address < next->first + size) {
        *attributes = {next->second.type, 0, const_cast<void*>(pointer), const_cast<void*>(pointer)};
    }
    return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, std::size_t size) {
    return allocate(data, size, cudaMemoryTypeDevice);
}
cudaError_t cudaFree(void* data) {
    return release(data);
}
cudaError_t cudaHostAlloc(void** data, std::size_t size, unsigned) {
    return allocate(data, size, cudaMemoryTypeHost);
}
cudaError_t cudaFreeHost(void* data) {
    return release(data);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind, cudaStream_t) {
    if (size > 0) std::memcpy(to, from, size);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t size, cudaStream_t) {
    std::memset(data, value, size);
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    *stream = new CUstream_st{0};
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
    return cudaSuccess;
}

extern "C" __attribute__((visibility("default"))) void emert_turn_order(int order) {
    emert::cuda::turn_order() = static_cast<emert::cuda::TurnOrder>(order);
}

namespace emert::cuda {

TurnOrder& turn_order() {
    static TurnOrder order = TurnOrder::rising;
    return order;
}

}  // namespace emert::cuda
