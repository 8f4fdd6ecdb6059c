// Working memory that a thread keeps between calls, so that a kernel in steady state allocates nothing.
#pragma once

#include <cstddef>

namespace emert {

/// At least `bytes` bytes, aligned to 64, valid until this thread's next call. Throws std::bad_alloc.
void* scratch(std::size_t bytes);

/// Hands out aligned pieces of one scratch block.
class Carver {
  public:
    explicit Carver(void* block) : next_(static_cast<char*>(block)) {}

    template <typename T>
    inline __attribute__((always_inline)) T* take(std::size_t count) {
        T* piece = reinterpret_cast<T*>(next_);
        next_ += padded(count * sizeof(T));
        return piece;
    }

    static inline __attribute__((always_inline)) constexpr std::size_t padded(std::size_t bytes) {
        return (bytes + 63) / 64 * 64;
    }

  private:
    char* next_;
};

}  // namespace emert
