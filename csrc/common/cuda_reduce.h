// Sums and extremes over the threads of a block, in a fixed order.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "cuda_compat.h"

namespace dcaccel::cuda {

constexpr int kReduceThreads = 256;  // of a block that reduces

struct Sum {
  static DC_DEVICE double of(double a, double b) { return a + b; }
};
struct Least {
  static DC_DEVICE double of(double a, double b) { return b < a ? b : a; }
};
struct Most {
  static DC_DEVICE double of(double a, double b) { return b > a ? b : a; }
};

// `value` of all threads of a block of kReduceThreads, in every thread. All of them call it.
template <class Of>
DC_DEVICE double over_block(double value) {
  DC_SHARED(double, warps, [kReduceThreads / 32]);
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value = Of::of(value, __shfl_xor_sync(kAllLanes, value, step));
  __syncthreads();  // a call before may still be reading
  if (lane == 0) warps[warp] = value;
  __syncthreads();
  value = warps[0];
#pragma unroll
  for (int w = 1; w < kReduceThreads / 32; ++w) value = Of::of(value, warps[w]);
  return value;
}

}  // namespace dcaccel::cuda
