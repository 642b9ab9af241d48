// Log-responsibilities and gradients of mixture_posterior for every case in a file.
// SPDX-License-Identifier: Apache-2.0
#include "../../../csrc/mixture_posterior/cuda.h"
#include "../emulation/driver.h"

using namespace dcaccel::mixture_posterior;
using dcaccel::View;
using driver::Memory;

namespace {

template <class T>
void once() {
  const int64_t n = driver::number(), k = driver::number(), d = driver::number(), needs = driver::number(),
                transposed = driver::number();
  const Sizes sizes{n, k, d};
  Memory<T> z(n * d), log_weights(k), mean(k * d), log_variance(k * d), grad(n * k), log_r(n * k);
  z.read(), log_weights.read(), mean.read(), log_variance.read(), grad.read();
  const auto matrix = [&](const Memory<T>& m, int64_t rows, int64_t columns) {
    return transposed ? View<T>{m.get(), 1, rows} : View<T>{m.get(), columns, 1};
  };
  const Mixture<T> mixture{{log_weights.get(), 1, 1}, matrix(mean, k, d), matrix(log_variance, k, d)};
  Memory<double> scratch(posterior_scratch_cuda(sizes));
  driver::check(posterior_cuda<T>(sizes, matrix(z, n, d), mixture, log_r.get(), scratch.get(), nullptr));
  log_r.write();
  const bool need_z = needs & 1, need_parameters = needs & 2;
  const int64_t wanted = need_parameters * k;
  Memory<T> g_z(need_z * n * d), g_log_weights(wanted), g_mean(wanted * d), g_log_variance(wanted * d);
  Memory<double> more(gradients_scratch_cuda(sizes, sizeof(T) == 4));
  driver::check(gradients_cuda<T>(sizes, matrix(z, n, d), mixture, {log_r.get(), k, 1}, {grad.get(), k, 1},
                                  need_z ? g_z.get() : nullptr, need_parameters ? g_log_weights.get() : nullptr,
                                  need_parameters ? g_mean.get() : nullptr,
                                  need_parameters ? g_log_variance.get() : nullptr, more.get(), nullptr));
  g_z.write(), g_log_weights.write(), g_mean.write(), g_log_variance.write();
}

}  // namespace

int main(int argc, char** argv) {
  return driver::main(argc, argv, [](int64_t bytes) { bytes == 4 ? once<float>() : once<double>(); });
}
