// The derivative of wasserstein_similarity and t_similarity on the CPU, told to autograd in C++: the same in Python costs
// 30 us a step, and the kernels of a batch of 300 rows take 120. The only file that needs torch's C++ interface, which
// changes from version to version; so it is a library of its own, for one version, and can be missing (ops/_define.py).
// SPDX-License-Identifier: Apache-2.0
#include <pybind11/pybind11.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>

namespace dcaccel {
namespace {

using c10::IValue;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// An operator (inputs..., options...) -> (loss, state), tensors first, and its gradient
// <op>_bwd(inputs..., state, grad, options..., whether each input needs one) -> one tensor an input.
struct PairLoss : torch::autograd::Function<PairLoss> {
  static variable_list forward(AutogradContext* ctx, at::TensorList inputs, at::ArrayRef<IValue> options,
                               const c10::OperatorHandle& op) {
    torch::jit::Stack stack(inputs.begin(), inputs.end());
    stack.insert(stack.end(), options.begin(), options.end());
    {
      at::AutoDispatchBelowADInplaceOrView below;
      op.callBoxed(stack);
    }
    const at::Tensor loss = stack[0].toTensor(), state = stack[1].toTensor();
    variable_list kept(inputs.begin(), inputs.end());
    kept.push_back(state);
    ctx->save_for_backward(std::move(kept));
    ctx->mark_non_differentiable({state});
    ctx->set_materialize_grads(false);
    ctx->saved_data["options"] = c10::ivalue::Tuple::create(options.vec());
    ctx->saved_data["gradient"] = op.schema().name() + "_bwd";
    return {loss, state};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list kept = ctx->get_saved_variables();
    const std::size_t inputs = kept.size() - 1;
    variable_list out(inputs + 2);  // the options and the operator have none
    if (!grads[0].defined()) return out;
    torch::jit::Stack stack(kept.begin(), kept.end());
    stack.emplace_back(grads[0]);
    for (const IValue& option : ctx->saved_data["options"].toTupleRef().elements()) stack.push_back(option);
    for (std::size_t i = 0; i < inputs; ++i) stack.emplace_back(ctx->needs_input_grad(i));
    std::optional<at::AutoDispatchBelowADInplaceOrView> below;  // unless somebody wants a second derivative: there is none
    if (!at::GradMode::is_enabled()) below.emplace();
    c10::Dispatcher::singleton().findSchemaOrThrow(ctx->saved_data["gradient"].toStringRef().c_str(), "").callBoxed(stack);
    for (std::size_t i = 0; i < inputs; ++i)
      if (ctx->needs_input_grad(i)) out[i] = stack[i].toTensor();
    return out;
  }
};

void pair_loss(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  std::vector<at::Tensor> inputs;
  for (const IValue& each : *stack)
    if (each.isTensor()) inputs.push_back(each.toTensor());
  const std::vector<IValue> options(stack->begin() + inputs.size(), stack->end());
  variable_list out = PairLoss::apply(at::TensorList(inputs), at::ArrayRef<IValue>(options), op);
  stack->assign(out.begin(), out.end());
}

}  // namespace
}  // namespace dcaccel

TORCH_LIBRARY_IMPL(dcaccel, AutogradCPU, m) {
  const auto node = [] { return torch::CppFunction::makeFromBoxedFunction<&dcaccel::pair_loss>(); };
  m.impl("wasserstein_similarity", node());
  m.impl("t_similarity", node());
}

#ifndef DCACCEL_AUTOGRAD_MODULE
#define DCACCEL_AUTOGRAD_MODULE _native_autograd
#endif
PYBIND11_MODULE(DCACCEL_AUTOGRAD_MODULE, m) { m.doc() = "Autograd of the pair losses on the CPU; importing it registers it."; }
