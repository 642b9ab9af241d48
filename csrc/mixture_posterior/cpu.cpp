// mixture_posterior on the CPU: tables, blocks, registration. Compiled once per instruction set for the passes; the
// rest of the file belongs to level 0.
// SPDX-License-Identifier: Apache-2.0
#include "passes.h"

#if DCACCEL_LEVEL == 0
#include <tuple>

#include "../common/centers.h"
#include "../common/levels.h"

namespace dcaccel::mixture_posterior {

DC_ACTIVE_KERNELS()

namespace {

// Means as centers, 1 / sigma as their scales, and the sums of a row start at -2 a. The tables are computed in double.
template <class T>
PackedCenters<T> pack(const Tensor& log_weights, const Tensor& mean, const Tensor& log_variance) {
  PackedCenters<T> packed(mean, T(0), true);
  const int64_t k = mean.size(0), d = mean.size(1), kp = padded<T>(k), dp = padded<T>(d);
  const View<T> v = view<T>(log_variance);
  const T* w = static_cast<const T*>(log_weights.const_data_ptr());
  for (int64_t c = 0; c < k; ++c) {
    double sum = 0;
    for (int64_t f = 0; f < d; ++f) {
      const double x = v.data[c * v.row_stride + f * v.column_stride], e = scale(x);
      sum += x;
      packed.scale_columns[f * kp + c] = T(e), packed.scale_rows[c * dp + f] = T(e * e);
    }
    packed.start[c] = T(start(double(w[k > 1 ? c * log_weights.stride(0) : 0]), sum));
  }
  return packed;
}

template <class T>
Tensor posterior(const Tensor& z, const Tensor& log_weights, const Tensor& mean, const Tensor& log_variance) {
  const int64_t n = z.size(0), k = mean.size(0), d = z.size(1);
  const Tensor log_r = empty<T>({n, k});
  const PackedCenters<T> packed = pack<T>(log_weights, mean, log_variance);
  const Forward<T> pass{view<T>(z), packed.table(), data<T>(log_r)};
  const Kernels<T> kernels = active_kernels<T>();
  const Blocks blocks(n, 1);
  for_blocks(blocks, [&](int64_t block) {
    const Scratch<T> scratch(Forward<T>::scratch(k, d));
    kernels.forward(pass, blocks.first(block), blocks.last(block), scratch.get());
  });
  return log_r;
}

// The gradients of log_weights, mean and log_variance from the sums of all blocks.
template <class T>
void finish(const Sums& sums, const Centers<T>& table, T* g_weights, T* g_mean, T* g_variance) {
  const int64_t d = table.d, dp = table.dp();
  for (int64_t c = 0; c < table.k; ++c) {
    g_weights[c] = T(sums.zeroth[c]);
    for (int64_t f = 0; f < d; ++f) {
      const double precision = table.scale_rows[c * dp + f];
      g_mean[c * d + f] = T(precision * sums.first[c * dp + f]);
      g_variance[c * d + f] = T(0.5 * (precision * sums.second[c * dp + f] - sums.zeroth[c]));
    }
  }
}

template <class T>
std::tuple<Tensor, Tensor, Tensor, Tensor> gradients(const Tensor& z, const Tensor& log_weights, const Tensor& mean,
                                                     const Tensor& log_variance, const Tensor& log_r,
                                                     const Tensor& grad, bool need_z, bool need_centers) {
  const int64_t n = z.size(0), k = mean.size(0), d = z.size(1), wanted = need_centers * k;
  const Tensor g_z = empty<T>({need_z * n, d}), g_weights = empty<T>({wanted}), g_mean = empty<T>({wanted, d}),
               g_variance = empty<T>({wanted, d});
  const PackedCenters<T> packed = pack<T>(log_weights, mean, log_variance);
  const Centers<T> table = packed.table();
  const Backward<T> pass{view<T>(z), view<T>(log_r), view<T>(grad), table, need_z ? data<T>(g_z) : nullptr,
                         need_centers};
  const Kernels<T> kernels = active_kernels<T>();
  const Blocks blocks(n, k);
  const int64_t size = need_centers ? Sums::size(table.kp(), table.dp()) : 0;
  const Scratch<double> sums(std::max<int64_t>(1, blocks.count) * size);
  sums.zero();
  if (need_z || need_centers) {
    for_blocks(blocks, [&](int64_t block) {
      const Scratch<T> scratch(Backward<T>::scratch(k, d));
      kernels.backward(pass, blocks.first(block), blocks.last(block), scratch.get(), sums.get() + block * size);
    });
  }
  if (need_centers) {
    const Sums total(add_blocks(sums.get(), blocks.count, size), table.kp(), table.dp());
    finish(total, table, data<T>(g_weights), data<T>(g_mean), data<T>(g_variance));
  }
  return {g_z, g_weights, g_mean, g_variance};
}

Tensor mixture_posterior_cpu(Tensor z, Tensor log_weights, Tensor mean, Tensor log_variance) {
  const auto run = z.scalar_type() == ScalarType::Float ? posterior<float> : posterior<double>;
  return run(z, log_weights, mean, log_variance);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> mixture_posterior_bwd_cpu(Tensor z, Tensor log_weights, Tensor mean,
                                                                     Tensor log_variance, Tensor log_r, Tensor grad,
                                                                     bool need_z, bool need_centers) {
  const auto run = z.scalar_type() == ScalarType::Float ? gradients<float> : gradients<double>;
  return run(z, log_weights, mean, log_variance, log_r, grad, need_z, need_centers);
}

}  // namespace
}  // namespace dcaccel::mixture_posterior

STABLE_TORCH_LIBRARY_IMPL(dcaccel, CPU, m) {
  m.impl("mixture_posterior", TORCH_BOX(&dcaccel::mixture_posterior::mixture_posterior_cpu));
  m.impl("mixture_posterior_bwd", TORCH_BOX(&dcaccel::mixture_posterior::mixture_posterior_bwd_cpu));
}

#endif  // DCACCEL_LEVEL == 0
