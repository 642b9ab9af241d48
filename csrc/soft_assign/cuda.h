// soft_assign on CUDA as the host sees it: raw pointers, sizes, a stream. No torch, no CUDA headers.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/view.h"

struct CUstream_st;  // a cudaStream_t points to one

namespace dcaccel::soft_assign {

struct Sizes {
  int64_t n, k, d;  // k and d at least 1
};

// Both return a cudaError_t, and neither waits for the device. Instantiated for float and double; q and the gradients
// are contiguous, views are in device memory.
template <class T>
int assign_cuda(Sizes sizes, View<T> z, View<T> centers, double dof, T* q, CUstream_st* stream);

// Doubles of scratch memory; O(n k).
int64_t gradients_scratch_cuda(Sizes sizes, bool single);

// A gradient that is null is not computed.
template <class T>
int gradients_cuda(Sizes sizes, View<T> z, View<T> centers, View<T> q, View<T> grad, double dof, T* g_z, T* g_centers,
                   double* scratch, CUstream_st* stream);

}  // namespace dcaccel::soft_assign
