// center_sums on CUDA: a warp per center and segment of rows looks for the rows of its center, 32 indices at a time,
// and adds them with lanes as features. Every index is read k times in exchange for sums without atomics.
// SPDX-License-Identifier: Apache-2.0
#include "../common/cuda_centers.h"
#include "cuda.h"
#include "math.h"

namespace dcaccel::center_sums {
namespace {

using namespace dcaccel::cuda;

// partial[segment] holds sums [k][d] and counts [k].
DC_HD int64_t partial_size(Sizes s) { return s.k * s.d + s.k; }

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    segments_kernel(Sizes s, View<T> x, const int64_t* index, int64_t stride, double* partial) {
  const Segments segments(s.n);
  const int64_t warp = own_warp(), k = warp % s.k, segment = warp / s.k;
  if (segment >= segments.count) return;
  const int64_t begin = segment * segments.rows, end = begin + segments.rows < s.n ? begin + segments.rows : s.n;
  const int64_t f = int64_t(blockIdx.y) * kWarp + own_lane();
  double sum = 0, count = 0;
  for (int64_t first = begin; first < end; first += kWarp) {
    const int64_t own = first + own_lane();
    unsigned found = __ballot_sync(kAllLanes, own < end && index[own * stride] == k);
    count += __popc(found);
    for (; found; found &= found - 1) {
      const int64_t row = first + __popc((found & (0u - found)) - 1);  // the lowest that is set
      if (f < s.d) sum += double(at(x, row, f));
    }
  }
  partial += segment * partial_size(s);
  if (f < s.d) partial[k * s.d + f] = sum;
  if (f == 0) partial[s.k * s.d + k] = count;
}

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    finish_kernel(Sizes s, const double* partial, double* sums, int64_t* counts) {
  const int64_t i = own_thread(), size = partial_size(s);
  if (i >= size) return;
  const double sum = over_segments(partial, Segments(s.n).count, size, i);
  if (i < s.k * s.d)
    sums[i] = sum;
  else
    counts[i - s.k * s.d] = int64_t(sum);
}

}  // namespace

int64_t scratch_cuda(Sizes s) { return Segments(s.n).count * partial_size(s); }

template <class T>
int sums_cuda(Sizes s, View<T> x, const int64_t* index, int64_t index_stride, double* sums, int64_t* counts,
              double* scratch, CUstream_st* stream) {
  const dim3 block(kWarps * kWarp);
  const dim3 grid(blocks_of_warps(Segments(s.n).count * s.k), unsigned((s.d + kWarp - 1) / kWarp));
  if (s.n > 0) DC_LAUNCH((segments_kernel<T>), grid, block, 0, stream, s, x, index, index_stride, scratch);
  DC_LAUNCH((finish_kernel<T>), dim3(blocks_of_threads(partial_size(s))), block, 0, stream, s, scratch, sums, counts);
  return int(cudaGetLastError());
}

template int sums_cuda<float>(Sizes, View<float>, const int64_t*, int64_t, double*, int64_t*, double*, CUstream_st*);
template int sums_cuda<double>(Sizes, View<double>, const int64_t*, int64_t, double*, int64_t*, double*, CUstream_st*);

}  // namespace dcaccel::center_sums
