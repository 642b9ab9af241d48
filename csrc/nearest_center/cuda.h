// nearest_center on CUDA as the host sees it: raw pointers, sizes, a stream. No torch, no CUDA headers.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/view.h"

struct CUstream_st;  // a cudaStream_t points to one

namespace dcaccel::nearest_center {

struct Sizes {
  int64_t n, k, d;  // k and d at least 1
};

// Returns a cudaError_t and does not wait for the device. Instantiated for float and double.
template <class T>
int nearest_cuda(Sizes sizes, View<T> x, View<T> centers, int64_t* index, T* distance, CUstream_st* stream);

}  // namespace dcaccel::nearest_center
