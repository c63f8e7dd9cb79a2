// A pool of threads that share the tasks of one phase after another. Waiting is spinning first, for phases follow each
// other within microseconds, then sleep: spinning for long starves other programs on the same cores.
#pragma once
#include <immintrin.h>
#include <sched.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace troth {

class Pool {
  public:
    explicit Pool(int threads) {
        for (int i = 1; i < threads; i++) workers.emplace_back([this] { serve(); });
    }

    ~Pool() {
        task = nullptr;
        begin();
        for (auto &worker : workers) worker.join();
    }

    int threads() const { return int(workers.size()) + 1; }

    // Calls f(0) ... f(count - 1), each once; returns when all are done. Who is free takes the next few in order: many
    // at first, so that a thread goes through memory forwards, one at the end, so that all are done at once.
    template <class F> void run(int count, F &&f) {
        if (workers.empty() || count <= 1) {
            for (int i = 0; i < count; i++) f(i);
            return;
        }
        task = [](void *context, int i) { (*static_cast<std::remove_reference_t<F> *>(context))(i); };
        context = &f;
        total = count;
        next.store(0, std::memory_order_relaxed);
        busy.store(int(workers.size()), std::memory_order_relaxed);
        begin();
        share();
        for (int spins = 0; busy.load(std::memory_order_acquire); spins++) {
            if (spins < SPINS) _mm_pause();
            else sched_yield();
        }
    }

  private:
    static constexpr int SPINS = 2000;

    void begin() {
        epoch.fetch_add(1, std::memory_order_release);
        epoch.notify_all();
    }

    void share() {
        const int parts = 2 * threads();
        for (int first = next.load(std::memory_order_relaxed); first < total;) {
            const int end = first + (total - first + parts - 1) / parts;
            if (!next.compare_exchange_weak(first, end, std::memory_order_relaxed)) continue;
            for (int i = first; i < end; i++) task(context, i);
            first = next.load(std::memory_order_relaxed);
        }
    }

    void serve() {
        for (uint32_t seen = 0;; seen++) {
            for (int spins = 0; spins < SPINS && epoch.load(std::memory_order_acquire) == seen; spins++) _mm_pause();
            epoch.wait(seen, std::memory_order_acquire);
            if (!task) return;
            share();
            busy.fetch_sub(1, std::memory_order_release);
        }
    }

    std::vector<std::thread> workers;
    void (*task)(void *, int) = nullptr;
    void *context = nullptr;
    int total = 0;
    alignas(64) std::atomic<uint32_t> epoch{0};
    alignas(64) std::atomic<int> next{0};
    alignas(64) std::atomic<int> busy{0};
};

}  // namespace troth
