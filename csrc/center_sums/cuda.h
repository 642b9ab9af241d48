// center_sums on CUDA as the host sees it: raw pointers, sizes, a stream. No torch, no CUDA headers.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/view.h"

struct CUstream_st;  // a cudaStream_t points to one

namespace dcaccel::center_sums {

struct Sizes {
  int64_t n, k, d;  // k and d at least 1
};

int64_t scratch_cuda(Sizes sizes);  // in doubles; O(k d), for at most 256 segments of rows

// Returns a cudaError_t and does not wait for the device. Instantiated for float and double. Rows whose index names no
// center are left out.
template <class T>
int sums_cuda(Sizes sizes, View<T> x, const int64_t* index, int64_t index_stride, double* sums, int64_t* counts,
              double* scratch, CUstream_st* stream);

}  // namespace dcaccel::center_sums
