// Registers the passes between residual_block's convolutions for CUDA; ops/residual_block.py composes them with torch's.
// SPDX-License-Identifier: Apache-2.0
#include "../common/cuda_tensor.h"
#include "../common/half.h"
#include "cuda.h"

namespace dcaccel::residual_block {
namespace {

using namespace dcaccel::cuda;

// Of a dense tensor (N, C, ...), contiguous or channels last.
Layout layout_of(const Tensor& x) {
  const int64_t columns = x.size(1), plane = x.stride(1) > 1 ? x.stride(1) : 1;
  return {x.numel() / (columns * plane), columns, plane};
}

template <class Body>
void with_storage(const Tensor& x, const Body& body) {
  switch (x.scalar_type()) {
    case ScalarType::Float: return body.template operator()<float>();
    case ScalarType::Double: return body.template operator()<double>();
    case ScalarType::BFloat16: return body.template operator()<Bf16>();
    default: return body.template operator()<Fp16>();
  }
}

// y = relu(y + bias + skip); y and skip of one dense layout.
void tail(Tensor y, std::optional<Tensor> bias, std::optional<Tensor> skip) {
  with_storage(y, [&]<class S>() {
    const auto given = [](const std::optional<Tensor>& t) { return t ? const_data<S>(*t) : nullptr; };
    const Launch launch(y);
    launch.check(tail_cuda<S>(layout_of(y), data<S>(y), given(bias), given(skip), launch.stream()));
  });
}

// g = grad [result > 0] and its sums over rows and pixels; all three of one dense layout. g may be grad.
void gate(Tensor grad, Tensor result, Tensor g, Tensor sums) {
  with_storage(grad, [&]<class S>() {
    const Layout layout = layout_of(grad);
    const Launch launch(grad);
    const Tensor scratch = empty<double>(grad, {gate_scratch_cuda(layout)});
    launch.check(gate_cuda<S>(layout, const_data<S>(grad), const_data<S>(result), data<S>(g), data<double>(sums),
                              data<double>(scratch), launch.stream()));
  });
}

}  // namespace
}  // namespace dcaccel::residual_block

DC_CUDA_LIBRARY_IMPL(m) {
  m.impl("_residual_tail", TORCH_BOX(&dcaccel::residual_block::tail));
  m.impl("_residual_gate", TORCH_BOX(&dcaccel::residual_block::gate));
}
