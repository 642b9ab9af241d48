// The fused passes of residual_block on CUDA as the host sees them: raw pointers, sizes, a stream. No torch, no CUDA
// headers. The convolutions are cuDNN's.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

struct CUstream_st;  // a cudaStream_t points to one

namespace dcaccel::residual_block {

// Images as rows x columns x plane numbers: the columns are channels; contiguous images have planes of H W pixels,
// channels last a row for every pixel and planes of one.
struct Layout {
  int64_t rows, columns, plane;
};

// Doubles of scratch memory that gate_cuda needs.
int64_t gate_scratch_cuda(Layout layout);

// Both return a cudaError_t, and neither waits for the device. Instantiated for float, double, Bf16 and Fp16 (half.h).
//
// y = relu(y + bias + skip); bias and skip may be null.
template <class S>
int tail_cuda(Layout layout, S* y, const S* bias, const S* skip, CUstream_st* stream);

// g = grad [result > 0], which may be grad, and sums = its sums over rows and pixels, in a fixed order.
template <class S>
int gate_cuda(Layout layout, const S* grad, const S* result, S* g, double* sums, double* scratch, CUstream_st* stream);

}  // namespace dcaccel::residual_block
