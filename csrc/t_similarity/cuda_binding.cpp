// Registers t_similarity for CUDA: allocation, device and stream around the launchers of cuda.cu.
// SPDX-License-Identifier: Apache-2.0
#include "../common/cuda_tensor.h"
#include "cuda.h"
#include "rows.h"

namespace dcaccel::t_similarity {
namespace {

using namespace dcaccel::cuda;

Sizes sizes_of(const Tensor& z, const Tensor& e) { return {z.size(0), z.size(1), e.size(1)}; }

std::tuple<Tensor, Tensor> t_similarity_cuda(Tensor z, Tensor e, double dof_z, double dof_e, bool rows, bool diagonal) {
  expect_pairs(z, e);
  return with_type(z, [&]<class T>() -> std::tuple<Tensor, Tensor> {
    const Sizes sizes = sizes_of(z, e);
    const Launch launch(z);
    const Tensor loss = empty<T>(z, {}), state = empty<T>(z, {state_size(sizes.n, sizes.d, sizes.width)}),
                 scratch = empty<double>(z, {loss_scratch_cuda(sizes, sizeof(T) == 4)});
    launch.check(loss_cuda<T>(sizes, {dof_z, dof_e, rows, diagonal}, view<T>(z), view<T>(e), data<T>(loss),
                              data<T>(state), data<double>(scratch), launch.stream()));
    return {loss, state};
  });
}

std::tuple<Tensor, Tensor> t_similarity_bwd_cuda(Tensor z, Tensor e, Tensor state, Tensor grad, double dof_z,
                                                 double dof_e, bool rows, bool diagonal, bool need_z, bool need_e) {
  expect_pairs(z, e);
  expect_kept(z, state, state_size(z.size(0), z.size(1), e.size(1)), grad);
  return with_type(z, [&]<class T>() -> std::tuple<Tensor, Tensor> {
    const Sizes sizes = sizes_of(z, e);
    const Launch launch(z);
    const Tensor g_z = empty<T>(z, {need_z * sizes.n, sizes.d}), g_e = empty<T>(z, {need_e * sizes.n, sizes.width}),
                 scratch = empty<double>(z, {gradients_scratch_cuda(sizes, sizeof(T) == 4, need_z, need_e)});
    launch.check(gradients_cuda<T>(sizes, {dof_z, dof_e, rows, diagonal}, const_data<T>(state), const_data<T>(grad),
                                   need_z ? data<T>(g_z) : nullptr, need_e ? data<T>(g_e) : nullptr,
                                   data<double>(scratch), launch.stream()));
    return {g_z, g_e};
  });
}

}  // namespace
}  // namespace dcaccel::t_similarity

DC_CUDA_LIBRARY_IMPL(m) {
  m.impl("t_similarity", TORCH_BOX(&dcaccel::t_similarity::t_similarity_cuda));
  m.impl("t_similarity_bwd", TORCH_BOX(&dcaccel::t_similarity::t_similarity_bwd_cuda));
}
