// SPDX-License-Identifier: Apache-2.0
#include "threads.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>

namespace dcaccel {
namespace {

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// The matches of a tournament in the order of rounds. Round 0 is every block against itself, then the circle method
// with an even number of seats; the opponent `blocks` is a bye.
struct Tournament {
  int64_t blocks, seats, matches;
  void (*play_one)(void*, int64_t, int64_t);
  void* context;
  std::unique_ptr<std::atomic<int64_t>[]> finished;  // rounds that each block has behind it
  std::atomic<int64_t> next{0};

  Tournament(int64_t blocks_, void (*play_)(void*, int64_t, int64_t), void* context_)
      : blocks(blocks_), seats(blocks + blocks % 2), matches(blocks + (blocks > 1 ? (seats - 1) * (seats / 2) : 0)),
        play_one(play_), context(context_), finished(std::make_unique<std::atomic<int64_t>[]>(seats)) {}

  struct Match {
    int64_t round, a, b;
  };
  Match match(int64_t i) const {
    if (i < blocks) return {0, i, i};
    const int64_t ring = seats - 1, r = (i - blocks) / (seats / 2), table = (i - blocks) % (seats / 2);
    const int64_t a = table == 0 ? ring : (r + table) % ring, b = (r - table + ring) % ring;
    return {r + 1, std::min(a, b), std::max(a, b)};
  }
  bool ready(const Match& m) const {
    return finished[m.a].load(std::memory_order_acquire) == m.round &&
           (m.b == blocks || finished[m.b].load(std::memory_order_acquire) == m.round);
  }
  void play(const Match& m) {
    if (m.b < blocks) {
      play_one(context, m.a, m.b);
      finished[m.b].store(m.round + 1, std::memory_order_release);
    }
    finished[m.a].store(m.round + 1, std::memory_order_release);
  }
  bool ready_soon(const Match& m, int spins) const {
    for (; !ready(m); relax())
      if (spins-- == 0) return false;
    return true;
  }
  void take_part();
};

// What one thread does: play the next match once both blocks are there. Usually they are ten microseconds away. If they
// do not come for a hundred, the thread that has them has lost its core: put the match aside and play others, or a busy
// machine would stop every thread for a time slice. The earliest match that is not finished waits for nothing, so
// somebody can always play.
void Tournament::take_part() {
  Match aside[16];
  for (int count = 0;;) {
    Match* const found = std::find_if(aside, aside + count, [&](const Match& m) { return ready(m); });
    if (found != aside + count) {
      play(*found);
      std::copy(found + 1, aside + count--, found);
      continue;
    }
    const int64_t i = count < 16 ? next.fetch_add(1, std::memory_order_relaxed) : matches;
    if (i < matches) {
      aside[count] = match(i);
      if (ready_soon(aside[count], count ? 0 : 5000)) {
        play(aside[count]);
      } else {
        ++count;
      }
    } else if (count > 0) {
      std::this_thread::yield();
    } else {
      return;
    }
  }
}

}  // namespace

void parallel(int64_t count, void (*body)(void*, int64_t), void* context) {
  const int64_t threads = torch::stable::get_num_threads();
  if (count <= 1 || threads <= 1) {
    for (int64_t i = 0; i < count; ++i) body(context, i);
    return;
  }
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, threads < count ? threads : count, 1, [&](int64_t, int64_t) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) body(context, i);
  });
}

void tournament(int64_t blocks, void (*play)(void*, int64_t, int64_t), void* context) {
  Tournament all(blocks, play, context);
  const int64_t players = std::min<int64_t>(torch::stable::get_num_threads(), blocks);
  if (players <= 1) return all.take_part();
  torch::stable::parallel_for(0, players, 1, [&](int64_t, int64_t) { all.take_part(); });
}

}  // namespace dcaccel
