// mixture_posterior on CUDA as the host sees it: raw pointers, sizes, a stream. No torch, no CUDA headers.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/view.h"

struct CUstream_st;  // a cudaStream_t points to one

namespace dcaccel::mixture_posterior {

struct Sizes {
  int64_t n, k, d;  // k and d at least 1
};

// The parameters in device memory; log_weights as a matrix of one column.
template <class T>
struct Mixture {
  View<T> log_weights, mean, log_variance;
};

// Both return a cudaError_t, and neither waits for the device. Instantiated for float and double; log_r and the
// gradients are contiguous.
int64_t posterior_scratch_cuda(Sizes sizes);  // in doubles; O(k d)
template <class T>
int posterior_cuda(Sizes sizes, View<T> z, Mixture<T> mixture, T* log_r, double* scratch, CUstream_st* stream);

// g_z may be null, and the three others together.
int64_t gradients_scratch_cuda(Sizes sizes, bool single);  // in doubles; O(n k)
template <class T>
int gradients_cuda(Sizes sizes, View<T> z, Mixture<T> mixture, View<T> log_r, View<T> grad, T* g_z, T* g_log_weights,
                   T* g_mean, T* g_log_variance, double* scratch, CUstream_st* stream);

}  // namespace dcaccel::mixture_posterior
