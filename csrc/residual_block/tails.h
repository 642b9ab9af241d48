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

// g = grad [result > 0], rows x columns x plane; g may be grad. Row `item` of sums: those of the `step` rows of an item.
struct GateTask {
  const void *grad, *result;
  void* g;
  double* sums;
  int64_t rows, columns, plane, step;
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

// Up to kSpan numbers; sum[i] += g[i].
constexpr int64_t kSpan = 256;

template <class S, class A>
DC_HD void gate_span(const GateTask& task, int64_t at, int64_t span, A (&sum)[kSpan]) {
  const S *grad = static_cast<const S*>(task.grad) + at, *result = static_cast<const S*>(task.result) + at;
  S* g = static_cast<S*>(task.g) + at;
#pragma GCC ivdep
  for (int64_t i = 0; i < span; ++i) {
    const A value = passed(A(to_float(grad[i])), A(to_float(result[i])));
    sum[i] += value, g[i] = of_float<S>(value);
  }
}

// Channels last: planes of one number.
template <class S>
void gate_rows(const GateTask& task, int64_t begin, int64_t end, double* total) {
  constexpr int64_t kRows = 64;  // sums of so many rows stay in A, so that it rounds little
  for (int64_t c = 0; c < task.columns; c += kSpan)
    for (int64_t block = begin; block < end; block += kRows) {
      const int64_t span = c + kSpan < task.columns ? kSpan : task.columns - c;
      typename Compute<S>::type sum[kSpan] = {};
      for (int64_t r = block; r < block + kRows && r < end; ++r) gate_span<S>(task, r * task.columns + c, span, sum);
      for (int64_t i = 0; i < span; ++i) total[c + i] += sum[i];
    }
}

template <class S>
void gate_planes(const GateTask& task, int64_t begin, int64_t end, double* total) {
  for (int64_t r = begin; r < end; ++r)
    for (int64_t c = 0; c < task.columns; ++c)
      for (int64_t p = 0; p < task.plane; p += kSpan) {
        const int64_t span = p + kSpan < task.plane ? kSpan : task.plane - p;
        typename Compute<S>::type sum[kSpan];
        for (int64_t i = 0; i < span; ++i) sum[i] = 0;
        gate_span<S>(task, (r * task.columns + c) * task.plane + p, span, sum);
        for (int64_t i = 0; i < span; ++i) total[c] += sum[i];
      }
}

template <class S>
void gate(const GateTask& task, int64_t item) {
  const int64_t begin = item * task.step, end = begin + task.step < task.rows ? begin + task.step : task.rows;
  double* total = task.sums + item * task.columns;
  for (int64_t c = 0; c < task.columns; ++c) total[c] = 0;
  task.plane == 1 ? gate_rows<S>(task, begin, end, total) : gate_planes<S>(task, begin, end, total);
}

// For float, double, bfloat16 and float16, in this order.
void tail_kernels(TailKernels (&to)[4]) {
  to[0] = {tail<float>, gate<float>}, to[1] = {tail<double>, gate<double>};
  to[2] = {tail<Bf16>, gate<Bf16>}, to[3] = {tail<Fp16>, gate<Fp16>};
}

}  // namespace DCACCEL_ISA
}  // namespace dcaccel::residual_block
