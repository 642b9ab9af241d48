// What the kernels over rows and centers share on CUDA: a warp owns a row and its lanes are centers; sums over rows are
// taken by a warp over a segment of rows, its lanes being features, and the segments are added in order. Nothing is
// scattered and nothing depends on the order in which blocks run.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "cuda_compat.h"
#include "hd.h"
#include "view.h"

namespace dcaccel::cuda {

constexpr int kWarp = 32, kWarps = 4;  // of a block whose warps work on their own

template <class T>
DC_DEVICE T at(const View<T>& x, int64_t row, int64_t column) {
  return x.data[row * x.row_stride + column * x.column_stride];
}

DC_DEVICE int own_lane() { return int(threadIdx.x) % kWarp; }
DC_DEVICE int64_t own_warp() { return int64_t(blockIdx.x) * kWarps + int(threadIdx.x) / kWarp; }
DC_DEVICE int64_t own_thread() { return int64_t(blockIdx.x) * (kWarps * kWarp) + int(threadIdx.x); }

inline unsigned blocks_of_warps(int64_t warps) { return unsigned((warps + kWarps - 1) / kWarps); }
inline unsigned blocks_of_threads(int64_t threads) {
  return unsigned((threads + kWarps * kWarp - 1) / (kWarps * kWarp));
}

template <class T>
DC_DEVICE T warp_sum(T x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}
template <class T>
DC_DEVICE T warp_least(T x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, x, step);
    x = other < x ? other : x;
  }
  return x;
}

template <class T>
DC_DEVICE T infinite() {
  return T(__builtin_huge_val());
}

// sum_f term(f)^2. A sum is not longer than kRun features before it is put aside, which keeps digits where there are many.
constexpr int64_t kRun = 16;
template <class T, class Term>
DC_DEVICE T sum_of_squares(int64_t features, const Term& term) {
  T total = T(0);
  for (int64_t from = 0; from < features; from += kRun) {
    const int64_t to = from + kRun < features ? from + kRun : features;
    T run = T(0);
#pragma unroll 4
    for (int64_t f = from; f < to; ++f) {
      const T x = term(f);
      run = fma(x, x, run);
    }
    total += run;
  }
  return total;
}

// |x_i - c_k|^2
template <class T>
DC_DEVICE T squared_distance(const View<T>& x, int64_t i, const View<T>& c, int64_t k, int64_t d) {
  return sum_of_squares<T>(d, [&](int64_t f) { return at(x, i, f) - at(c, k, f); });
}

// Rows of a segment; a function of n alone, so that sums have the same bits on every device.
struct Segments {
  int64_t rows, count;

  DC_HD explicit Segments(int64_t n) : rows((n + 255) / 256 < 1024 ? 1024 : (n + 255) / 256), count(0) {
    count = (n + rows - 1) / rows;
  }
};

// sums[i] = the sum over segments of partial[segment][i], for i < size.
DC_DEVICE double over_segments(const double* partial, int64_t segments, int64_t size, int64_t i) {
  double sum = 0;
  for (int64_t s = 0; s < segments; ++s) sum += partial[s * size + i];
  return sum;
}

}  // namespace dcaccel::cuda
