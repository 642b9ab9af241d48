// Loss and gradients of t_similarity for every case in a file, or what a process computes for own rows. The degrees of
// freedom come in tenths.
// SPDX-License-Identifier: Apache-2.0
#include "../../../csrc/t_similarity/cuda.h"

#include "../../../csrc/t_similarity/rows.h"
#include "../emulation/driver.h"

using namespace dcaccel::t_similarity;
using dcaccel::View;
using driver::Memory;

namespace {

template <class T>
struct Given {
  Sizes sizes;
  Options options;
  bool transposed;
  Memory<T> z, e;

  Given(Sizes s, Options o, bool turned) : sizes(s), options(o), transposed(turned), z(s.n * s.d), e(s.n * s.width) {
    z.read(), e.read();
  }
  View<T> matrix(const Memory<T>& m, int64_t columns) const {
    return transposed ? View<T>{m.get(), 1, sizes.n} : View<T>{m.get(), columns, 1};
  }
};

template <class T>
void whole(const Given<T>& in, int64_t needs) {
  const auto [n, d, width] = in.sizes;
  Memory<T> grad(1), loss(1), state(state_size(n, d, width));
  grad.read();
  Memory<double> scratch(loss_scratch_cuda(in.sizes, sizeof(T) == 4));
  driver::check(loss_cuda<T>(in.sizes, in.options, in.matrix(in.z, d), in.matrix(in.e, width), loss.get(), state.get(),
                             scratch.get(), nullptr));
  loss.write();
  const bool need_z = needs & 1, need_e = needs & 2;
  Memory<T> g_z(need_z * n * d), g_e(need_e * n * width);
  Memory<double> more(gradients_scratch_cuda(in.sizes, sizeof(T) == 4, need_z, need_e));
  driver::check(gradients_cuda<T>(in.sizes, in.options, state.get(), grad.get(), need_z ? g_z.get() : nullptr,
                                  need_e ? g_e.get() : nullptr, more.get(), nullptr));
  g_z.write(), g_e.write();
}

template <class T>
void of_own_rows(const Given<T>& in, Own own) {
  const auto [n, d, width] = in.sizes;
  const View<T> z = in.matrix(in.z, d), e = in.matrix(in.e, width);
  Memory<T> shared(2), shifts(n * 2), numbers(n * kOfRow), nearest(own.count * 2);
  shared.read(), shifts.read(), numbers.read();
  const double shift_z = shared.get()[0], shift_e = shared.get()[1];
  Memory<double> scratch(own_sums_scratch_cuda(in.sizes, own, sizeof(T) == 4)), sums(own.count * 3);
  driver::check(own_nearest_cuda<T>(in.sizes, in.options, own, z, e, nearest.get(), scratch.get(), nullptr));
  nearest.write();
  driver::check(own_sums_cuda<T>(in.sizes, in.options, own, z, e, {shifts.get(), 2, 1}, shift_z, shift_e, sums.get(),
                                 scratch.get(), nullptr));
  sums.write_as<T>();
  Memory<T> g_z(own.count * d), g_e(own.count * width);
  Memory<double> more(own_pull_scratch_cuda(in.sizes, own, sizeof(T) == 4));
  driver::check(own_pull_cuda<T>(in.sizes, in.options, own, z, e, {numbers.get(), kOfRow, 1}, shift_z, shift_e,
                                 g_z.get(), g_e.get(), more.get(), nullptr));
  g_z.write(), g_e.write();
}

template <class T>
void once() {
  const int64_t n = driver::number(), d = driver::number(), width = driver::number();
  const double dof_z = double(driver::number()) / 10, dof_e = double(driver::number()) / 10;
  const bool rows = driver::number(), diagonal = driver::number();
  const int64_t needs = driver::number(), transposed = driver::number(), start = driver::number(),
                count = driver::number();
  const Given<T> in({n, d, width}, {dof_z, dof_e, rows, diagonal}, transposed);
  count ? of_own_rows(in, {start, count}) : whole(in, needs);
}

}  // namespace

int main(int argc, char** argv) {
  return driver::main(argc, argv, [](int64_t bytes) { bytes == 4 ? once<float>() : once<double>(); });
}
