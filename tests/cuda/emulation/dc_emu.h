// The device language of CUDA for a host compiler: enough of it to run the project's kernels on the CPU. cuda_compat.h
// includes this where the compiler is not nvcc.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>

#include "emu.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __constant__
#define __restrict__ __restrict

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
inline float2 make_float2(float a, float b) { return {a, b}; }
inline float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
inline int2 make_int2(int a, int b) { return {a, b}; }
inline int4 make_int4(int a, int b, int c, int d) { return {a, b, c, d}; }
inline double2 make_double2(double a, double b) { return {a, b}; }

typedef struct CUstream_st* cudaStream_t;
#ifndef DC_EMU_NO_API  // the PTX path brings a runtime of its own
typedef int cudaError_t;
enum { cudaSuccess = 0, cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t) {
  std::memset(p, value, bytes);
  return cudaSuccess;
}
template <class F>
cudaError_t cudaFuncSetAttribute(F, int, int) {
  return cudaSuccess;
}
#endif

namespace dcemu {
inline char dynamic_tag;
}

#define threadIdx (dcemu::T->tid)
#define blockIdx (dcemu::B->index)
#define blockDim (dcemu::B->block)
#define gridDim (dcemu::B->grid)
#define warpSize 32
#define DC_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ((void)(stream), dcemu::launch((grid), (block), (shared_bytes), [=] { (kernel)(__VA_ARGS__); }))
#define DC_SHARED(type, name, dims) \
  static char name##_tag;           \
  using name##_type = type dims;    \
  auto& name = *reinterpret_cast<name##_type*>(dcemu::shared_memory(&name##_tag, sizeof(name##_type)))
#define DC_DYN_SMEM(name) unsigned char* name = dcemu::shared_memory(&dcemu::dynamic_tag, dcemu::B->dynamic_bytes)

inline void __syncthreads() { dcemu::barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { dcemu::collective(dcemu::kSyncWarp, mask, 0); }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

template <class V>
V __shfl_sync(unsigned mask, V v, int lane, int width = 32) {
  return dcemu::unbits<V>(dcemu::collective(dcemu::kShflIdx, mask, dcemu::bits(v), unsigned(lane), unsigned(width)));
}
template <class V>
V __shfl_up_sync(unsigned mask, V v, unsigned by, int width = 32) {
  return dcemu::unbits<V>(dcemu::collective(dcemu::kShflUp, mask, dcemu::bits(v), by, unsigned(width)));
}
template <class V>
V __shfl_down_sync(unsigned mask, V v, unsigned by, int width = 32) {
  return dcemu::unbits<V>(dcemu::collective(dcemu::kShflDown, mask, dcemu::bits(v), by, unsigned(width)));
}
template <class V>
V __shfl_xor_sync(unsigned mask, V v, int by, int width = 32) {
  return dcemu::unbits<V>(dcemu::collective(dcemu::kShflXor, mask, dcemu::bits(v), unsigned(by), unsigned(width)));
}
inline unsigned __ballot_sync(unsigned mask, int p) {
  return unsigned(dcemu::collective(dcemu::kBallot, mask, p != 0));
}
inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, !p) == 0; }
inline unsigned __match_any_sync(unsigned mask, unsigned v) {
  return unsigned(dcemu::collective(dcemu::kMatch, mask, v));
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned v) {
  return unsigned(dcemu::collective(dcemu::kReduceAdd, mask, v));
}

template <class V>
V atomicAdd(V* p, V v) {
  return dcemu::atomically(p, [=](V old) { return V(old + v); });
}
template <class V>
V atomicMin(V* p, V v) {
  return dcemu::atomically(p, [=](V old) { return std::min(old, v); });
}
template <class V>
V atomicMax(V* p, V v) {
  return dcemu::atomically(p, [=](V old) { return std::max(old, v); });
}
template <class V>
V atomicExch(V* p, V v) {
  return dcemu::atomically(p, [=](V) { return v; });
}
template <class V>
V atomicCAS(V* p, V expected, V v) {
  return dcemu::atomically(p, [=](V old) { return old == expected ? v : old; });
}

template <class V>
V __ldg(const V* p) {
  return *p;
}
template <class V>
V __ldcs(const V* p) {
  return *p;
}
template <class V>
void __stcs(V* p, V v) {
  *p = v;
}

// Exact where the device approximates: the emulation is not about last bits.
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp2(x * 1.4426950408889634f); }
inline float __logf(float x) { return std::log2(x) * 0.6931471805599453f; }
inline float __powf(float a, float b) { return std::exp2(b * std::log2(a)); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
template <class V>
V max(V a, V b) {
  return std::max(a, b);
}
template <class V>
V min(V a, V b) {
  return std::min(a, b);
}

inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes, size_t zeros = 0) {
  dcemu::copy_later(to, from, bytes, zeros);
}
inline void __pipeline_commit() { dcemu::commit_copies(); }
inline void __pipeline_wait_prior(size_t keep) { dcemu::wait_for_copies(keep); }
