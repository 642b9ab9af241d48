// SPDX-License-Identifier: Apache-2.0
#include "threads.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace dcaccel {
namespace {

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// The matches of a tournament, by rounds of the circle method in which every block plays once: an odd number of blocks
// leaves one without opponent, which plays itself; an even number does so in a round before.
struct Tournament {
  int64_t blocks, matches;
  void (*play_one)(void*, int64_t, int64_t);
  void* context;
  std::unique_ptr<std::atomic<int64_t>[]> finished;  // rounds that each block has behind it
  std::unique_ptr<std::atomic<bool>[]> taken;        // matches that somebody plays or has played

  Tournament(int64_t blocks_, void (*play_)(void*, int64_t, int64_t), void* context_)
      : blocks(blocks_), matches(blocks * (blocks + 1) / 2), play_one(play_), context(context_),
        finished(std::make_unique<std::atomic<int64_t>[]>(blocks)),
        taken(std::make_unique<std::atomic<bool>[]>(matches)) {}

  struct Match {
    int64_t round, a, b;
  };
  Match match(int64_t i) const {
    const bool even = blocks % 2 == 0;
    if (even && i < blocks) return {0, i, i};
    if (even) i -= blocks;
    const int64_t tables = (blocks + 1) / 2, ring = 2 * tables - 1, r = i / tables, table = i % tables;
    const int64_t b = (r - table + ring) % ring, a = table > 0 ? (r + table) % ring : even ? ring : b;
    return {r + even, std::min(a, b), std::max(a, b)};
  }
  bool ready(const Match& m) const {
    return finished[m.a].load(std::memory_order_acquire) == m.round &&
           finished[m.b].load(std::memory_order_acquire) == m.round;
  }
  bool take(int64_t i) {
    return !taken[i].load(std::memory_order_relaxed) && ready(match(i)) &&
           !taken[i].exchange(true, std::memory_order_relaxed);
  }
  void play(const Match& m) {
    play_one(context, m.a, m.b);
    finished[m.a].store(m.round + 1, std::memory_order_release);
    finished[m.b].store(m.round + 1, std::memory_order_release);
  }
  void take_part();
};

// What one thread does: play the first match that nobody has taken and whose blocks are both there. The first of all that
// are left waits only for matches that are being played, so somebody can always play. A thread that finds none for long
// makes room: the one it waits for may have lost its core.
void Tournament::take_part() {
  int64_t first = 0;
  for (int idle = 0;;) {
    while (first < matches && taken[first].load(std::memory_order_relaxed)) ++first;
    if (first == matches) return;
    const int64_t end = std::min(matches, first + blocks);
    int64_t i = first;
    while (i < end && !take(i)) ++i;
    if (i < end) {
      play(match(i)), idle = 0;
    } else if (++idle < 1000) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

// body() on as many of torch's threads, and back when all are done.
template <class Body>
void on_threads(int64_t count, const Body& body) {
#ifdef __SANITIZE_THREAD__  // which does not see the barriers of OpenMP, that torch has
  std::vector<std::thread> others;
  for (int64_t i = 1; i < count; ++i) others.emplace_back(body);
  body();
  for (auto& other : others) other.join();
#else
  torch::stable::parallel_for(0, count, 1, [&](int64_t, int64_t) { body(); });
#endif
}

}  // namespace

void parallel(int64_t count, void (*body)(void*, int64_t), void* context) {
  const int64_t threads = torch::stable::get_num_threads();
  if (count <= 1 || threads <= 1) {
    for (int64_t i = 0; i < count; ++i) body(context, i);
    return;
  }
  std::atomic<int64_t> next{0};
  on_threads(threads < count ? threads : count, [&] {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) body(context, i);
  });
}

void tournament(int64_t blocks, void (*play)(void*, int64_t, int64_t), void* context) {
  Tournament all(blocks, play, context);
  const int64_t players = std::min<int64_t>(torch::stable::get_num_threads(), blocks);
  if (players <= 1) return all.take_part();
  on_threads(players, [&] { all.take_part(); });
}

}  // namespace dcaccel
