// residual_block on the CPU: the order of the passes, their scratch, registration of the inner operators.
// Compiled once per instruction set for the passes; the rest of the file belongs to level 0.
//
// Three inner operators, called by ops/residual_block.py under the operator of that name: the whole block with our own
// convolutions, both ways, and the passes around convolutions that torch computes.
// SPDX-License-Identifier: Apache-2.0
#include "tails.h"
#include "winograd.h"

#if DCACCEL_LEVEL == 0
#include <algorithm>
#include <optional>
#include <type_traits>

#include "block.h"

namespace dcaccel::residual_block {

#ifdef DCACCEL_HAS_X86_LEVELS
namespace avx2 {
Kernels<float> kernels_float(bool);
Kernels<Bf16> kernels_bf16(bool, bool);
Kernels<Fp16> kernels_fp16(bool);
void tail_kernels(TailKernels (&)[4]);
}  // namespace avx2
namespace avx512 {
Kernels<float> kernels_float(bool);
Kernels<Bf16> kernels_bf16(bool, bool);
Kernels<Fp16> kernels_fp16(bool);
void tail_kernels(TailKernels (&)[4]);
}  // namespace avx512
#endif

namespace {

template <class S>
Kernels<S> active_kernels(bool alone, bool pairs) {
  const auto choose = [&](auto single, auto bf16, auto fp16) {
    if constexpr (std::is_same_v<S, float>) return single(alone);
    else if constexpr (std::is_same_v<S, Bf16>) return bf16(alone, pairs);
    else return fp16(alone);
  };
#ifdef DCACCEL_HAS_X86_LEVELS
  if (active_level() == 2) return choose(avx512::kernels_float, avx512::kernels_bf16, avx512::kernels_fp16);
  if (active_level() == 1) return choose(avx2::kernels_float, avx2::kernels_bf16, avx2::kernels_fp16);
#endif
  return choose(baseline::kernels_float, baseline::kernels_bf16, baseline::kernels_fp16);
}

TailKernels active_tails(const Tensor& x) {
  TailKernels all[4];
  baseline::tail_kernels(all);
#ifdef DCACCEL_HAS_X86_LEVELS
  if (active_level() == 1) avx2::tail_kernels(all);
  if (active_level() == 2) avx512::tail_kernels(all);
#endif
  switch (x.scalar_type()) {
    case ScalarType::Float: return all[0];
    case ScalarType::Double: return all[1];
    case ScalarType::BFloat16: return all[2];
    default: return all[3];
  }
}

// body(Block<S>) for the type of x; `pairs`: products of bfloat16 where that is faster.
template <class Body>
void with_block(const Tensor& x, bool pairs, const Body& body) {
  const bool alone = x.size(2) <= 2 && x.size(3) <= 2;
  switch (x.scalar_type()) {
    case ScalarType::Float: return body(Block<float>(x, active_kernels<float>(alone, pairs)));
    case ScalarType::BFloat16: return body(Block<Bf16>(x, active_kernels<Bf16>(alone, pairs)));
    default: return body(Block<Fp16>(x, active_kernels<Fp16>(alone, pairs)));
  }
}

// x and out of one layout, contiguous or channels last, hidden channels last; channels a multiple of kPanel. hidden and
// out are written.
void block_cpu(Tensor x, Tensor w1, Tensor b1, Tensor w2, Tensor b2, Tensor hidden, Tensor out) {
  with_block(x, false, [&](const auto& block) { block.forward(x, w1, b1, w2, b2, hidden, out); });
}

// x, out, grad and g_x of one layout, weights and their gradients of any. Writes the gradients that are given.
void block_bwd_cpu(Tensor x, Tensor hidden, Tensor out, Tensor w1, Tensor w2, Tensor grad, std::optional<Tensor> g_x,
                   std::optional<Tensor> g_w1, std::optional<Tensor> g_b1, std::optional<Tensor> g_w2,
                   std::optional<Tensor> g_b2) {
  with_block(x, true, [&](const auto& block) {
    block.backward(x, hidden, out, w1, w2, grad, {g_x, g_w1, g_b1, g_w2, g_b2});
  });
}

// y = relu(y + skip); both of one dense layout. The bias is the convolution's.
void tail_cpu(Tensor y, std::optional<Tensor> bias, std::optional<Tensor> skip) {
  expect(!bias && skip);
  const TailTask task{y.mutable_data_ptr(), skip->const_data_ptr(), y.numel(), 16384};
  const TailKernels kernels = active_tails(y);
  each(pieces(task.count, task.step), [&](int64_t item) { kernels.tail(task, item); });
}

// g = grad [result > 0] and its sums over rows and pixels; all three contiguous, or all three channels last. g may be
// grad.
void gate_cpu(Tensor grad, Tensor result, Tensor g, Tensor sums) {
  const int64_t columns = sums.numel(), plane = std::max<int64_t>(1, grad.stride(1));
  const int64_t rows = grad.numel() / (columns * plane);
  const int64_t step = std::max<int64_t>(plane == 1 ? 64 : 1, 32768 / (columns * plane)), items = pieces(rows, step);
  const Tensor partial = empty<double>({items * columns});
  const GateTask task{grad.const_data_ptr(), result.const_data_ptr(), g.mutable_data_ptr(), data<double>(partial),
                      rows, columns, plane, step};
  const TailKernels kernels = active_tails(grad);
  each(items, [&](int64_t item) { kernels.gate(task, item); });
  for (int64_t c = 0; c < columns; ++c) {
    double total = 0;
    for (int64_t item = 0; item < items; ++item) total += task.sums[item * columns + c];
    data<double>(sums)[c] = total;
  }
}

}  // namespace
}  // namespace dcaccel::residual_block

STABLE_TORCH_LIBRARY_FRAGMENT(dcaccel, m) {
  m.def("_residual_forward(Tensor x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2, Tensor(a!) hidden, "
        "Tensor(b!) out) -> ()");
  m.def("_residual_backward(Tensor x, Tensor hidden, Tensor out, Tensor weight1, Tensor weight2, Tensor grad, "
        "Tensor(a!)? g_x, Tensor(b!)? g_weight1, Tensor(c!)? g_bias1, Tensor(d!)? g_weight2, Tensor(e!)? g_bias2) "
        "-> ()");
}

STABLE_TORCH_LIBRARY_IMPL(dcaccel, CPU, m) {
  m.impl("_residual_forward", TORCH_BOX(&dcaccel::residual_block::block_cpu));
  m.impl("_residual_backward", TORCH_BOX(&dcaccel::residual_block::block_bwd_cpu));
  m.impl("_residual_tail", TORCH_BOX(&dcaccel::residual_block::tail_cpu));
  m.impl("_residual_gate", TORCH_BOX(&dcaccel::residual_block::gate_cpu));
}

#endif  // DCACCEL_LEVEL == 0
