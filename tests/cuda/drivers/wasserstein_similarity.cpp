// Loss and gradients of wasserstein_similarity for every case in a file.
// SPDX-License-Identifier: Apache-2.0
#include "../../../csrc/wasserstein_similarity/cuda.h"
#include "../emulation/driver.h"

using namespace dcaccel::wasserstein_similarity;
using dcaccel::View;
using driver::Memory;

namespace {

template <class T>
void once() {
  const int64_t n = driver::number(), z = driver::number(), k = driver::number(), rows = driver::number(),
                needs = driver::number(), transposed = driver::number();
  const Sizes sizes{n, z, k, rows != 0};
  Memory<T> mu(n * z), sigma(n * z), gamma(n * k), grad(1), loss(1), state((n + 63) / 64 * 64 * (2 * z + 2 * k + 1));
  mu.read(), sigma.read(), gamma.read(), grad.read();
  Memory<double> scratch(loss_scratch_cuda(sizes, sizeof(T) == 4));
  const auto matrix = [&](const Memory<T>& m, int64_t columns) {
    return transposed ? View<T>{m.get(), 1, n} : View<T>{m.get(), columns, 1};
  };
  driver::check(loss_cuda<T>(sizes, matrix(mu, z), matrix(sigma, z), matrix(gamma, k), loss.get(), state.get(),
                             scratch.get(), nullptr));
  loss.write();
  const bool need_mu = needs & 1, need_sigma = needs & 2, need_gamma = needs & 4;
  Memory<T> g_mu(need_mu * n * z), g_sigma(need_sigma * n * z), g_gamma(need_gamma * n * k);
  Memory<double> more(gradients_scratch_cuda(sizes, sizeof(T) == 4, need_mu, need_sigma));
  driver::check(gradients_cuda<T>(sizes, state.get(), grad.get(), need_mu ? g_mu.get() : nullptr,
                                  need_sigma ? g_sigma.get() : nullptr, need_gamma ? g_gamma.get() : nullptr,
                                  more.get(), nullptr));
  g_mu.write(), g_sigma.write(), g_gamma.write();
}

}  // namespace

int main(int argc, char** argv) {
  return driver::main(argc, argv, [](int64_t bytes) { bytes == 4 ? once<float>() : once<double>(); });
}
