#include "kernels/scratch.hpp"

#include <cstdlib>
#include <memory>
#include <new>

namespace emert {

namespace {

struct Free {
    void operator()(void* block) const { std::free(block); }
};

struct Block {
    std::unique_ptr<void, Free> memory;
    std::size_t size = 0;
};

}  // namespace

void* scratch(std::size_t bytes) {
    thread_local Block block;
    if (bytes > block.size) {
        block.size = 0;
        block.memory.reset();
        const std::size_t size = Carver::padded(bytes);
        block.memory.reset(std::aligned_alloc(64, size));
        if (!block.memory) throw std::bad_alloc();
        block.size = size;
    }
    return block.memory.get();
}

}  // namespace emert
