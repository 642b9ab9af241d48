// Loss and gradients of wasserstein_similarity for every case in a file, or what a process computes for own rows.
// SPDX-License-Identifier: Apache-2.0
#include "../../../csrc/wasserstein_similarity/cuda.h"
#include "../emulation/driver.h"

using namespace dcaccel::wasserstein_similarity;
using dcaccel::View;
using driver::Memory;

namespace {

template <class T>
struct Given {
  Sizes sizes;
  bool transposed;
  Memory<T> mu, sigma, gamma;

  Given(Sizes s, bool turned)
      : sizes(s), transposed(turned), mu(s.n * s.z), sigma(s.n * s.z), gamma(s.n * s.k) {
    mu.read(), sigma.read(), gamma.read();
  }
  View<T> matrix(const Memory<T>& m, int64_t columns) const {
    return transposed ? View<T>{m.get(), 1, sizes.n} : View<T>{m.get(), columns, 1};
  }
};

template <class T>
void whole(const Given<T>& in, int64_t needs) {
  const auto [n, z, k, rows] = in.sizes;
  Memory<T> grad(1), loss(1), state((n + 63) / 64 * 64 * (2 * z + 2 * k + 1));
  grad.read();
  Memory<double> scratch(loss_scratch_cuda(in.sizes, sizeof(T) == 4));
  driver::check(loss_cuda<T>(in.sizes, in.matrix(in.mu, z), in.matrix(in.sigma, z), in.matrix(in.gamma, k), loss.get(),
                             state.get(), scratch.get(), nullptr));
  loss.write();
  const bool need_mu = needs & 1, need_sigma = needs & 2, need_gamma = needs & 4;
  Memory<T> g_mu(need_mu * n * z), g_sigma(need_sigma * n * z), g_gamma(need_gamma * n * k);
  Memory<double> more(gradients_scratch_cuda(in.sizes, sizeof(T) == 4, need_mu, need_sigma));
  driver::check(gradients_cuda<T>(in.sizes, state.get(), grad.get(), need_mu ? g_mu.get() : nullptr,
                                  need_sigma ? g_sigma.get() : nullptr, need_gamma ? g_gamma.get() : nullptr,
                                  more.get(), nullptr));
  g_mu.write(), g_sigma.write(), g_gamma.write();
}

template <class T>
void of_own_rows(const Given<T>& in, Own own) {
  const auto [n, z, k, rows] = in.sizes;
  const View<T> mu = in.matrix(in.mu, z), sigma = in.matrix(in.sigma, z), gamma = in.matrix(in.gamma, k);
  Memory<double> share(n), size(k), sums(own.count * (1 + k));
  share.read_as<T>(), size.read_as<T>();
  Memory<double> scratch(own_sums_scratch_cuda(in.sizes, own, sizeof(T) == 4));
  driver::check(own_sums_cuda<T>(in.sizes, own, mu, sigma, gamma, sums.get(), scratch.get(), nullptr));
  sums.write_as<T>();
  Memory<T> pull(own.count * 2 * z);
  Memory<double> more(own_pull_scratch_cuda(in.sizes, own, sizeof(T) == 4));
  driver::check(own_pull_cuda<T>(in.sizes, own, mu, sigma, gamma, share.get(), size.get(), pull.get(), more.get(),
                                 nullptr));
  pull.write();
}

template <class T>
void once() {
  const int64_t n = driver::number(), z = driver::number(), k = driver::number(), rows = driver::number(),
                needs = driver::number(), transposed = driver::number(), start = driver::number(),
                count = driver::number();
  const Given<T> in({n, z, k, rows != 0}, transposed);
  count ? of_own_rows(in, {start, count}) : whole(in, needs);
}

}  // namespace

int main(int argc, char** argv) {
  return driver::main(argc, argv, [](int64_t bytes) { bytes == 4 ? once<float>() : once<double>(); });
}
