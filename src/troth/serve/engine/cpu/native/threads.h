// A pool of threads that share the tasks of one phase after another. The caller works too and waits for nobody who has
// not begun: where other programs hold the cores, it does the whole phase alone. Threads that wait spin first, for
// phases follow each other within microseconds, then sleep.
#pragma once
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace troth {

inline void pause() {
#ifdef __aarch64__
    asm volatile("isb");  // `yield`, which is meant for it, takes no time on most of these
#else
    __builtin_ia32_pause();
#endif
}

class Pool {
  public:
    explicit Pool(int threads) : parts(2 * std::max(threads, 1)) {
        for (int i = 1; i < threads; i++) workers.emplace_back([this] { serve(); });
    }

    ~Pool() {
        stopping = true;
        ring();
        for (auto &worker : workers) worker.join();
    }

    // Calls f(0) ... f(count - 1), each once; returns when all are done. Who is free takes the next few in order: many
    // at first, so that a thread goes through memory forwards, one at the end, so that all are done at once.
    template <class F> void run(int count, F &&f) {
        if (workers.empty() || count <= 1) {
            for (int i = 0; i < count; i++) f(i);
            return;
        }
        const uint64_t epoch = (ticket.load(std::memory_order_relaxed) >> 32) + 1;
        Phase &phase = phases[epoch % 2];
        phase.task.store([](void *context, int i) { (*static_cast<std::remove_reference_t<F> *>(context))(i); },
                         std::memory_order_relaxed);
        phase.context.store(&f, std::memory_order_relaxed);
        phase.count.store(count, std::memory_order_relaxed);
        done.store(0, std::memory_order_relaxed);
        ticket.store(epoch << 32);
        if (sleepers.load()) ring();
        while (share()) {}
        for (int spins = 0; done.load(std::memory_order_acquire) < count; spins++) {
            if (spins < SPINS) pause();
            else sched_yield();
        }
    }

  private:
    static constexpr int SPINS = 2000;

    // Two, so that a thread that comes late to one phase never reads of the next; it then takes no task, because the
    // ticket has changed.
    struct Phase {
        std::atomic<void (*)(void *, int)> task;
        std::atomic<void *> context;
        std::atomic<int> count{0};
    };

    // Takes and does a few tasks; whether there were any.
    bool share() {
        uint64_t now = ticket.load(std::memory_order_acquire);
        for (;;) {
            Phase &phase = phases[(now >> 32) % 2];
            const auto task = phase.task.load(std::memory_order_relaxed);
            void *const context = phase.context.load(std::memory_order_relaxed);
            const int count = phase.count.load(std::memory_order_relaxed), first = int(now & 0xffffffff);
            if (first >= count) return false;
            const int end = first + (count - first + parts - 1) / parts;
            const uint64_t next = (now & ~0xffffffffull) | uint64_t(end);
            if (!ticket.compare_exchange_weak(now, next, std::memory_order_acquire)) continue;
            for (int i = first; i < end; i++) task(context, i);
            done.fetch_add(end - first, std::memory_order_release);
            return true;
        }
    }

    void serve() {
        for (int spins = 0; !stopping;) {
            if (share()) {
                spins = 0;
            } else if (++spins < SPINS) {
                pause();
            } else {
                const uint32_t heard = bell.load();
                sleepers.fetch_add(1);
                if (!stopping && !share()) bell.wait(heard);
                sleepers.fetch_sub(1);
                spins = 0;
            }
        }
    }

    void ring() {
        bell.fetch_add(1);
        bell.notify_all();
    }

    const int parts;
    std::vector<std::thread> workers;
    Phase phases[2];
    std::atomic<bool> stopping{false};
    alignas(64) std::atomic<uint64_t> ticket{0};  // number of the phase, and of its next task
    alignas(64) std::atomic<int> done{0};
    alignas(64) std::atomic<int> sleepers{0};
    std::atomic<uint32_t> bell{0};
};

}  // namespace troth
