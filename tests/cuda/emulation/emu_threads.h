// One OS thread a CUDA thread: slow, but ThreadSanitizer understands it and names the lines that race.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <pthread.h>

#include <thread>

#include "emu_block.h"

namespace dcemu {

uint64_t collective(Op op, unsigned mask, uint64_t value, unsigned argument, unsigned width) {
  Thread& t = self();
  Block& b = own_block();
  Meeting& meeting = b.warps[t.number / 32];
  std::unique_lock<std::mutex> hold(meeting.lock);
  t.op = op, t.mask = mask, t.value = value, t.argument = argument, t.width = width, t.state = kAtWarp;
  const unsigned first = t.number & ~31u, count = std::min<unsigned>(32, unsigned(b.threads.size()) - first);
  if (resolve(&b.threads[first], count)) meeting.changed.notify_all();
  meeting.changed.wait(hold, [&] { return t.state == kReady; });
  return t.result;
}

void barrier() {
  Block& b = own_block();
  std::unique_lock<std::mutex> hold(b.lock);
  const unsigned phase = b.phase;
  if (b.live < b.threads.size()) die("__syncthreads() while threads of the block have exited");
  if (++b.arrived == b.live) {
    b.arrived = 0, ++b.phase;
    b.changed.notify_all();
  } else {
    b.changed.wait(hold, [&] { return b.phase != phase; });
  }
}

inline void run_thread(Block& b, unsigned i, pthread_barrier_t& edge) {
  B = &b, T = &b.threads[i];
  const uint64_t blocks = uint64_t(b.grid.x) * b.grid.y * b.grid.z;
  for (uint64_t g = 0; g < blocks; ++g) {
    place(b, i);
    if (i == 0) {
      b.index = {unsigned(g % b.grid.x), unsigned(g / b.grid.x % b.grid.y),
                 unsigned(g / (uint64_t(b.grid.x) * b.grid.y))};
      b.shared.clear();
      b.live = unsigned(b.threads.size());
    }
    pthread_barrier_wait(&edge);
    b.run(b.body);
    finish_copies(self(), 0);
    {
      std::lock_guard<std::mutex> hold(b.lock);
      self().state = kDone, --b.live;
      if (b.arrived) die("a thread exits while others wait in __syncthreads()");
    }
    pthread_barrier_wait(&edge);
  }
}

void launch(dim3 grid, dim3 block, size_t dynamic_bytes, void (*run)(const void*), const void* body) {
  Block b;
  set_up(b, grid, block);
  b.dynamic_bytes = dynamic_bytes, b.run = run, b.body = body;
  pthread_barrier_t edge;
  pthread_barrier_init(&edge, nullptr, unsigned(b.threads.size()));
  std::vector<std::thread> all;
  for (unsigned i = 0; i < b.threads.size(); ++i) all.emplace_back([&, i] { run_thread(b, i, edge); });
  for (auto& each : all) each.join();
  pthread_barrier_destroy(&edge);
}

}  // namespace dcemu
