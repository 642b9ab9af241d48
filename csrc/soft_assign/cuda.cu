// soft_assign on CUDA: a warp per row, and for the gradient of the centers a warp per center and segment of rows.
// SPDX-License-Identifier: Apache-2.0
#include "../common/cuda_centers.h"
#include "cuda.h"
#include "math.h"

namespace dcaccel::soft_assign {
namespace {

using namespace dcaccel::cuda;

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp) assign_kernel(Sizes s, View<T> z, View<T> centers, T dof, T* q) {
  const int64_t row = own_warp();
  if (row >= s.n) return;
  q += row * s.k;
  T sum = T(0);
  if (dof == T(1)) {
    for (int64_t k = own_lane(); k < s.k; k += kWarp) {
      const T w = weight(T(1) + squared_distance(z, row, centers, k, s.d));
      q[k] = w, sum += w;
    }
  } else {
    T nearest = infinite<T>();
    for (int64_t k = own_lane(); k < s.k; k += kWarp) {
      const T d = squared_distance(z, row, centers, k, s.d);
      q[k] = d, nearest = d < nearest ? d : nearest;
    }
    nearest = warp_least(nearest);
    const T inverse = T(1) / (dof + nearest), power = -(dof + T(1)) / T(2);
    for (int64_t k = own_lane(); k < s.k; k += kWarp) {
      const T w = exp(score(q[k], nearest, inverse, power));
      q[k] = w, sum += w;
    }
  }
  const T scale = T(1) / warp_sum(sum);
  for (int64_t k = own_lane(); k < s.k; k += kWarp) q[k] *= scale;
}

// S of a row.
template <class T>
__global__ void __launch_bounds__(kWarps* kWarp, 8)  // 64 registers are there; with fewer, doubles spill
    slopes_kernel(Sizes s, View<T> z, View<T> centers, View<T> q, View<T> grad, T dof, T* slopes) {
  const int64_t row = own_warp();
  if (row >= s.n) return;
  T h = T(0);
  for (int64_t k = own_lane(); k < s.k; k += kWarp) h = fma(at(q, row, k), at(grad, row, k), h);
  h = warp_sum(h);
  for (int64_t k = own_lane(); k < s.k; k += kWarp) {
    const T d = squared_distance(z, row, centers, k, s.d);
    slopes[row * s.k + k] = slope(at(q, row, k), at(grad, row, k), h, dof + d, -(dof + T(1)));
  }
}

// A thread per number of the gradient.
template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    row_gradient_kernel(Sizes s, View<T> z, View<T> centers, const T* slopes, T* g_z) {
  const int64_t i = own_thread();
  if (i >= s.n * s.d) return;
  const int64_t row = i / s.d, f = i % s.d;
  const T x = at(z, row, f);
  T sum = T(0);
  for (int64_t k = 0; k < s.k; ++k) sum = fma(slopes[row * s.k + k], x - at(centers, k, f), sum);
  g_z[i] = sum;
}

// partial[segment][k][f] = sum_i S_ik (z_i - c_k) over a segment; blockIdx.y counts groups of features.
template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    center_sums_kernel(Sizes s, View<T> z, View<T> centers, const T* slopes, double* partial) {
  const Segments segments(s.n);
  const int64_t warp = own_warp(), k = warp % s.k, segment = warp / s.k;
  const int64_t f = int64_t(blockIdx.y) * kWarp + own_lane();
  if (segment >= segments.count || f >= s.d) return;
  const int64_t begin = segment * segments.rows, end = begin + segments.rows < s.n ? begin + segments.rows : s.n;
  const T c = at(centers, k, f);
  double sum = 0;
  for (int64_t row = begin; row < end; ++row) sum += double(slopes[row * s.k + k] * (at(z, row, f) - c));
  partial[(segment * s.k + k) * s.d + f] = sum;
}

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp) finish_kernel(Sizes s, const double* partial, T* g_centers) {
  const int64_t i = own_thread();
  if (i < s.k * s.d) g_centers[i] = T(-over_segments(partial, Segments(s.n).count, s.k * s.d, i));
}

int64_t doubles_of_slopes(Sizes s, bool single) { return single ? (s.n * s.k + 1) / 2 : s.n * s.k; }

}  // namespace

template <class T>
int assign_cuda(Sizes s, View<T> z, View<T> centers, double dof, T* q, CUstream_st* stream) {
  if (s.n == 0) return 0;
  DC_LAUNCH((assign_kernel<T>), dim3(blocks_of_warps(s.n)), dim3(kWarps * kWarp), 0, stream, s, z, centers, T(dof), q);
  return int(cudaGetLastError());
}

int64_t gradients_scratch_cuda(Sizes s, bool single) {
  return doubles_of_slopes(s, single) + Segments(s.n).count * s.k * s.d;
}

template <class T>
int gradients_cuda(Sizes s, View<T> z, View<T> centers, View<T> q, View<T> grad, double dof, T* g_z, T* g_centers,
                   double* scratch, CUstream_st* stream) {
  T* const slopes = reinterpret_cast<T*>(scratch);
  double* const partial = scratch + doubles_of_slopes(s, sizeof(T) == 4);
  const dim3 block(kWarps * kWarp);
  const int64_t segments = Segments(s.n).count;
  if (s.n > 0)
    DC_LAUNCH((slopes_kernel<T>), dim3(blocks_of_warps(s.n)), block, 0, stream, s, z, centers, q, grad, T(dof), slopes);
  if (g_z && s.n > 0)
    DC_LAUNCH((row_gradient_kernel<T>), dim3(blocks_of_threads(s.n * s.d)), block, 0, stream, s, z, centers, slopes,
              g_z);
  if (g_centers) {
    const dim3 grid(blocks_of_warps(segments * s.k), unsigned((s.d + kWarp - 1) / kWarp));
    if (s.n > 0) DC_LAUNCH((center_sums_kernel<T>), grid, block, 0, stream, s, z, centers, slopes, partial);
    DC_LAUNCH((finish_kernel<T>), dim3(blocks_of_threads(s.k * s.d)), block, 0, stream, s, partial, g_centers);
  }
  return int(cudaGetLastError());
}

template int assign_cuda<float>(Sizes, View<float>, View<float>, double, float*, CUstream_st*);
template int assign_cuda<double>(Sizes, View<double>, View<double>, double, double*, CUstream_st*);
template int gradients_cuda<float>(Sizes, View<float>, View<float>, View<float>, View<float>, double, float*, float*,
                                   double*, CUstream_st*);
template int gradients_cuda<double>(Sizes, View<double>, View<double>, View<double>, View<double>, double, double*,
                                    double*, double*, CUstream_st*);

}  // namespace dcaccel::soft_assign
