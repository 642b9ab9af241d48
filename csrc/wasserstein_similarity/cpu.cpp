// wasserstein_similarity on the CPU: packing, the closed forms of rows and clusters in double, registration.
// Compiled once per instruction set for the passes; the rest of the file belongs to level 0.
// SPDX-License-Identifier: Apache-2.0
#include "passes.h"

#if DCACCEL_LEVEL == 0
#include <cmath>
#include <tuple>
#include <vector>

#include "../common/levels.h"
#include "../common/packed_rows.h"

namespace dcaccel::wasserstein_similarity {

DC_ACTIVE_KERNELS()

namespace {

// What the forward leaves for the backward: Rows, and behind the features of the passes dloss/dgamma / c, k of them. It
// has room for whole groups of kStateRows rows, so that Python can tell its size without knowing the tile.
constexpr int64_t kStateRows = 64;

template <class T>
Rows<T> rows_in(const Tensor& state, int64_t n, int64_t d, int64_t k) {
  return {{n, d + 2 * k + 1, static_cast<T*>(state.mutable_data_ptr())}, d, k};
}

int64_t state_size(int64_t n, int64_t d, int64_t k) {
  return (n + kStateRows - 1) / kStateRows * kStateRows * (d + 2 * k + 1);
}

// From the sums of the pass and gamma in place of a: loss / c, and the state complete.
template <class T>
double finish(const LossPass<T>& pass) {
  std::vector<Cluster> clusters(pass.rows.k);
  Closing<T> closing{pass, clusters.data()};
  const Kernels<T> kernels = active_kernels<T>();
  const auto each = [&](int64_t count, SweepFn step) {
    for_tiles(count, [&](int64_t i) { step(&closing, i); });
  };
  each(pass.rows.k, kernels.size), each(pass.rows.tiles(), kernels.close);
  each(pass.rows.k, kernels.sums), each(pass.rows.tiles(), kernels.slopes);
  double loss = 0;
  for (const Cluster& own : clusters) loss += (own.s * own.entropy - own.same) / own.size;
  return loss;
}

template <class T>
std::tuple<Tensor, Tensor> loss(const Tensor& mu_, const Tensor& sigma_, const Tensor& gamma_, bool mean_of_rows) {
  const Matrix<T> mu(mu_), sigma(sigma_), gamma(gamma_);
  const double n = mu.rows;
  const Tensor out = empty<T>({}), state = empty<T>({state_size(mu.rows, 2 * mu.columns, gamma.columns)});
  const Rows<T> rows = rows_in<T>(state, mu.rows, 2 * mu.columns, gamma.columns);
  const int64_t tiles = rows.tiles(), block = block_tiles(tiles);
  for_tiles(tiles, [&](int64_t tile) {
    pack(mu, tile, rows.u(tile)), pack(sigma, tile, rows.u(tile) + mu.columns * kTile<T>);
    pack(gamma, tile, rows.a(tile));
  });
  centre(rows, rows.d);
  const Scratch<double> sums(tiles * kTile<T> * (1 + rows.k));
  sums.zero();
  LossPass<T> pass{rows, rows, block, 0, sums.get()};
  tournament((tiles + block - 1) / block, active_kernels<T>().loss, &pass);
  *data<T>(out) = T(finish(pass) / (mean_of_rows ? n : n * n));
  return {out, state};
}

// factor * dloss/du / c for both halves of u, or the one that is not null.
template <class T>
void row_gradients(const Rows<T>& rows, double factor, T* g_mu, T* g_sigma) {
  const int64_t tiles = rows.tiles(), block = block_tiles(tiles), z = rows.d / 2;
  const int64_t first = g_mu ? 0 : z, count = g_mu && g_sigma ? 2 * z : z;
  const Scratch<double> sums(tiles * kTile<T> * (1 + count));
  sums.zero();
  PullPass<T> pass{rows, rows, block, 0, sums.get(), first, count};
  tournament((tiles + block - 1) / block, active_kernels<T>().pull, &pass);
  const auto gradient = active_kernels<T>().gradient;
  const auto half = [&](int64_t tile, int64_t from, T* out) {
    if (!out) return;
    unpack(tile, rows.n, z, out, [&](int64_t c, T* to) {
      const double* pulled = pass.pulled(tile) + (from - first + c) * kTile<T>;
      gradient(rows.at(tile, from + c), pass.total(tile), pulled, 2 * factor, to);
    });
  };
  for_tiles(tiles, [&](int64_t tile) { half(tile, 0, g_mu), half(tile, z, g_sigma); });
}

template <class T>
std::tuple<Tensor, Tensor, Tensor> gradients(const Tensor& mu, const Tensor& gamma, const Tensor& state,
                                             const Tensor& grad, bool mean_of_rows, bool need_mu, bool need_sigma,
                                             bool need_gamma) {
  const int64_t size = mu.size(0), z = mu.size(1), k = gamma.size(1);
  const Rows<T> rows = rows_in<T>(state, size, 2 * z, k);
  const double n = size, factor = *static_cast<const T*>(grad.const_data_ptr()) / (mean_of_rows ? n : n * n);
  const Tensor g_mu = empty<T>({need_mu * size, z}), g_sigma = empty<T>({need_sigma * size, z}),
               g_gamma = empty<T>({need_gamma * size, k});
  if (need_mu || need_sigma) {
    row_gradients<T>(rows, factor, need_mu ? data<T>(g_mu) : nullptr, need_sigma ? data<T>(g_sigma) : nullptr);
  }
  if (need_gamma) {
    for_tiles(rows.tiles(), [&](int64_t tile) {
      unpack(tile, size, k, data<T>(g_gamma), [&](int64_t c, T* to) {
        const T* slope = rows.slope(tile) + c * kTile<T>;
        for (int64_t lane = 0; lane < kTile<T>; ++lane) to[lane] = T(factor * slope[lane]);
      });
    });
  }
  return {g_mu, g_sigma, g_gamma};
}

std::tuple<Tensor, Tensor> wasserstein_similarity_cpu(Tensor mu, Tensor sigma, Tensor gamma, bool rows) {
  expect_pairs(mu, sigma, gamma);
  expect(mu.size(1) == sigma.size(1));
  return mu.scalar_type() == ScalarType::Float ? loss<float>(mu, sigma, gamma, rows)
                                               : loss<double>(mu, sigma, gamma, rows);
}

// mu, sigma and gamma are arguments for the reference, and for autograd to know that there is no second derivative.
std::tuple<Tensor, Tensor, Tensor> wasserstein_similarity_bwd_cpu(Tensor mu, Tensor, Tensor gamma, Tensor state,
                                                                  Tensor grad, bool rows, bool need_mu,
                                                                  bool need_sigma, bool need_gamma) {
  expect_pairs(mu, gamma);
  expect_kept(mu, state, state_size(mu.size(0), 2 * mu.size(1), gamma.size(1)), grad);
  const auto run = mu.scalar_type() == ScalarType::Float ? gradients<float> : gradients<double>;
  return run(mu, gamma, state, grad, rows, need_mu, need_sigma, need_gamma);
}

// The rows of all processes, and from `start` on the `count` rows of this one.
template <class T>
struct Shard {
  Scratch<T> memory;
  Rows<T> rows, own;

  Shard(int64_t n, int64_t d, int64_t k, int64_t count)
      : memory(((n + kTile<T> - 1) / kTile<T> + (count + kTile<T> - 1) / kTile<T>) * kTile<T> * (d + 2 * k + 1)),
        rows{{n, d + 2 * k + 1, memory.get()}, d, k},
        own{{count, rows.features, rows.at(rows.tiles(), 0)}, d, k} {}
  void pack(const Tensor& mu, const Tensor& sigma, const Tensor& gamma) const {
    const Matrix<T> m(mu), s(sigma), g(gamma);
    for_tiles(rows.tiles(), [&](int64_t tile) {
      dcaccel::pack(m, tile, rows.u(tile)), dcaccel::pack(s, tile, rows.u(tile) + m.columns * kTile<T>);
      dcaccel::pack(g, tile, rows.a(tile));
    });
    centre(rows, rows.d);
  }
};

// sum_j exp(q_ij) and sum_j q_ij gamma_j for the own rows i and all rows j.
template <class T>
Tensor own_sums(const Tensor& mu, const Tensor& sigma, const Tensor& gamma, int64_t start, int64_t count) {
  const int64_t k = gamma.size(1);
  const Shard<T> shard(mu.size(0), 2 * mu.size(1), k, count);
  shard.pack(mu, sigma, gamma);
  take_rows(shard.rows, start, shard.own);
  const Scratch<double> sums(shard.own.tiles() * kTile<T> * (1 + k));
  sums.zero();
  LossPass<T> pass{shard.rows, shard.own, 0, start, sums.get()};
  parallel(shard.own.tiles(), active_kernels<T>().own_loss, &pass);
  const Tensor out = empty<double>({count, 1 + k});
  for_tiles(shard.own.tiles(), [&](int64_t tile) {
    double* to = data<double>(out) + tile * kTile<T> * (1 + k);
    for (int64_t lane = 0; lane < count_of<T>(count, tile); ++lane, to += 1 + k) {
      to[0] = pass.z(tile)[lane] + kExpOfOne;  // the row itself: q = 1
      for (int64_t c = 0; c < k; ++c)
        to[1 + c] = pass.r(tile)[c * kTile<T> + lane] + shard.own.a(tile)[c * kTile<T> + lane];
    }
  });
  return out;
}

// dloss/du / c of the own rows, from r_i / Z_i of all rows and the sizes of the clusters.
template <class T>
Tensor own_pull(const Tensor& mu, const Tensor& sigma, const Tensor& gamma, const Tensor& share, const Tensor& size,
                int64_t start, int64_t count) {
  const int64_t d = 2 * mu.size(1), k = gamma.size(1);
  const Shard<T> shard(mu.size(0), d, k, count);
  const Rows<T>&rows = shard.rows, &own = shard.own;
  shard.pack(mu, sigma, gamma);
  for_tiles(rows.tiles(), [&](int64_t tile) {
    for (int64_t c = 0; c < k; ++c) {
      const double scale = std::sqrt(2 / data<double>(size)[c]);
      for (int64_t lane = 0; lane < kTile<T>; ++lane) {
        T& a = rows.a(tile)[c * kTile<T> + lane];
        a = T(a * scale);
      }
    }
    for (int64_t lane = 0; lane < count_of<T>(rows.n, tile); ++lane)
      rows.share(tile)[lane] = T(data<double>(share)[tile * kTile<T> + lane]);
  });
  take_rows(rows, start, own);
  const Scratch<double> sums(own.tiles() * kTile<T> * (1 + d));
  sums.zero();
  PullPass<T> pass{rows, own, 0, start, sums.get(), 0, d};
  const Kernels<T> kernels = active_kernels<T>();
  parallel(own.tiles(), kernels.own_pull, &pass);
  const Tensor out = empty<T>({count, d});
  for_tiles(own.tiles(), [&](int64_t tile) {
    unpack(tile, count, d, data<T>(out), [&](int64_t c, T* to) {
      kernels.gradient(own.at(tile, c), pass.total(tile), pass.pulled(tile) + c * kTile<T>, 2.0, to);
    });
  });
  return out;
}

void expect_shard(const Tensor& mu, const Tensor& sigma, const Tensor& gamma, int64_t start, int64_t count) {
  expect_pairs(mu, sigma, gamma);
  expect(mu.size(1) == sigma.size(1) && start >= 0 && count >= 1 && start + count <= mu.size(0));
}

Tensor own_sums_cpu(Tensor mu, Tensor sigma, Tensor gamma, int64_t start, int64_t count) {
  expect_shard(mu, sigma, gamma, start, count);
  const auto run = mu.scalar_type() == ScalarType::Float ? own_sums<float> : own_sums<double>;
  return run(mu, sigma, gamma, start, count);
}

Tensor own_pull_cpu(Tensor mu, Tensor sigma, Tensor gamma, Tensor share, Tensor size, int64_t start, int64_t count) {
  expect_shard(mu, sigma, gamma, start, count);
  expect(share.numel() == mu.size(0) && size.numel() == gamma.size(1) && share.is_contiguous() && size.is_contiguous());
  expect(share.scalar_type() == ScalarType::Double && size.scalar_type() == ScalarType::Double);
  const auto run = mu.scalar_type() == ScalarType::Float ? own_pull<float> : own_pull<double>;
  return run(mu, sigma, gamma, share, size, start, count);
}

}  // namespace
}  // namespace dcaccel::wasserstein_similarity

STABLE_TORCH_LIBRARY_IMPL(dcaccel, CPU, m) {
  m.impl("wasserstein_similarity", TORCH_BOX(&dcaccel::wasserstein_similarity::wasserstein_similarity_cpu));
  m.impl("wasserstein_similarity_bwd", TORCH_BOX(&dcaccel::wasserstein_similarity::wasserstein_similarity_bwd_cpu));
  m.impl("wasserstein_similarity_own_sums", TORCH_BOX(&dcaccel::wasserstein_similarity::own_sums_cpu));
  m.impl("wasserstein_similarity_own_pull", TORCH_BOX(&dcaccel::wasserstein_similarity::own_pull_cpu));
}

#endif  // DCACCEL_LEVEL == 0
