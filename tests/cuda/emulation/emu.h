// What a kernel, its launcher and a driver call of the emulation. They include little, because there are dozens of
// builds; emulation.cpp, compiled once a way, has the rest.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace dcemu {

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

// Where a thread and a block are.
struct ThreadPlace {
  uint3 tid{};
  unsigned number = 0, lane = 0;
};
struct BlockPlace {
  dim3 grid, block;
  uint3 index{};
  size_t dynamic_bytes = 0;
};

// order: in which threads run between two barriers. 0 ascending, 1 descending, 2 random.
struct Options {
  int order = 0;
  unsigned seed = 1;
};
inline Options options;
inline thread_local constinit BlockPlace* B = nullptr;
inline thread_local constinit ThreadPlace* T = nullptr;

// A defect of the kernel. The process ends: what a kernel leaves behind after one means nothing.
[[noreturn]] __attribute__((format(printf, 1, 2))) void die(const char* format, ...);

// Shared memory of its own for every variable, so that AddressSanitizer sees where it ends, full of NaN.
unsigned char* shared_memory(const void* tag, size_t bytes);

uint64_t collective(Op op, unsigned mask, uint64_t value, unsigned argument = 0, unsigned width = 32);
void barrier();
void copy_later(void* to, const void* from, size_t bytes, size_t zeros);
void commit_copies();
void wait_for_copies(size_t keep);  // all but the latest groups

void launch(dim3 grid, dim3 block, size_t dynamic_bytes, void (*run)(const void*), const void* body);
template <class F>
void launch(dim3 grid, dim3 block, size_t dynamic_bytes, const F& body) {
  launch(grid, block, dynamic_bytes, [](const void* f) { (*static_cast<const F*>(f))(); }, &body);
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
