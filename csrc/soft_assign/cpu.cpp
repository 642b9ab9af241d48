// soft_assign on the CPU: tables, blocks, registration. Compiled once per instruction set for the passes; the rest of
// the file belongs to level 0.
// SPDX-License-Identifier: Apache-2.0
#include "passes.h"

#if DCACCEL_LEVEL == 0
#include <tuple>

#include "../common/centers.h"
#include "../common/levels.h"

namespace dcaccel::soft_assign {

DC_ACTIVE_KERNELS()

namespace {

template <class T>
Tensor assign(const Tensor& z, const Tensor& centers, double dof) {
  const int64_t n = z.size(0), k = centers.size(0), d = z.size(1);
  const Tensor q = empty<T>({n, k});
  const PackedCenters<T> packed(centers, dof == 1 ? 1 : 0, false);
  const Forward<T> pass{view<T>(z), packed.table(), T(dof), data<T>(q)};
  const Kernels<T> kernels = active_kernels<T>();
  const Blocks blocks(n, 1);
  for_blocks(blocks, [&](int64_t block) {
    const Scratch<T> scratch(Forward<T>::scratch(k, d));
    kernels.forward(pass, blocks.first(block), blocks.last(block), scratch.get());
  });
  return q;
}

template <class T>
std::tuple<Tensor, Tensor> gradients(const Tensor& z, const Tensor& centers, const Tensor& q, const Tensor& grad,
                                     double dof, bool need_z, bool need_centers) {
  const int64_t n = z.size(0), k = centers.size(0), d = z.size(1);
  const Tensor g_z = empty<T>({need_z * n, d}), g_centers = empty<T>({need_centers * k, d});
  const PackedCenters<T> packed(centers, T(dof), false);
  const Centers<T> table = packed.table();
  const Backward<T> pass{view<T>(z), view<T>(q),  view<T>(grad), table, T(dof), need_z ? data<T>(g_z) : nullptr,
                         need_centers};
  const Kernels<T> kernels = active_kernels<T>();
  const Blocks blocks(n, k);
  const int64_t size = need_centers ? table.kp() * table.dp() : 0;
  const Scratch<double> sums(std::max<int64_t>(1, blocks.count) * size);
  sums.zero();
  if (need_z || need_centers) {
    for_blocks(blocks, [&](int64_t block) {
      const Scratch<T> scratch(Backward<T>::scratch(k, d));
      kernels.backward(pass, blocks.first(block), blocks.last(block), scratch.get(), sums.get() + block * size);
    });
  }
  if (need_centers) {
    const double* total = add_blocks(sums.get(), blocks.count, size);
    for (int64_t c = 0; c < k; ++c)
      for (int64_t f = 0; f < d; ++f) data<T>(g_centers)[c * d + f] = T(-total[c * table.dp() + f]);
  }
  return {g_z, g_centers};
}

Tensor soft_assign_cpu(Tensor z, Tensor centers, double dof) {
  return z.scalar_type() == ScalarType::Float ? assign<float>(z, centers, dof) : assign<double>(z, centers, dof);
}

std::tuple<Tensor, Tensor> soft_assign_bwd_cpu(Tensor z, Tensor centers, Tensor q, Tensor grad, double dof, bool need_z,
                                               bool need_centers) {
  const auto run = z.scalar_type() == ScalarType::Float ? gradients<float> : gradients<double>;
  return run(z, centers, q, grad, dof, need_z, need_centers);
}

}  // namespace
}  // namespace dcaccel::soft_assign

STABLE_TORCH_LIBRARY_IMPL(dcaccel, CPU, m) {
  m.impl("soft_assign", TORCH_BOX(&dcaccel::soft_assign::soft_assign_cpu));
  m.impl("soft_assign_bwd", TORCH_BOX(&dcaccel::soft_assign::soft_assign_bwd_cpu));
}

#endif  // DCACCEL_LEVEL == 0
