// CUDA on the CPU: the state of one block, shared memory, asynchronous copies and warp-wide operations. What runs the
// threads is in emu_fibers.h (one fiber a thread) or emu_threads.h (one OS thread each, for ThreadSanitizer).
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include "emu.h"

namespace dcemu {

enum State : uint8_t { kReady, kAtBarrier, kAtWarp, kDone };
struct Copy {
  void* to;
  const void* from;
  unsigned bytes, zeros;
};

struct Thread : ThreadPlace {
  void* stack = nullptr;
  State state = kDone;
  Op op{};
  unsigned mask = 0, argument = 0, width = 32;
  uint64_t value = 0, result = 0;
  std::vector<Copy> open;                 // cp.async since the last commit
  std::vector<std::vector<Copy>> groups;  // committed; carried out as late as allowed, when they are waited for
};

struct Shared {
  const void* tag;
  std::unique_ptr<unsigned char[]> memory;
  unsigned char* data;
};

// Where the threads of a warp wait for each other when they are OS threads.
struct Meeting {
  std::mutex lock;
  std::condition_variable changed;
};

struct Block : BlockPlace {
  std::vector<Thread> threads;
  std::vector<Shared> shared;
  void (*run)(const void*) = nullptr;
  const void* body = nullptr;
  std::mutex lock;
  std::condition_variable changed;
  Meeting warps[32];
  unsigned arrived = 0, phase = 0, live = 0;
};

inline Thread& self() { return *static_cast<Thread*>(T); }
inline Block& own_block() { return *static_cast<Block*>(B); }

void die(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::fputs("dcemu: ", stderr);
  std::vfprintf(stderr, format, arguments);
  std::fprintf(stderr, " (block %u,%u,%u thread %u)\n", B->index.x, B->index.y, B->index.z, T ? T->number : 0);
  std::fflush(nullptr);
  std::_Exit(70);
}

unsigned char* shared_memory(const void* tag, size_t bytes) {
  Block& b = own_block();
  std::lock_guard<std::mutex> hold(b.lock);
  for (auto& each : b.shared)
    if (each.tag == tag) return each.data;
  Shared made{tag, std::unique_ptr<unsigned char[]>(new unsigned char[bytes + 16]), nullptr};
  made.data = made.memory.get() + (16 - reinterpret_cast<uintptr_t>(made.memory.get()) % 16) % 16;
  std::memset(made.data, 0xff, bytes);
  b.shared.push_back(std::move(made));
  return b.shared.back().data;
}

void copy_later(void* to, const void* from, size_t bytes, size_t zeros) {
  const auto aligned = [&](const void* p) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; };
  if ((bytes != 4 && bytes != 8 && bytes != 16) || !aligned(to) || (zeros < bytes && !aligned(from)))
    die("cp.async: bad size or alignment");
  self().open.push_back({to, from, unsigned(bytes), unsigned(zeros)});
}

void commit_copies() {
  self().groups.push_back(std::move(self().open));
  self().open.clear();
}

inline void finish_copies(Thread& t, size_t keep) {
  while (t.groups.size() > keep) {
    for (auto& copy : t.groups.front()) {
      std::memcpy(copy.to, copy.from, copy.bytes - copy.zeros);
      std::memset(static_cast<char*>(copy.to) + copy.bytes - copy.zeros, 0, copy.zeros);
    }
    t.groups.erase(t.groups.begin());
  }
}

void wait_for_copies(size_t keep) { finish_copies(self(), keep); }

inline uint64_t reduced(Op op, uint64_t a, uint64_t b) {
  const int64_t x = int64_t(a), y = int64_t(b);
  if (op == kReduceAdd) return unsigned(a + b);
  return uint64_t(op == kReduceMin ? std::min(x, y) : std::max(x, y));
}

// The lane that lane m reads in a shuffle.
inline unsigned source_lane(const Thread& t, unsigned m) {
  const unsigned base = m & ~(t.width - 1), own = m & (t.width - 1);
  if (t.op == kShflIdx) return base + (t.argument & (t.width - 1));
  if (t.op == kShflUp) return own >= t.argument ? m - t.argument : m;
  if (t.op == kShflDown) return own + t.argument < t.width ? m + t.argument : m;
  return (m ^ t.argument) < base + t.width ? m ^ t.argument : m;
}

// Whether all lanes that `mask` names wait in the same operation.
inline bool all_there(const Thread* warp, unsigned lanes, const Thread& caller) {
  bool there = true;
  for (unsigned m = 0; m < 32; ++m) {
    if (!(caller.mask >> m & 1)) continue;
    if (m >= lanes) {
      if (caller.mask == 0xffffffffu) continue;
      die("mask names lanes beyond the block");
    }
    if (warp[m].state == kDone) die("*_sync mask names lane %u, which has exited", m);
    if (warp[m].state != kAtWarp) there = false;
  }
  if (there)
    for (unsigned m = 0; m < lanes; ++m)
      if ((caller.mask >> m & 1) && (warp[m].op != caller.op || warp[m].mask != caller.mask))
        die("lanes of one mask meet in different *_sync intrinsics");
  return there;
}

// Results of a warp-wide operation that all its lanes have reached.
inline void carry_out(Thread* warp, unsigned lanes, unsigned mask) {
  unsigned ballot = 0;
  uint64_t sum = 0;
  bool first = true;
  for (unsigned m = 0; m < lanes; ++m) {
    if (!(mask >> m & 1)) continue;
    if (warp[m].value) ballot |= 1u << m;
    sum = first ? warp[m].value : reduced(warp[m].op, sum, warp[m].value);
    first = false;
  }
  for (unsigned m = 0; m < lanes; ++m) {
    if (!(mask >> m & 1)) continue;
    Thread& t = warp[m];
    if (t.op == kBallot) {
      t.result = ballot;
    } else if (t.op == kMatch) {
      t.result = 0;
      for (unsigned q = 0; q < lanes; ++q)
        if ((mask >> q & 1) && warp[q].value == t.value) t.result |= 1u << q;
    } else if (t.op <= kShflXor) {
      const unsigned from = source_lane(t, m);
      if (from >= lanes || !(mask >> from & 1))
        die("shuffle reads lane %u, which is not in the mask", from);
      t.result = warp[from].value;
    } else if (t.op != kSyncWarp) {
      t.result = sum;
    }
  }
  for (unsigned m = 0; m < lanes; ++m)
    if (mask >> m & 1) warp[m].state = kReady;
}

// Carries out one warp-wide operation if all lanes of its mask have arrived.
inline bool resolve(Thread* warp, unsigned lanes) {
  for (unsigned l = 0; l < lanes; ++l) {
    const Thread& t = warp[l];
    if (t.state != kAtWarp) continue;
    if (!(t.mask >> l & 1)) die("lane %u calls a *_sync intrinsic without being in its mask", l);
    if (!all_there(warp, lanes, t)) continue;
    carry_out(warp, lanes, t.mask);
    return true;
  }
  return false;
}

inline void place(Block& b, unsigned i) {
  Thread& t = b.threads[i];
  t.number = i, t.lane = i % 32, t.state = kReady;
  t.open.clear(), t.groups.clear();
  t.tid = {i % b.block.x, i / b.block.x % b.block.y, i / (b.block.x * b.block.y)};
}

inline void set_up(Block& b, dim3 grid, dim3 block) {
  b.grid = grid, b.block = block;
  b.threads.resize(size_t(block.x) * block.y * block.z);
  B = &b, T = nullptr;
  if (b.threads.empty() || b.threads.size() > 1024) die("invalid block size");
  if (grid.y > 65535 || grid.z > 65535 || grid.x == 0 || grid.y == 0 || grid.z == 0) die("invalid grid size");
}

}  // namespace dcemu
