// What a binding asks of its arguments, on every device. Host part only.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

namespace dcaccel {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Python has validated; this keeps a direct call of torch.ops from reading what is not there.
inline void expect(bool ok) {
  STD_TORCH_CHECK(ok, "dcaccel: expected arguments as ops.<name> passes them, got others; call that function");
}

template <class... Others>
void expect_pairs(const Tensor& first, const Others&... others) {
  expect(first.dim() == 2 && first.numel() > 0);
  expect(first.scalar_type() == ScalarType::Float || first.scalar_type() == ScalarType::Double);
  (expect(others.dim() == 2 && others.numel() > 0 && others.size(0) == first.size(0) &&
          others.scalar_type() == first.scalar_type()), ...);
}

// What a forward has kept, and the gradient of its loss.
inline void expect_kept(const Tensor& first, const Tensor& state, int64_t size, const Tensor& grad) {
  expect(state.numel() == size && state.is_contiguous() && state.scalar_type() == first.scalar_type());
  expect(grad.numel() == 1 && grad.scalar_type() == first.scalar_type());
}

}  // namespace dcaccel
