// Registers wasserstein_similarity for CUDA: allocation, device and stream around the launchers of cuda.cu.
// SPDX-License-Identifier: Apache-2.0
#include "../common/cuda_tensor.h"
#include "cuda.h"

namespace dcaccel::wasserstein_similarity {
namespace {

using namespace dcaccel::cuda;

Sizes sizes_of(const Tensor& mu, const Tensor& gamma, bool rows) {
  return {mu.size(0), mu.size(1), gamma.size(1), rows};
}

int64_t state_size(Sizes s) { return (s.n + 63) / 64 * 64 * (2 * s.z + 2 * s.k + 1); }

template <class T>
std::tuple<Tensor, Tensor> loss(const Tensor& mu, const Tensor& sigma, const Tensor& gamma, bool rows) {
  const Sizes sizes = sizes_of(mu, gamma, rows);
  const Launch launch(mu);
  const Tensor out = empty<T>(mu, {}), state = empty<T>(mu, {state_size(sizes)}),
               scratch = empty<double>(mu, {loss_scratch_cuda(sizes, sizeof(T) == 4)});
  launch.check(loss_cuda<T>(sizes, view<T>(mu), view<T>(sigma), view<T>(gamma), data<T>(out), data<T>(state),
                            data<double>(scratch), launch.stream()));
  return {out, state};
}

template <class T>
std::tuple<Tensor, Tensor, Tensor> gradients(const Tensor& mu, const Tensor& gamma, const Tensor& state,
                                             const Tensor& grad, bool rows, bool need_mu, bool need_sigma,
                                             bool need_gamma) {
  const Sizes sizes = sizes_of(mu, gamma, rows);
  const Launch launch(mu);
  const Tensor g_mu = empty<T>(mu, {need_mu * sizes.n, sizes.z}),
               g_sigma = empty<T>(mu, {need_sigma * sizes.n, sizes.z}),
               g_gamma = empty<T>(mu, {need_gamma * sizes.n, sizes.k}),
               scratch = empty<double>(mu, {gradients_scratch_cuda(sizes, sizeof(T) == 4, need_mu, need_sigma)});
  launch.check(gradients_cuda<T>(sizes, const_data<T>(state), const_data<T>(grad), need_mu ? data<T>(g_mu) : nullptr,
                                 need_sigma ? data<T>(g_sigma) : nullptr, need_gamma ? data<T>(g_gamma) : nullptr,
                                 data<double>(scratch), launch.stream()));
  return {g_mu, g_sigma, g_gamma};
}

std::tuple<Tensor, Tensor> wasserstein_similarity_cuda(Tensor mu, Tensor sigma, Tensor gamma, bool rows) {
  expect_pairs(mu, sigma, gamma);
  expect(mu.size(1) == sigma.size(1));
  return mu.scalar_type() == ScalarType::Float ? loss<float>(mu, sigma, gamma, rows)
                                               : loss<double>(mu, sigma, gamma, rows);
}

// mu, sigma and gamma are arguments for the reference, and for autograd to know that there is no second derivative.
std::tuple<Tensor, Tensor, Tensor> wasserstein_similarity_bwd_cuda(Tensor mu, Tensor, Tensor gamma, Tensor state,
                                                                   Tensor grad, bool rows, bool need_mu,
                                                                   bool need_sigma, bool need_gamma) {
  expect_pairs(mu, gamma);
  expect_kept(mu, state, state_size(sizes_of(mu, gamma, rows)), grad);
  const auto run = mu.scalar_type() == ScalarType::Float ? gradients<float> : gradients<double>;
  return run(mu, gamma, state, grad, rows, need_mu, need_sigma, need_gamma);
}

Own own_of(const Tensor& mu, const Tensor& sigma, const Tensor& gamma, int64_t start, int64_t count) {
  expect_pairs(mu, sigma, gamma);
  expect(mu.size(1) == sigma.size(1) && start >= 0 && count >= 1 && start + count <= mu.size(0));
  return {start, count};
}

Tensor own_sums(Tensor mu, Tensor sigma, Tensor gamma, int64_t start, int64_t count) {
  const Own own = own_of(mu, sigma, gamma, start, count);
  return with_type(mu, [&]<class T>() {
    const Sizes sizes = sizes_of(mu, gamma, false);
    const Launch launch(mu);
    const Tensor out = empty<double>(mu, {count, 1 + sizes.k}),
                 scratch = empty<double>(mu, {own_sums_scratch_cuda(sizes, own, sizeof(T) == 4)});
    launch.check(own_sums_cuda<T>(sizes, own, view<T>(mu), view<T>(sigma), view<T>(gamma), data<double>(out),
                                  data<double>(scratch), launch.stream()));
    return out;
  });
}

Tensor own_pull(Tensor mu, Tensor sigma, Tensor gamma, Tensor share, Tensor size, int64_t start, int64_t count) {
  const Own own = own_of(mu, sigma, gamma, start, count);
  expect(share.numel() == mu.size(0) && size.numel() == gamma.size(1) && share.is_contiguous() && size.is_contiguous());
  expect(share.scalar_type() == ScalarType::Double && size.scalar_type() == ScalarType::Double);
  return with_type(mu, [&]<class T>() {
    const Sizes sizes = sizes_of(mu, gamma, false);
    const Launch launch(mu);
    const Tensor out = empty<T>(mu, {count, 2 * sizes.z}),
                 scratch = empty<double>(mu, {own_pull_scratch_cuda(sizes, own, sizeof(T) == 4)});
    launch.check(own_pull_cuda<T>(sizes, own, view<T>(mu), view<T>(sigma), view<T>(gamma), const_data<double>(share),
                                  const_data<double>(size), data<T>(out), data<double>(scratch), launch.stream()));
    return out;
  });
}

}  // namespace
}  // namespace dcaccel::wasserstein_similarity

DC_CUDA_LIBRARY_IMPL(m) {
  m.impl("wasserstein_similarity", TORCH_BOX(&dcaccel::wasserstein_similarity::wasserstein_similarity_cuda));
  m.impl("wasserstein_similarity_bwd", TORCH_BOX(&dcaccel::wasserstein_similarity::wasserstein_similarity_bwd_cuda));
  m.impl("wasserstein_similarity_own_sums", TORCH_BOX(&dcaccel::wasserstein_similarity::own_sums));
  m.impl("wasserstein_similarity_own_pull", TORCH_BOX(&dcaccel::wasserstein_similarity::own_pull));
}
