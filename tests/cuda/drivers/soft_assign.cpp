// Probabilities and gradients of soft_assign for every case in a file.
// SPDX-License-Identifier: Apache-2.0
#include "../../../csrc/soft_assign/cuda.h"
#include "../emulation/driver.h"

using namespace dcaccel::soft_assign;
using dcaccel::View;
using driver::Memory;

namespace {

template <class T>
void once() {
  const int64_t n = driver::number(), k = driver::number(), d = driver::number(), needs = driver::number(),
                transposed = driver::number();
  const double dof = double(driver::number()) / 2;
  const Sizes sizes{n, k, d};
  Memory<T> z(n * d), centers(k * d), grad(n * k), q(n * k);
  z.read(), centers.read(), grad.read();
  const auto matrix = [&](const Memory<T>& m, int64_t rows, int64_t columns) {
    return transposed ? View<T>{m.get(), 1, rows} : View<T>{m.get(), columns, 1};
  };
  const View<T> z_view = matrix(z, n, d), c_view = matrix(centers, k, d);
  driver::check(assign_cuda<T>(sizes, z_view, c_view, dof, q.get(), nullptr));
  q.write();
  const bool need_z = needs & 1, need_centers = needs & 2;
  Memory<T> g_z(need_z * n * d), g_centers(need_centers * k * d);
  Memory<double> scratch(gradients_scratch_cuda(sizes, sizeof(T) == 4));
  driver::check(gradients_cuda<T>(sizes, z_view, c_view, {q.get(), k, 1}, {grad.get(), k, 1}, dof,
                                  need_z ? g_z.get() : nullptr, need_centers ? g_centers.get() : nullptr,
                                  scratch.get(), nullptr));
  g_z.write(), g_centers.write();
}

}  // namespace

int main(int argc, char** argv) {
  return driver::main(argc, argv, [](int64_t bytes) { bytes == 4 ? once<float>() : once<double>(); });
}
