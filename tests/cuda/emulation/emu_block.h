// CUDA on the CPU: the state of one block, shared memory, asynchronous copies and warp-wide operations. What runs the
// threads is in emu_fibers.h (one fiber a thread) or emu_threads.h (one OS thread each, for ThreadSanitizer).
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace dcemu {

enum State : uint8_t { kReady, kAtBarrier, kAtWarp, kDone };
enum Op : uint8_t {
  kShflIdx,
  kShflUp,
  kShflDown,
  kShflXor,
  kBallot,
  kSyncWarp,
  kReduceAdd,
  kReduceMin,
  kReduceMax,
  kMatch
};

struct Copy {
  void* to;
  const void* from;
  unsigned bytes, zeros;
};

struct Thread {
  void* stack = nullptr;
  uint3 tid{};
  unsigned number = 0, lane = 0;
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

struct Block {
  dim3 grid, block;
  uint3 index{};
  std::vector<Thread> threads;
  std::vector<Shared> shared;
  size_t dynamic_bytes = 0;
  std::function<void()> body;
  std::mutex lock;
  std::condition_variable changed;
  Meeting warps[32];
  unsigned arrived = 0, phase = 0, live = 0;
};

// order: in which threads run between two barriers. 0 ascending, 1 descending, 2 random.
struct Options {
  int order = 0;
  unsigned seed = 1;
};
inline Options options;
inline thread_local Block* B = nullptr;
inline thread_local Thread* T = nullptr;

// A defect of the kernel. The process ends: what a kernel leaves behind after one means nothing.
[[noreturn]] inline void die(const std::string& what) {
  std::fprintf(stderr, "dcemu: %s (block %u,%u,%u thread %u)\n", what.c_str(), B->index.x, B->index.y, B->index.z,
               T ? T->number : 0);
  std::fflush(nullptr);
  std::_Exit(70);
}

// Shared memory of its own for every variable, so that AddressSanitizer sees where it ends, full of NaN.
inline unsigned char* shared_memory(const void* tag, size_t bytes) {
  std::lock_guard<std::mutex> hold(B->lock);
  for (auto& each : B->shared)
    if (each.tag == tag) return each.data;
  Shared made{tag, std::unique_ptr<unsigned char[]>(new unsigned char[bytes + 16]), nullptr};
  made.data = made.memory.get() + (16 - reinterpret_cast<uintptr_t>(made.memory.get()) % 16) % 16;
  std::memset(made.data, 0xff, bytes);
  B->shared.push_back(std::move(made));
  return B->shared.back().data;
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
    if (warp[m].state == kDone) die("*_sync mask names lane " + std::to_string(m) + ", which has exited");
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
        die("shuffle reads lane " + std::to_string(from) + ", which is not in the mask");
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
    if (!(t.mask >> l & 1)) die("lane " + std::to_string(l) + " calls a *_sync intrinsic without being in its mask");
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

inline void set_up(Block& b, dim3 grid, dim3 block, size_t dynamic_bytes) {
  b.grid = grid, b.block = block, b.dynamic_bytes = dynamic_bytes;
  b.threads.resize(size_t(block.x) * block.y * block.z);
  B = &b, T = nullptr;
  if (b.threads.empty() || b.threads.size() > 1024) die("invalid block size");
  if (grid.y > 65535 || grid.z > 65535 || grid.x == 0 || grid.y == 0 || grid.z == 0) die("invalid grid size");
}

template <class V>
uint64_t bits(V v) {
  static_assert(sizeof(V) <= 8);
  uint64_t u = 0;
  std::memcpy(&u, &v, sizeof v);
  return u;
}
template <class V>
V unbits(uint64_t u) {
  V v;
  std::memcpy(&v, &u, sizeof v);
  return v;
}

// An atomic operation p = f(p); returns the old value.
template <class V, class F>
V atomically(V* p, F f) {
  V old;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  for (;;) {
    V next = f(old);
    if (__atomic_compare_exchange(p, &old, &next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return old;
  }
}

}  // namespace dcemu
