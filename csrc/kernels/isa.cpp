#include "kernels/isa.hpp"

#include <atomic>
#include <cstring>

namespace emert {

namespace baseline {
extern const CpuBodies cpu_bodies;
}
#if defined(EMERT_X86_BODIES)
namespace avx2 {
extern const CpuBodies cpu_bodies;
}
namespace avx512 {
extern const CpuBodies cpu_bodies;
}
#endif

std::vector<const CpuBodies*> available_cpu_bodies() {
    std::vector<const CpuBodies*> tables{&baseline::cpu_bodies};
#if defined(EMERT_X86_BODIES)
    __builtin_cpu_init();
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (has_avx2) tables.push_back(&avx2::cpu_bodies);
    if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        tables.push_back(&avx512::cpu_bodies);
    }
#endif
    return tables;
}

namespace {

std::atomic<const CpuBodies*>& chosen() {
    static std::atomic<const CpuBodies*> table{available_cpu_bodies().back()};
    return table;
}

}  // namespace

const CpuBodies& cpu_bodies() {
    return *chosen().load(std::memory_order_relaxed);
}

bool choose_cpu_bodies(const char* name) {
    for (const CpuBodies* table : available_cpu_bodies()) {
        if (std::strcmp(table->name, name) == 0) {
            chosen().store(table, std::memory_order_relaxed);
            return true;
        }
    }
    return false;
}

}  // namespace emert
