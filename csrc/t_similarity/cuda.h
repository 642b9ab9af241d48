// t_similarity on CUDA as the host sees it: raw pointers, sizes, a stream. No torch, no CUDA headers.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/view.h"

struct CUstream_st;  // a cudaStream_t points to one

namespace dcaccel::t_similarity {

struct Sizes {
  int64_t n, d, width;  // at least 1 each
};
struct Options {
  double dof_z, dof_e;
  bool by_rows, diagonal;
};

// Doubles of scratch memory that the calls need; O(n (d + width)).
int64_t loss_scratch_cuda(Sizes sizes, bool single);
int64_t gradients_scratch_cuda(Sizes sizes, bool single, bool need_z, bool need_e);

// Both return a cudaError_t, and neither waits for the device. Instantiated for float and double. The state, for the
// backward, is that of rows.h, aligned to 16 bytes like the scratch memory.
template <class T>
int loss_cuda(Sizes sizes, Options options, View<T> z, View<T> e, T* loss, T* state, double* scratch,
              CUstream_st* stream);

// `grad` is one number in device memory; a gradient that is null is not computed, the others are contiguous.
template <class T>
int gradients_cuda(Sizes sizes, Options options, const T* state, const T* grad, T* g_z, T* g_e, double* scratch,
                   CUstream_st* stream);

// The distributed form: of the n rows, which several processes hold, this one owns `count` from `start` on.
struct Own {
  int64_t start, count;
};

// Doubles of scratch memory, O(n (d + width)); the first serves own_nearest_cuda, too.
int64_t own_sums_scratch_cuda(Sizes sizes, Own own, bool single);
int64_t own_pull_scratch_cuda(Sizes sizes, Own own, bool single);

// out: (count, 2), lp and lq of the nearest other row, for the own rows.
template <class T>
int own_nearest_cuda(Sizes sizes, Options options, Own own, View<T> z, View<T> e, T* out, double* scratch,
                     CUstream_st* stream);

// out: (count, 3), P, Q and X of the own rows over all rows. `numbers` are the shifts of all rows, (n, 2), which count
// with by_rows and without the diagonal; otherwise shift_z and shift_e do.
template <class T>
int own_sums_cuda(Sizes sizes, Options options, Own own, View<T> z, View<T> e, View<T> numbers, double shift_z,
                  double shift_e, double* out, double* scratch, CUstream_st* stream);

// Gradients of the own rows, contiguous; `numbers` (n, 5) as in rows.h.
template <class T>
int own_pull_cuda(Sizes sizes, Options options, Own own, View<T> z, View<T> e, View<T> numbers, double shift_z,
                  double shift_e, T* g_z, T* g_e, double* scratch, CUstream_st* stream);

}  // namespace dcaccel::t_similarity
