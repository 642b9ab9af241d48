// Loss and gradients of t_similarity for every case in a file. The degrees of freedom come in tenths.
// SPDX-License-Identifier: Apache-2.0
#include "../../../csrc/t_similarity/cuda.h"

#include "../../../csrc/t_similarity/rows.h"
#include "../emulation/driver.h"

using namespace dcaccel::t_similarity;
using dcaccel::View;
using driver::Memory;

namespace {

template <class T>
void once() {
  const int64_t n = driver::number(), d = driver::number(), width = driver::number();
  const double dof_z = double(driver::number()) / 10, dof_e = double(driver::number()) / 10;
  const bool rows = driver::number(), diagonal = driver::number();
  const int64_t needs = driver::number(), transposed = driver::number();
  const Sizes sizes{n, d, width};
  const Options options{dof_z, dof_e, rows, diagonal};
  Memory<T> z(n * d), e(n * width), grad(1), loss(1), state(state_size(n, d, width));
  z.read(), e.read(), grad.read();
  Memory<double> scratch(loss_scratch_cuda(sizes, sizeof(T) == 4));
  const auto matrix = [&](const Memory<T>& m, int64_t columns) {
    return transposed ? View<T>{m.get(), 1, n} : View<T>{m.get(), columns, 1};
  };
  driver::check(loss_cuda<T>(sizes, options, matrix(z, d), matrix(e, width), loss.get(), state.get(), scratch.get(),
                             nullptr));
  loss.write();
  const bool need_z = needs & 1, need_e = needs & 2;
  Memory<T> g_z(need_z * n * d), g_e(need_e * n * width);
  Memory<double> more(gradients_scratch_cuda(sizes, sizeof(T) == 4, need_z, need_e));
  driver::check(gradients_cuda<T>(sizes, options, state.get(), grad.get(), need_z ? g_z.get() : nullptr,
                                  need_e ? g_e.get() : nullptr, more.get(), nullptr));
  g_z.write(), g_e.write();
}

}  // namespace

int main(int argc, char** argv) {
  return driver::main(argc, argv, [](int64_t bytes) { bytes == 4 ? once<float>() : once<double>(); });
}
