// The threads of one engine. Not for two callers at a time.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "call.h"

namespace farthing {

extern const Kernel KERNELS[];

class Pool {
  public:
    explicit Pool(int num_threads);
    ~Pool();
    void run(const Call* calls, int count);
    void rouse();  // sleeping threads spin again for a while

  private:
    struct alignas(64) Counter {
        std::atomic<int64_t> value{0};
    };

    void serve(int index);
    uint64_t wait_after(uint64_t seen);
    void wake();
    void walk(int index);
    void meet();

    const int num_threads_;
    std::vector<Scratch> scratch_;
    std::unique_ptr<Counter[]> next_;
    int capacity_ = 0;
    const Call* calls_ = nullptr;
    int count_ = 0;
    alignas(64) std::atomic<uint64_t> epoch_{0};
    alignas(64) std::atomic<int> busy_{0};
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<uint64_t> meetings_{0};
    std::atomic<int> asleep_{0};
    std::atomic<uint64_t> calls_to_wake_{0};
    std::atomic<bool> ending_{false};
    std::mutex mutex_;
    std::condition_variable woken_;
    std::vector<std::thread> threads_;
};

}  // namespace farthing
