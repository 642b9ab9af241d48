// nearest_center on CUDA: a warp per row.
// SPDX-License-Identifier: Apache-2.0
#include "../common/cuda_centers.h"
#include "cuda.h"
#include "math.h"

namespace dcaccel::nearest_center {
namespace {

using namespace dcaccel::cuda;

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    nearest_kernel(Sizes s, View<T> x, View<T> centers, int64_t* index, T* distance) {
  const int64_t row = own_warp();
  if (row >= s.n) return;
  T best = infinite<T>();
  int64_t number = 0;
  for (int64_t k = own_lane(); k < s.k; k += kWarp) {
    const T d = squared_distance(x, row, centers, k, s.d);
    if (d < best) best = d, number = k;
  }
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const T d = __shfl_xor_sync(kAllLanes, best, step);
    const long long k = __shfl_xor_sync(kAllLanes, (long long)number, step);
    if (better(d, int64_t(k), best, number)) best = d, number = k;
  }
  if (own_lane() != 0) return;
  const bool none = best == infinite<T>();  // nothing is the smallest
  index[row] = none ? 0 : number;
  distance[row] = none ? squared_distance(x, row, centers, 0, s.d) : best;
}

}  // namespace

template <class T>
int nearest_cuda(Sizes s, View<T> x, View<T> centers, int64_t* index, T* distance, CUstream_st* stream) {
  if (s.n == 0) return 0;
  DC_LAUNCH((nearest_kernel<T>), dim3(blocks_of_warps(s.n)), dim3(kWarps * kWarp), 0, stream, s, x, centers, index,
            distance);
  return int(cudaGetLastError());
}

template int nearest_cuda<float>(Sizes, View<float>, View<float>, int64_t*, float*, CUstream_st*);
template int nearest_cuda<double>(Sizes, View<double>, View<double>, int64_t*, double*, CUstream_st*);

}  // namespace dcaccel::nearest_center
