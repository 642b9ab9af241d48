// residual_block on CUDA: the passes between cuDNN's convolutions, one each way.
//
// No atomics: blocks sum what their place in the grid says, and one thread a channel adds the blocks' sums in order.
// SPDX-License-Identifier: Apache-2.0
#include "cuda.h"

#include "../common/cuda_compat.h"
#include "../common/half.h"
#include "math.h"

namespace dcaccel::residual_block {
namespace {

constexpr int kThreads = 256;
constexpr int kLanes = 32, kDepth = kThreads / kLanes;  // of a block that has channels side by side
constexpr int64_t kMostBlocks = 4096;                   // of the tail: enough for any device, so that threads loop
constexpr int64_t kPartNumbers = 8192;                  // of a channel that a block sums

int64_t pieces(int64_t count, int64_t step) { return (count + step - 1) / step; }
int64_t part_rows(Layout l) { return l.plane >= kPartNumbers ? 1 : kPartNumbers / l.plane; }
int64_t parts_of(Layout l) { return pieces(l.rows, part_rows(l)); }

template <class S>
__global__ void __launch_bounds__(kThreads)
tail_kernel(Layout layout, S* y, const S* __restrict__ bias, const S* __restrict__ skip) {
  using A = typename Compute<S>::type;
  const int64_t count = layout.rows * layout.columns * layout.plane, stride = int64_t(gridDim.x) * kThreads;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < count; i += stride) {
    A value = to_float(y[i]);
    if (bias) value += to_float(bias[i / layout.plane % layout.columns]);
    if (skip) value += to_float(skip[i]);
    y[i] = of_float<S>(relu(value));
  }
}

template <class S>
DC_DEVICE double gate_one(int64_t at, const S* grad, const S* result, S* g) {
  using A = typename Compute<S>::type;
  const A value = passed(A(to_float(grad[at])), A(to_float(result[at])));
  g[at] = of_float<S>(value);
  return value;
}

// Channels last. Block (p, q) sums kLanes channels from q on over the p-th part of the rows.
template <class S>
__global__ void __launch_bounds__(kThreads)
gate_rows_kernel(Layout layout, int64_t step, const S* grad, const S* result, S* g, double* __restrict__ partial) {
  DC_SHARED(double, sums, [kDepth][kLanes]);
  const int lane = int(threadIdx.x) % kLanes, depth = int(threadIdx.x) / kLanes;
  const int64_t c = int64_t(blockIdx.y) * kLanes + lane, begin = int64_t(blockIdx.x) * step;
  const int64_t end = begin + step < layout.rows ? begin + step : layout.rows;
  double sum = 0;
  if (c < layout.columns)
    for (int64_t r = begin + depth; r < end; r += kDepth) sum += gate_one(r * layout.columns + c, grad, result, g);
  sums[depth][lane] = sum;
  __syncthreads();
  if (depth == 0 && c < layout.columns) {
    for (int d = 1; d < kDepth; ++d) sum += sums[d][lane];
    partial[int64_t(blockIdx.x) * layout.columns + c] = sum;
  }
}

// Contiguous. Block (p, c) sums channel c over the p-th part of the images.
template <class S>
__global__ void __launch_bounds__(kThreads)
gate_planes_kernel(Layout layout, int64_t step, const S* grad, const S* result, S* g, double* __restrict__ partial) {
  DC_SHARED(double, sums, [kThreads]);
  const int thread = int(threadIdx.x);
  const int64_t c = blockIdx.y, begin = int64_t(blockIdx.x) * step;
  const int64_t rows = begin + step < layout.rows ? step : layout.rows - begin;
  double sum = 0;
  for (int64_t i = thread; i < rows * layout.plane; i += kThreads) {
    const int64_t r = begin + i / layout.plane;
    sum += gate_one((r * layout.columns + c) * layout.plane + i % layout.plane, grad, result, g);
  }
  sums[thread] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) sums[thread] += sums[thread + half];
  }
  if (thread == 0) partial[int64_t(blockIdx.x) * layout.columns + c] = sums[0];
}

__global__ void __launch_bounds__(kThreads)
total_kernel(int64_t parts, int64_t columns, const double* __restrict__ partial, double* __restrict__ sums) {
  const int64_t c = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= columns) return;
  double sum = 0;
  for (int64_t part = 0; part < parts; ++part) sum += partial[part * columns + c];
  sums[c] = sum;
}

}  // namespace

int64_t gate_scratch_cuda(Layout layout) { return parts_of(layout) * layout.columns; }

template <class S>
int tail_cuda(Layout layout, S* y, const S* bias, const S* skip, CUstream_st* stream) {
  const int64_t blocks = pieces(layout.rows * layout.columns * layout.plane, kThreads);
  if (!blocks) return 0;
  DC_LAUNCH((tail_kernel<S>), dim3(unsigned(blocks < kMostBlocks ? blocks : kMostBlocks)), dim3(kThreads), 0, stream,
            layout, y, bias, skip);
  return int(cudaGetLastError());
}

template <class S>
int gate_cuda(Layout layout, const S* grad, const S* result, S* g, double* sums, double* scratch, CUstream_st* stream) {
  const int64_t parts = parts_of(layout), step = part_rows(layout);
  if (!layout.columns) return 0;
  if (parts && layout.plane == 1) {
    DC_LAUNCH((gate_rows_kernel<S>), dim3(unsigned(parts), unsigned(pieces(layout.columns, kLanes))), dim3(kThreads), 0,
              stream, layout, step, grad, result, g, scratch);
  } else if (parts) {
    DC_LAUNCH((gate_planes_kernel<S>), dim3(unsigned(parts), unsigned(layout.columns)), dim3(kThreads), 0, stream,
              layout, step, grad, result, g, scratch);
  }
  if (const int error = int(cudaGetLastError())) return error;
  DC_LAUNCH(total_kernel, dim3(unsigned(pieces(layout.columns, kThreads))), dim3(kThreads), 0, stream, parts,
            layout.columns, scratch, sums);
  return int(cudaGetLastError());
}

#define DC_INSTANTIATE(S)                                                       \
  template int tail_cuda<S>(Layout, S*, const S*, const S*, CUstream_st*);      \
  template int gate_cuda<S>(Layout, const S*, const S*, S*, double*, double*, CUstream_st*);
DC_INSTANTIATE(float)
DC_INSTANTIATE(double)
DC_INSTANTIATE(Bf16)
DC_INSTANTIATE(Fp16)
#undef DC_INSTANTIATE

}  // namespace dcaccel::residual_block
