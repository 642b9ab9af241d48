// Registers soft_assign for CUDA: allocation, device and stream around the launchers of cuda.cu.
// SPDX-License-Identifier: Apache-2.0
#include "../common/cuda_tensor.h"
#include "cuda.h"

namespace dcaccel::soft_assign {
namespace {

using namespace dcaccel::cuda;

Sizes sizes_of(const Tensor& z, const Tensor& centers) { return {z.size(0), centers.size(0), z.size(1)}; }

Tensor soft_assign_cuda(Tensor z, Tensor centers, double dof) {
  return with_type(z, [&]<class T>() -> Tensor {
    const Sizes sizes = sizes_of(z, centers);
    const Launch launch(z);
    const Tensor q = empty<T>(z, {sizes.n, sizes.k});
    launch.check(assign_cuda<T>(sizes, view<T>(z), view<T>(centers), dof, data<T>(q), launch.stream()));
    return q;
  });
}

std::tuple<Tensor, Tensor> soft_assign_bwd_cuda(Tensor z, Tensor centers, Tensor q, Tensor grad, double dof,
                                                bool need_z, bool need_centers) {
  return with_type(z, [&]<class T>() -> std::tuple<Tensor, Tensor> {
    const Sizes sizes = sizes_of(z, centers);
    const Launch launch(z);
    const Tensor g_z = empty<T>(z, {need_z * sizes.n, sizes.d}),
                 g_centers = empty<T>(z, {need_centers * sizes.k, sizes.d}),
                 scratch = empty<double>(z, {gradients_scratch_cuda(sizes, sizeof(T) == 4)});
    launch.check(gradients_cuda<T>(sizes, view<T>(z), view<T>(centers), view<T>(q), view<T>(grad), dof,
                                   need_z ? data<T>(g_z) : nullptr, need_centers ? data<T>(g_centers) : nullptr,
                                   data<double>(scratch), launch.stream()));
    return {g_z, g_centers};
  });
}

}  // namespace
}  // namespace dcaccel::soft_assign

DC_CUDA_LIBRARY_IMPL(m) {
  m.impl("soft_assign", TORCH_BOX(&dcaccel::soft_assign::soft_assign_cuda));
  m.impl("soft_assign_bwd", TORCH_BOX(&dcaccel::soft_assign::soft_assign_bwd_cuda));
}
