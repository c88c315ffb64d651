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
    void serve(int index);
    bool wait_for_list(uint64_t& seen);
    void wake();
    void walk(int index);
    void wait_for(int first, int end, const int64_t* num_tasks);

    static constexpr uint64_t OPEN = uint64_t{1} << 63;

    const int num_threads_;
    std::vector<Scratch> scratch_;
    std::unique_ptr<Progress[]> progress_;
    int capacity_ = 0;
    const Call* calls_ = nullptr;
    int count_ = 0;
    alignas(64) std::atomic<uint64_t> lists_{0};  // how many there were
    alignas(64) std::atomic<uint64_t> gate_{0};   // OPEN while there is something to do, plus the threads inside
    std::atomic<int> asleep_{0};
    std::atomic<uint64_t> rousings_{0};
    std::atomic<bool> ending_{false};
    std::mutex mutex_;
    std::condition_variable woken_;
    std::vector<std::thread> threads_;
};

}  // namespace farthing
