// One fiber a CUDA thread. A thread runs until a barrier or a warp-wide operation; the schedule (dcemu::options) says
// who runs next, so that a kernel that lacks a barrier is wrong in at least one of the orders.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <random>

#include "emu_block.h"

extern "C" void dcemu_switch(void** save, void* to);  // emulation.cpp

namespace dcemu {

constexpr size_t kStack = 512 << 10;  // a translated kernel has thousands of variables
inline void* scheduler = nullptr;

inline void yield() { dcemu_switch(&self().stack, scheduler); }

uint64_t collective(Op op, unsigned mask, uint64_t value, unsigned argument, unsigned width) {
  Thread& t = self();
  t.op = op, t.mask = mask, t.value = value, t.argument = argument, t.width = width, t.state = kAtWarp;
  yield();
  return t.result;
}

void barrier() {
  self().state = kAtBarrier;
  yield();
}

inline void entry() {
  own_block().run(own_block().body);
  finish_copies(self(), 0);
  self().state = kDone;
  yield();
  std::abort();
}

class Schedule {
 public:
  explicit Schedule(const Block& b) : random_(options.seed * 7919u + b.index.x * 131u + b.index.y * 17u + b.index.z) {}

  const std::vector<unsigned>& of(std::vector<unsigned>& all) {
    const unsigned n = unsigned(all.size());
    for (unsigned i = 0; i < n; ++i) all[i] = options.order == 1 ? n - 1 - i : i;
    if (options.order == 2) std::shuffle(all.begin(), all.end(), random_);
    return all;
  }

 private:
  std::mt19937 random_;
};

// All threads up to the next barrier or their end.
inline void run_to_barrier(Block& b, Schedule& schedule) {
  const unsigned n = unsigned(b.threads.size());
  std::vector<unsigned> lanes(32), warps((n + 31) / 32);
  for (unsigned w : schedule.of(warps)) {
    Thread* warp = &b.threads[w * 32];
    const unsigned count = std::min(32u, n - w * 32);
    do {
      for (unsigned l : schedule.of(lanes)) {
        if (l >= count || warp[l].state != kReady) continue;
        T = &warp[l];
        dcemu_switch(&scheduler, warp[l].stack);
      }
    } while (resolve(warp, count));
  }
}

inline void run_block(Block& b, unsigned char* stacks) {
  const unsigned n = unsigned(b.threads.size());
  for (unsigned i = 0; i < n; ++i) {
    place(b, i);
    // Stacks start at different offsets, or those of all threads would share the same few cache sets.
    void** top = reinterpret_cast<void**>(stacks + (i + 1) * kStack - 64 - (i * 320u & 8191u));
    *top = reinterpret_cast<void*>(&entry);
    b.threads[i].stack = top - 6;  // the six registers that dcemu_switch restores
    std::memset(b.threads[i].stack, 0, 48);
  }
  Schedule schedule(b);
  for (;;) {
    run_to_barrier(b, schedule);
    unsigned done = 0, waiting = 0;
    for (auto& t : b.threads) done += t.state == kDone, waiting += t.state == kAtBarrier;
    if (done == n) return;
    T = nullptr;
    if (waiting + done != n)
      die("deadlock: lanes wait in a *_sync intrinsic that the rest of their mask never reaches");
    if (done) die("__syncthreads() while %u threads of the block have exited", done);
    for (auto& t : b.threads) t.state = kReady;
  }
}

void launch(dim3 grid, dim3 block, size_t dynamic_bytes, void (*run)(const void*), const void* body) {
  static std::mutex alone;  // threads of the host may launch, but there is one scheduler
  const std::lock_guard<std::mutex> hold(alone);
  Block b;
  set_up(b, grid, block);
  b.dynamic_bytes = dynamic_bytes, b.run = run, b.body = body;
  static std::vector<unsigned char> stacks;
  stacks.resize(std::max(stacks.size(), b.threads.size() * kStack));
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        b.index = {x, y, z};
        b.shared.clear();
        run_block(b, stacks.data());
      }
}

}  // namespace dcemu
