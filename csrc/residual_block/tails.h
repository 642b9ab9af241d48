// What lies between convolutions that torch computes, one pass each, for one instruction set.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "../common/half.h"
#include "../common/isa.h"
#include "math.h"

namespace dcaccel::residual_block {

// y = relu(y + skip); an item is `step` numbers.
struct TailTask {
  void* y;
  const void* skip;
  int64_t count, step;
};

// g = grad [result > 0], rows x columns; g may be grad. Row `item` of sums: those of the `step` rows of g of an item.
struct GateTask {
  const void *grad, *result;
  void* g;
  double* sums;
  int64_t rows, columns, step;
};

struct TailKernels {
  void (*tail)(const TailTask&, int64_t item);
  void (*gate)(const GateTask&, int64_t item);
};

namespace DCACCEL_ISA {

template <class S>
void tail(const TailTask& task, int64_t item) {
  using A = typename Compute<S>::type;
  const int64_t begin = item * task.step, count = begin + task.step < task.count ? task.step : task.count - begin;
  S* __restrict y = static_cast<S*>(task.y) + begin;
  const S* __restrict skip = static_cast<const S*>(task.skip) + begin;
  for (int64_t i = 0; i < count; ++i) y[i] = of_float<S>(relu(A(to_float(skip[i]) + to_float(y[i]))));
}

template <class S>
void gate(const GateTask& task, int64_t item) {
  using A = typename Compute<S>::type;
  constexpr int64_t kSpan = 256, kRows = 64;  // sums of kRows rows stay in A, so that it rounds little
  const int64_t begin = item * task.step, end = begin + task.step < task.rows ? begin + task.step : task.rows;
  double* total = task.sums + item * task.columns;
  for (int64_t c = 0; c < task.columns; ++c) total[c] = 0;
  for (int64_t c0 = 0; c0 < task.columns; c0 += kSpan)
    for (int64_t r0 = begin; r0 < end; r0 += kRows) {
      const int64_t span = c0 + kSpan < task.columns ? kSpan : task.columns - c0;
      A sum[kSpan] = {};
      for (int64_t r = r0; r < r0 + kRows && r < end; ++r) {
        const int64_t at = r * task.columns + c0;
        const S *grad = static_cast<const S*>(task.grad) + at, *result = static_cast<const S*>(task.result) + at;
        S* g = static_cast<S*>(task.g) + at;
#pragma GCC ivdep
        for (int64_t c = 0; c < span; ++c) {
          const A value = passed(A(to_float(grad[c])), A(to_float(result[c])));
          sum[c] += value, g[c] = of_float<S>(value);
        }
      }
      for (int64_t c = 0; c < span; ++c) total[c0 + c] += sum[c];
    }
}

// For float, double, bfloat16 and float16, in this order.
void tail_kernels(TailKernels (&to)[4]) {
  to[0] = {tail<float>, gate<float>}, to[1] = {tail<double>, gate<double>};
  to[2] = {tail<Bf16>, gate<Bf16>}, to[3] = {tail<Fp16>, gate<Fp16>};
}

}  // namespace DCACCEL_ISA
}  // namespace dcaccel::residual_block
