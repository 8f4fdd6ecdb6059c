// Runs a body's blocks one after the other, and the threads of a block in turns: each has a stack of its own and goes
// on until it ends or waits for the others. The order of the turns can be chosen; a body whose result depends on it
// lacks a sync().
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/cuda_launch.hpp"

namespace emert::cuda {

enum class TurnOrder { rising, falling, shuffled };

TurnOrder& turn_order();

class Thread;

/// The threads of one block.
class Turns {
  public:
    static constexpr std::size_t kStackBytes = 32 * 1024;

    explicit Turns(int count)
        : stacks_(new char[kStackBytes * static_cast<std::size_t>(count)]),
          contexts_(static_cast<std::size_t>(count)),
          waits_(static_cast<std::size_t>(count)) {}

    /// Runs `work(self)` as every thread until all have ended. Returns false where some ended while others waited,
    /// which on a GPU is undefined.
    bool run(void (*work)(void*, int), void* argument) {
        work_ = work;
        argument_ = argument;
        const int count = static_cast<int>(contexts_.size());
        for (int i = 0; i < count; ++i) {
            const std::size_t at = static_cast<std::size_t>(i);
            getcontext(&contexts_[at]);
            contexts_[at].uc_stack.ss_sp = stacks_.get() + kStackBytes * at;
            contexts_[at].uc_stack.ss_size = kStackBytes;
            contexts_[at].uc_link = &scheduler_;
            const auto self = reinterpret_cast<std::uintptr_t>(this);
            makecontext(&contexts_[at], reinterpret_cast<void (*)()>(&Turns::enter), 3,
                        static_cast<unsigned>(self & 0xffffffffu), static_cast<unsigned>(self >> 32), i);
        }
        int waiting = count;
        while (waiting > 0) {
            const int before = waiting;
            waiting = 0;
            for (int turn = 0; turn < before; ++turn) {
                const int i = at_turn(turn, before);
                waits_[static_cast<std::size_t>(i)] = false;
                current_ = i;
                swapcontext(&scheduler_, &contexts_[static_cast<std::size_t>(i)]);
                waiting += waits_[static_cast<std::size_t>(i)] ? 1 : 0;
            }
            if (waiting != 0 && waiting != count) return false;
        }
        return true;
    }

    void sync() {
        const std::size_t self = static_cast<std::size_t>(current_);
        waits_[self] = true;
        swapcontext(&contexts_[self], &scheduler_);
    }

  private:
    static void enter(unsigned low, unsigned high, int self) {
        auto* turns = reinterpret_cast<Turns*>(static_cast<std::uintptr_t>(high) << 32 | low);
        turns->work_(turns->argument_, self);
    }

    static int at_turn(int turn, int count) {
        if (turn_order() == TurnOrder::falling) return count - 1 - turn;
        // 97 has no factor in common with a block's number of threads.
        if (turn_order() == TurnOrder::shuffled) return turn * 97 % count;
        return turn;
    }

    std::unique_ptr<char[]> stacks_;
    std::vector<ucontext_t> contexts_;
    std::vector<char> waits_;
    ucontext_t scheduler_{};
    int current_ = 0;
    void (*work_)(void*, int) = nullptr;
    void* argument_ = nullptr;
};

class Thread {
  public:
    Thread(Turns& turns, const Grid& block, int index) : turns_(turns), block_(block), index_(index) {}

    int index() const { return index_; }
    int block_x() const { return static_cast<int>(block_.x); }
    int block_y() const { return static_cast<int>(block_.y); }
    int block_z() const { return static_cast<int>(block_.z); }
    void sync() const { turns_.sync(); }
    void mark(std::uint32_t& word, std::uint32_t bits) const { word |= bits; }

  private:
    Turns& turns_;
    Grid block_;
    int index_;
};

template <typename Body>
cudaError_t launch(const Body& body, const Grid& grid, cudaStream_t) {
    static_assert(sizeof(Body) <= 4096 && sizeof(typename Body::Shared) <= 48 * 1024);
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535) {
        return cudaErrorInvalidConfiguration;
    }
    struct Block {
        const Body& body;
        Turns& turns;
        typename Body::Shared& shared;
        Grid at;
    };
    Turns turns(Body::kThreads);
    const std::unique_ptr<typename Body::Shared> shared(new typename Body::Shared);
    for (unsigned z = 0; z < grid.z; ++z) {
        for (unsigned y = 0; y < grid.y; ++y) {
            for (unsigned x = 0; x < grid.x; ++x) {
                // What a block finds in its shared memory is whatever: NaN shows where it is used.
                std::memset(static_cast<void*>(shared.get()), 0xff, sizeof(typename Body::Shared));
                Block block{body, turns, *shared, {x, y, z}};
                const bool whole = turns.run(
                    [](void* argument, int self) {
                        Block& own = *static_cast<Block*>(argument);
                        Thread thread(own.turns, own.at, self);
                        own.body(thread, own.shared);
                    },
                    &block);
                if (!whole) return cudaErrorInvalidConfiguration;
            }
        }
    }
    return cudaSuccess;
}

template <typename Body>
cudaError_t probe() {
    return cudaSuccess;
}

}  // namespace emert::cuda
