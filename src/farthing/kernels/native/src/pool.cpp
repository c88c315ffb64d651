// Threads that replay a list of calls together: every thread walks the list, takes tasks of each call, and waits for
// the others only where a call needs what they have written. Idle threads spin 50 us for the next list, then sleep.
#include "pool.h"

#include <chrono>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace farthing {

namespace {

constexpr auto SPIN = std::chrono::microseconds(100);
constexpr int PAUSES = 64;         // between two looks at the clock
constexpr int PAUSES_TO_YIELD = 4096;  // in a barrier: then another process may want this core

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

Pool::Pool(int num_threads) : num_threads_(num_threads), scratch_(num_threads) {
    for (int index = 1; index < num_threads; ++index) threads_.emplace_back([this, index] { serve(index); });
}

Pool::~Pool() {
    ending_.store(true);
    wake();
    for (auto& thread : threads_) thread.join();
}

void Pool::run(const Call* calls, int count) {
    if (count > capacity_) {
        next_.reset(new Counter[count]);
        capacity_ = count;
    }
    for (int i = 0; i < count; ++i) next_[i].value.store(0, std::memory_order_relaxed);
    calls_ = calls;
    count_ = count;
    busy_.store(num_threads_ - 1, std::memory_order_relaxed);
    if (num_threads_ > 1) wake();
    walk(0);
    for (int spins = 0; busy_.load(std::memory_order_acquire); ++spins) spins < PAUSES_TO_YIELD ? pause() : std::this_thread::yield();
}

void Pool::wake() {
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst)) {
        std::lock_guard<std::mutex> lock(mutex_);
        woken_.notify_all();
    }
}

void Pool::rouse() {
    calls_to_wake_.fetch_add(1, std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst)) {
        std::lock_guard<std::mutex> lock(mutex_);
        woken_.notify_all();
    }
}

void Pool::serve(int index) {
    for (uint64_t seen = 0;;) {
        seen = wait_after(seen);
        if (ending_.load()) return;
        walk(index);
        busy_.fetch_sub(1, std::memory_order_release);
    }
}

uint64_t Pool::wait_after(uint64_t seen) {
    for (;;) {
        const uint64_t rousings = calls_to_wake_.load(std::memory_order_acquire);
        const auto until = std::chrono::steady_clock::now() + SPIN;
        do {
            for (int i = 0; i < PAUSES; ++i) {
                if (uint64_t epoch = epoch_.load(std::memory_order_acquire); epoch != seen) return epoch;
                pause();
            }
        } while (std::chrono::steady_clock::now() < until);
        std::unique_lock<std::mutex> lock(mutex_);
        asleep_.fetch_add(1, std::memory_order_seq_cst);
        woken_.wait(lock, [&] {
            return epoch_.load(std::memory_order_seq_cst) != seen || calls_to_wake_.load(std::memory_order_seq_cst) != rousings;
        });
        asleep_.fetch_sub(1, std::memory_order_seq_cst);
    }
}

void Pool::walk(int index) {
    for (int i = 0; i < count_; ++i) {
        const Call& call = calls_[i];
        if (call.waits && num_threads_ > 1) meet();
        Worker worker{num_threads_, scratch_[index], &next_[i].value};
        KERNELS[call.op](call, worker);
    }
}

void Pool::meet() {
    const uint64_t meeting = meetings_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == num_threads_) {
        arrived_.store(0, std::memory_order_relaxed);
        meetings_.store(meeting + 1, std::memory_order_release);
        return;
    }
    for (int spins = 0; meetings_.load(std::memory_order_acquire) == meeting; ++spins)
        spins < PAUSES_TO_YIELD ? pause() : std::this_thread::yield();
}

}  // namespace farthing
