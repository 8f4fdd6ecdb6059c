#include "kernels/cuda_kernels.hpp"
#include "kernels/cuda_launch.hpp"

namespace emert::cuda {

namespace {

/// A block for a stretch of one place's token.
struct AssembleTokensBody {
    static constexpr int kThreads = 256;
    struct Shared {};

    TokenChoice choice;
    ValuesOut out;
    ValuesOut mask;

    template <typename Thread>
    EMERT_BODY void operator()(Thread& thread, Shared&) const {
        const std::int64_t place = thread.block_x();
        const std::int64_t value = static_cast<std::int64_t>(thread.block_y()) * kThreads + thread.index();
        const std::int64_t token = choice.index[place];
        const bool stands = token >= 0 && token < choice.capacity;
        if (value < choice.length) {
            write_value(out, place * choice.length + value,
                        stands ? read_value(choice.store, token * choice.length + value) : 0.0f);
        }
        if (value == 0 && mask.data != nullptr) write_value(mask, place, stands ? 1.0f : 0.0f);
    }
};

}  // namespace

cudaError_t assemble_tokens(const TokenChoice& choice, const ValuesOut& out, const ValuesOut& mask,
                            cudaStream_t stream) {
    const std::int64_t stretches = (choice.length + AssembleTokensBody::kThreads - 1) / AssembleTokensBody::kThreads;
    const Grid grid{static_cast<unsigned>(choice.places), static_cast<unsigned>(stretches), 1};
    return launch(AssembleTokensBody{choice, out, mask}, grid, stream);
}

cudaError_t probe_bodies() {
    return probe<AssembleTokensBody>();
}

}  // namespace emert::cuda
