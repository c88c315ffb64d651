// Threads that replay a list of calls together: every thread walks the list, takes tasks of each call, and waits only
// where a call needs what earlier ones write, and then for their tasks, not for the other threads: one that is not
// running now, because another process has its core, holds nobody up. Idle threads spin a while, then sleep.
#include "pool.h"

#include <chrono>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace farthing {

namespace {

constexpr auto SPIN = std::chrono::microseconds(50);
constexpr int PAUSES = 32;             // between two looks at the clock
constexpr int PAUSES_TO_YIELD = 1024;  // then the core is offered to whoever we wait for

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

template <class Ready>
void spin_until(Ready ready) {
    for (int spins = 0; !ready(); ++spins) spins < PAUSES_TO_YIELD ? pause() : std::this_thread::yield();
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
        progress_.reset(new Progress[count]);
        capacity_ = count;
    }
    calls_ = calls;
    count_ = count;
    if (num_threads_ == 1) return walk(0);
    for (int i = 0; i < count; ++i) {
        progress_[i].next.store(0, std::memory_order_relaxed);
        progress_[i].finished.store(0, std::memory_order_relaxed);
    }
    gate_.fetch_or(OPEN, std::memory_order_release);
    wake();
    walk(0);
    gate_.fetch_and(~OPEN, std::memory_order_acq_rel);
    spin_until([&] { return gate_.load(std::memory_order_acquire) == 0; });
}

void Pool::wake() {
    lists_.fetch_add(1, std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst)) {
        std::lock_guard<std::mutex> lock(mutex_);
        woken_.notify_all();
    }
}

void Pool::rouse() {
    rousings_.fetch_add(1, std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst)) {
        std::lock_guard<std::mutex> lock(mutex_);
        woken_.notify_all();
    }
}

void Pool::serve(int index) {
    for (uint64_t seen = 0; wait_for_list(seen);) {
        uint64_t gate = gate_.load(std::memory_order_acquire);
        while ((gate & OPEN) && !gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) {
        }
        if (!(gate & OPEN)) continue;  // the list was done before this thread came
        walk(index);
        gate_.fetch_sub(1, std::memory_order_release);
    }
}

// Until there is another list than `seen`; false at the end of the pool.
bool Pool::wait_for_list(uint64_t& seen) {
    const auto is_new = [&] { return lists_.load(std::memory_order_seq_cst) != seen; };
    while (!is_new()) {
        const uint64_t rousings = rousings_.load(std::memory_order_seq_cst);
        const auto until = std::chrono::steady_clock::now() + SPIN;
        do {
            for (int i = 0; i < PAUSES && !is_new(); ++i) pause();
        } while (!is_new() && std::chrono::steady_clock::now() < until);
        if (is_new()) break;
        std::unique_lock<std::mutex> lock(mutex_);
        asleep_.fetch_add(1, std::memory_order_seq_cst);
        woken_.wait(lock, [&] { return is_new() || rousings_.load(std::memory_order_seq_cst) != rousings; });
        asleep_.fetch_sub(1, std::memory_order_seq_cst);
    }
    seen = lists_.load(std::memory_order_seq_cst);
    return !ending_.load();
}

void Pool::walk(int index) {
    thread_local std::vector<int64_t> num_tasks;
    num_tasks.resize(count_);
    int first = 0;  // of the calls whose end nobody has waited for
    for (int i = 0; i < count_; ++i) {
        const Call& call = calls_[i];
        if (call.waits && num_threads_ > 1) {
            wait_for(first, i, num_tasks.data());
            first = i;
        }
        Worker worker{num_threads_, scratch_[index], &progress_[i]};
        KERNELS[call.op](call, worker);
        num_tasks[i] = worker.num_tasks;
    }
    if (index == 0 && num_threads_ > 1) wait_for(first, count_, num_tasks.data());
}

void Pool::wait_for(int first, int end, const int64_t* num_tasks) {
    for (int i = first; i < end; ++i)
        spin_until([&] { return progress_[i].finished.load(std::memory_order_acquire) >= num_tasks[i]; });
}

}  // namespace farthing
