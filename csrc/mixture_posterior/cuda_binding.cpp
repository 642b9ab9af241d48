// Registers mixture_posterior for CUDA: allocation, device and stream around the launchers of cuda.cu.
// SPDX-License-Identifier: Apache-2.0
#include "../common/cuda_tensor.h"
#include "cuda.h"

namespace dcaccel::mixture_posterior {
namespace {

using namespace dcaccel::cuda;

Sizes sizes_of(const Tensor& z, const Tensor& mean) { return {z.size(0), mean.size(0), z.size(1)}; }

Tensor mixture_posterior_cuda(Tensor z, Tensor log_weights, Tensor mean, Tensor log_variance) {
  return with_type(z, [&]<class T>() -> Tensor {
    const Sizes sizes = sizes_of(z, mean);
    const Launch launch(z);
    const Tensor log_r = empty<T>(z, {sizes.n, sizes.k}), scratch = empty<double>(z, {posterior_scratch_cuda(sizes)});
    launch.check(posterior_cuda<T>(sizes, view<T>(z), {view<T>(log_weights), view<T>(mean), view<T>(log_variance)},
                                   data<T>(log_r), data<double>(scratch), launch.stream()));
    return log_r;
  });
}

// The gradients of the three parameters are computed together.
std::tuple<Tensor, Tensor, Tensor, Tensor> mixture_posterior_bwd_cuda(Tensor z, Tensor log_weights, Tensor mean,
                                                                      Tensor log_variance, Tensor log_r, Tensor grad,
                                                                      bool need_z, bool need_centers) {
  return with_type(z, [&]<class T>() -> std::tuple<Tensor, Tensor, Tensor, Tensor> {
    const Sizes sizes = sizes_of(z, mean);
    const int64_t wanted = need_centers * sizes.k;
    const Launch launch(z);
    const Tensor g_z = empty<T>(z, {need_z * sizes.n, sizes.d}), g_log_weights = empty<T>(z, {wanted}),
                 g_mean = empty<T>(z, {wanted, sizes.d}), g_log_variance = empty<T>(z, {wanted, sizes.d}),
                 scratch = empty<double>(z, {gradients_scratch_cuda(sizes, sizeof(T) == 4)});
    const auto to = [&](const Tensor& g) { return need_centers ? data<T>(g) : nullptr; };
    launch.check(gradients_cuda<T>(sizes, view<T>(z), {view<T>(log_weights), view<T>(mean), view<T>(log_variance)},
                                   view<T>(log_r), view<T>(grad), need_z ? data<T>(g_z) : nullptr, to(g_log_weights),
                                   to(g_mean), to(g_log_variance), data<double>(scratch), launch.stream()));
    return {g_z, g_log_weights, g_mean, g_log_variance};
  });
}

}  // namespace
}  // namespace dcaccel::mixture_posterior

DC_CUDA_LIBRARY_IMPL(m) {
  m.impl("mixture_posterior", TORCH_BOX(&dcaccel::mixture_posterior::mixture_posterior_cuda));
  m.impl("mixture_posterior_bwd", TORCH_BOX(&dcaccel::mixture_posterior::mixture_posterior_bwd_cuda));
}
