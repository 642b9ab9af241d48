// mixture_posterior on CUDA: a warp per row, and for the gradients of the parameters a warp per component and segment
// of rows.
// SPDX-License-Identifier: Apache-2.0
#include "../common/cuda_centers.h"
#include "cuda.h"
#include "math.h"

namespace dcaccel::mixture_posterior {
namespace {

using namespace dcaccel::cuda;

// Computed once per call, in double, rounded once: 1 / sigma [k][d] and where the sums of squares begin [k].
template <class T>
struct Scales {
  T *inverse_sigma, *start;
  Scales(Sizes s, double* scratch)
      : inverse_sigma(reinterpret_cast<T*>(scratch)), start(reinterpret_cast<T*>(scratch + s.k * s.d)) {}
};
int64_t doubles_of_scales(Sizes s) { return s.k * s.d + s.k; }

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp) scales_kernel(Sizes s, Mixture<T> m, Scales<T> out) {
  const int64_t k = own_thread();
  if (k >= s.k) return;
  double sum = 0;
  for (int64_t f = 0; f < s.d; ++f) {
    const double v = at(m.log_variance, k, f);
    sum += v, out.inverse_sigma[k * s.d + f] = T(scale(v));
  }
  out.start[k] = T(start(double(at(m.log_weights, k, 0)), sum));
}

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    posterior_kernel(Sizes s, View<T> z, Mixture<T> m, Scales<T> scales, T* log_r) {
  const int64_t row = own_warp();
  if (row >= s.n) return;
  log_r += row * s.k;
  T least = infinite<T>();  // of -2 l
  for (int64_t k = own_lane(); k < s.k; k += kWarp) {
    const T sum = scales.start[k] + sum_of_squares<T>(s.d, [&](int64_t f) {
      return (at(z, row, f) - at(m.mean, k, f)) * scales.inverse_sigma[k * s.d + f];
    });
    log_r[k] = sum, least = sum < least ? sum : least;
  }
  const T top = score(warp_least(least));
  T sum = T(0);
  for (int64_t k = own_lane(); k < s.k; k += kWarp) {
    const T l = score(log_r[k]) - top;
    log_r[k] = l, sum += exp(l);
  }
  sum = log(warp_sum(sum));
  for (int64_t k = own_lane(); k < s.k; k += kWarp) log_r[k] -= sum;
}

// S of a row.
template <class T>
__global__ void __launch_bounds__(kWarps* kWarp) slopes_kernel(Sizes s, View<T> log_r, View<T> grad, T* slopes) {
  const int64_t row = own_warp();
  if (row >= s.n) return;
  T sum = T(0);
  for (int64_t k = own_lane(); k < s.k; k += kWarp) sum += at(grad, row, k);
  sum = warp_sum(sum);
  for (int64_t k = own_lane(); k < s.k; k += kWarp)
    slopes[row * s.k + k] = slope(at(grad, row, k), at(log_r, row, k), sum);
}

// A thread per number of the gradient.
template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    row_gradient_kernel(Sizes s, View<T> z, Mixture<T> m, Scales<T> scales, const T* slopes, T* g_z) {
  const int64_t i = own_thread();
  if (i >= s.n * s.d) return;
  const int64_t row = i / s.d, f = i % s.d;
  const T x = at(z, row, f);
  T sum = T(0);
  for (int64_t k = 0; k < s.k; ++k) {
    const T e = scales.inverse_sigma[k * s.d + f];
    sum = fma(slopes[row * s.k + k] * e, (x - at(m.mean, k, f)) * e, sum);
  }
  g_z[i] = -sum;
}

// Of a segment: sums of S (z - m) and S (z - m)^2, both [k][d], and of S, [k].
struct Partial {
  int64_t first, second, zeroth, size;
  DC_HD explicit Partial(Sizes s) : first(0), second(s.k * s.d), zeroth(2 * s.k * s.d), size(2 * s.k * s.d + s.k) {}
};

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    moments_kernel(Sizes s, View<T> z, Mixture<T> m, const T* slopes, double* partial) {
  const Segments segments(s.n);
  const Partial place(s);
  const int64_t warp = own_warp(), k = warp % s.k, segment = warp / s.k;
  const int64_t f = int64_t(blockIdx.y) * kWarp + own_lane();
  if (segment >= segments.count || f >= s.d) return;
  const int64_t begin = segment * segments.rows, end = begin + segments.rows < s.n ? begin + segments.rows : s.n;
  const T mean = at(m.mean, k, f);
  double zeroth = 0, first = 0, second = 0;
  for (int64_t row = begin; row < end; ++row) {
    const T slope = slopes[row * s.k + k], difference = at(z, row, f) - mean, pulled = slope * difference;
    zeroth += double(slope), first += double(pulled), second += double(pulled * difference);
  }
  partial += segment * place.size;
  partial[place.first + k * s.d + f] = first, partial[place.second + k * s.d + f] = second;
  if (f == 0) partial[place.zeroth + k] = zeroth;
}

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    finish_kernel(Sizes s, const double* partial, Scales<T> scales, T* g_log_weights, T* g_mean, T* g_log_variance) {
  const int64_t i = own_thread();
  if (i >= s.k * s.d) return;
  const Partial place(s);
  const int64_t segments = Segments(s.n).count, k = i / s.d;
  const double e = scales.inverse_sigma[i], precision = e * e;
  const double zeroth = over_segments(partial, segments, place.size, place.zeroth + k);
  g_mean[i] = T(precision * over_segments(partial, segments, place.size, place.first + i));
  g_log_variance[i] = T(0.5 * (precision * over_segments(partial, segments, place.size, place.second + i) - zeroth));
  if (i % s.d == 0) g_log_weights[k] = T(zeroth);
}

int64_t doubles_of_slopes(Sizes s, bool single) { return single ? (s.n * s.k + 1) / 2 : s.n * s.k; }

template <class T>
Scales<T> launch_scales(Sizes s, const Mixture<T>& m, double* scratch, CUstream_st* stream) {
  const Scales<T> scales(s, scratch);
  DC_LAUNCH((scales_kernel<T>), dim3(blocks_of_threads(s.k)), dim3(kWarps * kWarp), 0, stream, s, m, scales);
  return scales;
}

}  // namespace

int64_t posterior_scratch_cuda(Sizes s) { return doubles_of_scales(s); }

template <class T>
int posterior_cuda(Sizes s, View<T> z, Mixture<T> m, T* log_r, double* scratch, CUstream_st* stream) {
  if (s.n == 0) return 0;
  const Scales<T> scales = launch_scales(s, m, scratch, stream);
  DC_LAUNCH((posterior_kernel<T>), dim3(blocks_of_warps(s.n)), dim3(kWarps * kWarp), 0, stream, s, z, m, scales, log_r);
  return int(cudaGetLastError());
}

int64_t gradients_scratch_cuda(Sizes s, bool single) {
  return doubles_of_scales(s) + doubles_of_slopes(s, single) + Segments(s.n).count * Partial(s).size;
}

template <class T>
int gradients_cuda(Sizes s, View<T> z, Mixture<T> m, View<T> log_r, View<T> grad, T* g_z, T* g_log_weights, T* g_mean,
                   T* g_log_variance, double* scratch, CUstream_st* stream) {
  const Scales<T> scales = launch_scales(s, m, scratch, stream);
  T* const slopes = reinterpret_cast<T*>(scratch + doubles_of_scales(s));
  double* const partial = scratch + doubles_of_scales(s) + doubles_of_slopes(s, sizeof(T) == 4);
  const dim3 block(kWarps * kWarp);
  const int64_t segments = Segments(s.n).count;
  if (s.n > 0) DC_LAUNCH((slopes_kernel<T>), dim3(blocks_of_warps(s.n)), block, 0, stream, s, log_r, grad, slopes);
  if (g_z && s.n > 0)
    DC_LAUNCH((row_gradient_kernel<T>), dim3(blocks_of_threads(s.n * s.d)), block, 0, stream, s, z, m, scales, slopes,
              g_z);
  if (g_mean) {
    const dim3 grid(blocks_of_warps(segments * s.k), unsigned((s.d + kWarp - 1) / kWarp));
    if (s.n > 0) DC_LAUNCH((moments_kernel<T>), grid, block, 0, stream, s, z, m, slopes, partial);
    DC_LAUNCH((finish_kernel<T>), dim3(blocks_of_threads(s.k * s.d)), block, 0, stream, s, partial, scales,
              g_log_weights, g_mean, g_log_variance);
  }
  return int(cudaGetLastError());
}

template int posterior_cuda<float>(Sizes, View<float>, Mixture<float>, float*, double*, CUstream_st*);
template int posterior_cuda<double>(Sizes, View<double>, Mixture<double>, double*, double*, CUstream_st*);
template int gradients_cuda<float>(Sizes, View<float>, Mixture<float>, View<float>, View<float>, float*, float*,
                                   float*, float*, double*, CUstream_st*);
template int gradients_cuda<double>(Sizes, View<double>, Mixture<double>, View<double>, View<double>, double*, double*,
                                    double*, double*, double*, CUstream_st*);

}  // namespace dcaccel::mixture_posterior
