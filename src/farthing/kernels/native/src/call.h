// A call of a kernel as data, and the thread that runs a part of it. kernels/native/library.py mirrors `Call`.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace farthing {

// What p, n and f mean stands at each kernel. `rows`: read when the call runs, so that a recorded call serves any
// number of rows. `waits`: all calls before this one are finished first.
struct Call {
    int32_t op;
    int32_t waits;
    const int64_t* rows;
    void* p[10];
    int64_t n[8];
    double f[2];

    template <class T>
    T* at(int i) const { return static_cast<T*>(p[i]); }
};

// Memory of one thread between calls: grows to what was asked for, aligned to a cache line.
class Scratch {
  public:
    ~Scratch() { std::free(data_); }
    template <class T>
    T* take(size_t count) {
        size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
        if (bytes > bytes_) {
            std::free(data_);
            data_ = std::aligned_alloc(64, bytes);
            if (!data_) throw std::bad_alloc();
            bytes_ = bytes;
        }
        return static_cast<T*>(data_);
    }

  private:
    void* data_ = nullptr;
    size_t bytes_ = 0;
};

// How far a call is: the task that nobody has taken yet, and how many tasks are finished.
struct alignas(64) Progress {
    std::atomic<int64_t> next{0};
    std::atomic<int64_t> finished{0};
};

// A thread inside a call. A kernel calls `for_tasks` once at most.
struct Worker {
    int num_threads;
    Scratch& scratch;
    Progress* progress;
    int64_t num_tasks = 0;  // of the call, as its kernel said

    // Runs body(task) for the tasks 0..count-1 that other threads have not taken.
    template <class Body>
    void for_tasks(int64_t count, Body body) {
        num_tasks = count;
        if (num_threads == 1) {
            for (int64_t task = 0; task < count; ++task) body(task);
            return;
        }
        int64_t task, mine = 0;
        for (; (task = progress->next.fetch_add(1, std::memory_order_relaxed)) < count; ++mine) body(task);
        if (mine) progress->finished.fetch_add(mine, std::memory_order_release);
    }
};

using Kernel = void (*)(const Call&, Worker&);

// Runs body(row) over the rows, each of `width` values, several of them a task where they are short.
template <class Body>
void for_rows(const Call& call, Worker& worker, int64_t width, Body body) {
    constexpr int64_t VALUES_PER_TASK = 4096;
    const int64_t rows = *call.rows, together = std::max<int64_t>(1, VALUES_PER_TASK / std::max<int64_t>(1, width));
    worker.for_tasks((rows + together - 1) / together, [&](int64_t task) {
        const int64_t end = std::min(rows, (task + 1) * together);
        for (int64_t row = task * together; row < end; ++row) body(row);
    });
}

}  // namespace farthing
