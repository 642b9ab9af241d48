// wasserstein_similarity on CUDA as the host sees it: raw pointers, sizes, a stream. No torch, no CUDA headers.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/view.h"

struct CUstream_st;  // a cudaStream_t points to one

namespace dcaccel::wasserstein_similarity {

struct Sizes {
  int64_t n, z, k;  // at least 1 each
  bool mean_of_rows;
};

// Doubles of scratch memory that the calls need; O(n (z + k)).
int64_t loss_scratch_cuda(Sizes sizes, bool single);
int64_t gradients_scratch_cuda(Sizes sizes, bool single, bool need_mu, bool need_sigma);

// Both return a cudaError_t, and neither waits for the device. Instantiated for float and double.
//
// The state, for the backward, is laid out as in rows.h: ceil(n / 64) * 64 * (2 z + 2 k + 1) numbers, aligned to 16
// bytes like the scratch memory.
template <class T>
int loss_cuda(Sizes sizes, View<T> mu, View<T> sigma, View<T> gamma, T* loss, T* state, double* scratch,
              CUstream_st* stream);

// `grad` is one number in device memory; a gradient that is null is not computed, the others are contiguous.
template <class T>
int gradients_cuda(Sizes sizes, const T* state, const T* grad, T* g_mu, T* g_sigma, T* g_gamma, double* scratch,
                   CUstream_st* stream);

// The distributed form: of the n rows, which several processes hold, this one owns `count` from `start` on.
struct Own {
  int64_t start, count;
};

// Doubles of scratch memory, O(n (z + k)).
int64_t own_sums_scratch_cuda(Sizes sizes, Own own, bool single);
int64_t own_pull_scratch_cuda(Sizes sizes, Own own, bool single);

// out: (count, 1 + k), sum_j exp(q_ij) and sum_j q_ij gamma_j of the own rows i over all rows j.
template <class T>
int own_sums_cuda(Sizes sizes, Own own, View<T> mu, View<T> sigma, View<T> gamma, double* out, double* scratch,
                  CUstream_st* stream);

// out: (count, 2 z), dloss/du / c of the own rows, from r_i / Z_i of all rows and the sizes of the clusters.
template <class T>
int own_pull_cuda(Sizes sizes, Own own, View<T> mu, View<T> sigma, View<T> gamma, const double* share,
                  const double* size, T* out, double* scratch, CUstream_st* stream);

}  // namespace dcaccel::wasserstein_similarity
