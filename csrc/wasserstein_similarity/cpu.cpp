// wasserstein_similarity on the CPU: packing, the closed forms of rows and clusters in double, registration.
// Compiled once per instruction set for the passes; the rest of the file belongs to level 0.
// SPDX-License-Identifier: Apache-2.0
#include "passes.h"

#if DCACCEL_LEVEL == 0
#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>
#include <vector>

#include "../common/tensor.h"
#include "../common/threads.h"

namespace dcaccel::wasserstein_similarity {

#ifdef DCACCEL_HAS_X86_LEVELS
namespace avx2 {
Kernels<float> kernels_float();
Kernels<double> kernels_double();
}  // namespace avx2
namespace avx512 {
Kernels<float> kernels_float();
Kernels<double> kernels_double();
}  // namespace avx512
#endif

namespace {

// body(tile) for all tiles, in parallel once there is enough to do.
template <class Body>
void for_tiles(int64_t tiles, const Body& body) {
  if (tiles >= 32) {
    parallel(tiles, [](void* p, int64_t tile) { (*static_cast<const Body*>(p))(tile); }, const_cast<Body*>(&body));
  } else {
    for (int64_t tile = 0; tile < tiles; ++tile) body(tile);
  }
}

template <class T>
Kernels<T> active_kernels() {
  constexpr bool single = sizeof(T) == 4;
#ifdef DCACCEL_HAS_X86_LEVELS
  if (active_level() == 2) {
    if constexpr (single) return avx512::kernels_float();
    else return avx512::kernels_double();
  }
  if (active_level() == 1) {
    if constexpr (single) return avx2::kernels_float();
    else return avx2::kernels_double();
  }
#endif
  if constexpr (single) return baseline::kernels_float();
  else return baseline::kernels_double();
}

// Blocks of the tournament: at least 32 for large N, so that 16 threads find work, and at most 8 tiles each, so that
// two blocks and their sums stay in L2. A function of N only, or results would depend on the number of threads.
int64_t block_tiles(int64_t tiles) { return tiles < 64 ? 1 : (tiles < 256 ? tiles / 32 : 8); }

// A matrix in tiles (tile.h), zero until it is filled.
template <class T>
struct Packed {
  int64_t n, features, tiles;
  Scratch<T> values;

  Packed(int64_t n_, int64_t features_)
      : n(n_), features(features_), tiles((n + kTile<T> - 1) / kTile<T>), values(tiles * features * kTile<T>) {
    values.zero();
  }
  T* get() const { return values.get(); }
  T* lanes(int64_t tile, int64_t f) const { return get() + (tile * features + f) * kTile<T>; }
  int64_t rows(int64_t tile) const { return std::min(n - tile * kTile<T>, kTile<T>); }

  // Feature f, f + 1, … = the columns of `from`, each times its scale if there is one.
  void fill(const Matrix<T>& from, int64_t f, const double* scale = nullptr) const {
    for_tiles(tiles, [&](int64_t tile) {
      for (int64_t c = 0; c < from.columns; ++c) {
        const T* x = from.data + tile * kTile<T> * from.row_stride + c * from.column_stride;
        T* to = lanes(tile, f + c);
        for (int64_t lane = 0; lane < rows(tile); ++lane, x += from.row_stride) to[lane] = scale ? *x * scale[c] : *x;
      }
    });
  }
};

// Sum, minimum and maximum of a feature; eight of each side by side, because the compiler may not reorder one.
template <class T>
std::tuple<double, T, T> statistics(const Packed<T>& u, int64_t f) {
  double sum[8] = {};
  T low[8], high[8];
  std::fill_n(low, 8, u.lanes(0, f)[0]), std::fill_n(high, 8, u.lanes(0, f)[0]);
  for (int64_t tile = 0; tile < u.tiles; ++tile) {
    const T* x = u.lanes(tile, f);
    const auto take = [&](int64_t lane, int64_t to) {
      sum[to] += x[lane];
      low[to] = x[lane] < low[to] ? x[lane] : low[to], high[to] = x[lane] > high[to] ? x[lane] : high[to];
    };
    int64_t lane = 0;
    for (; lane + 8 <= u.rows(tile); lane += 8)
      for (int64_t to = 0; to < 8; ++to) take(lane + to, to);
    for (; lane < u.rows(tile); ++lane) take(lane, 0);
  }
  return {std::accumulate(sum, sum + 8, 0.0), *std::min_element(low, low + 8), *std::max_element(high, high + 8)};
}

// The rows u, moved to where their differences of sums are accurate. The loss does not change when all rows move
// together, but sum_j S_ij (u_i - u_j) is computed as a difference of two sums, which an offset would swamp. Centring
// must not round, though, or it would disturb the differences of near rows: a feature moves by its mean only if all its
// values are within a factor of two of it, where floating point subtraction is exact (Sterbenz). Any other feature has
// a spread as large as its mean, and no need. A value that is not finite makes its feature NaN.
template <class T>
Packed<T> pack_rows(const Matrix<T>& mu, const Matrix<T>& sigma) {
  Packed<T> u(mu.rows, 2 * mu.columns);
  u.fill(mu, 0), u.fill(sigma, mu.columns);
  for (int64_t f = 0; f < u.features; ++f) {
    const auto [sum, low, high] = statistics(u, f);
    const T mean = T(sum / u.n), size = std::abs(mean);
    const T near = mean < 0 ? -high : low, far = mean < 0 ? -low : high;
    if (std::isfinite(sum) && !(near >= size / 2 && far <= 2 * size)) continue;
    for (int64_t tile = 0; tile < u.tiles; ++tile)
      for (int64_t lane = 0; lane < u.rows(tile); ++lane) u.lanes(tile, f)[lane] -= std::isfinite(sum) ? mean : T(NAN);
  }
  return u;
}

// The sums of clusters: s of gamma as it is, size with the clamp.
struct Clusters {
  std::vector<double> s, size, ratio;  // ratio = s / size

  template <class T>
  explicit Clusters(const Matrix<T>& gamma) : s(gamma.columns, 0.0), size(gamma.columns), ratio(gamma.columns) {
    for (int64_t i = 0; i < gamma.rows; ++i)
      for (int64_t c = 0; c < gamma.columns; ++c) s[c] += gamma(i, c);
    for (std::size_t c = 0; c < s.size(); ++c) {
      size[c] = s[c] < kSmallestCluster ? kSmallestCluster : s[c];
      ratio[c] = s[c] / size[c];
    }
  }
};

template <class T>
std::tuple<Tensor, Tensor, Tensor> loss(const Tensor& mu, const Tensor& sigma, const Tensor& gamma, bool rows) {
  const Matrix<T> weights(gamma);
  const int64_t n = weights.rows, k = weights.columns;
  const Clusters clusters(weights);
  const auto u = pack_rows<T>(Matrix<T>(mu), Matrix<T>(sigma));
  const Packed<T> g(n, k);
  g.fill(weights, 0);
  const Scratch<double> z(u.tiles * kTile<T>), r(u.tiles * kTile<T> * k);
  z.zero(), r.zero();
  const int64_t block = block_tiles(u.tiles);
  LossPass<T> pass{n, u.features, k, block, u.get(), g.get(), z.get(), r.get()};
  tournament((u.tiles + block - 1) / block, active_kernels<T>().loss, &pass);

  const Tensor out = empty({}, mu.scalar_type()), z_out = empty({n}, ScalarType::Double),
               r_out = empty({n, k}, ScalarType::Double);
  std::vector<double> same(k, 0.0);
  double sum = 0, *z_to = data<double>(z_out), *r_to = data<double>(r_out);
  for (int64_t i = 0; i < n; ++i) {
    z_to[i] = z[i] + kExpOfOne;
    const double l = std::log(z_to[i]);
    const double* row = r.get() + i / kTile<T> * k * kTile<T> + i % kTile<T>;
    double row_sum = 0;
    for (int64_t c = 0; c < k; ++c) {
      const double x = weights(i, c), rc = row[c * kTile<T>] + x;
      r_to[i * k + c] = rc;
      row_sum += x * clusters.ratio[c], same[c] += x * rc;
    }
    sum += row_sum * l;
  }
  for (int64_t c = 0; c < k; ++c) sum -= same[c] / clusters.size[c];
  *data<T>(out) = T(sum / (rows ? n : double(n) * n));
  return {out, z_out, r_out};
}

// d loss / du for features [first, first + count), into g_mu and g_sigma.
template <class T>
void row_gradients(const Matrix<T>& mu, const Matrix<T>& sigma, const Matrix<T>& gamma, const Clusters& clusters,
                   const double* z, double factor, int64_t first, int64_t count, T* g_mu, T* g_sigma) {
  const int64_t n = mu.rows, k = gamma.columns;
  const auto u = pack_rows(mu, sigma);
  const Packed<T> a(n, k), share(n, 1);
  std::vector<double> scale(k);
  for (int64_t c = 0; c < k; ++c) scale[c] = std::sqrt(2 / clusters.size[c]);
  a.fill(gamma, 0, scale.data());
  for (int64_t i = 0; i < n; ++i) {
    double r = 0;
    for (int64_t c = 0; c < k; ++c) r += gamma(i, c) * clusters.ratio[c];
    share.get()[i] = r / z[i];
  }
  const Scratch<double> total(u.tiles * kTile<T>), pulled(u.tiles * kTile<T> * count);
  total.zero(), pulled.zero();
  const int64_t block = block_tiles(u.tiles);
  PullPass<T> pass{n, u.features, k, block, u.get(), a.get(), share.get(), first, count, total.get(), pulled.get()};
  tournament((u.tiles + block - 1) / block, active_kernels<T>().pull, &pass);

  for_tiles(u.tiles, [&](int64_t tile) {
    for (int64_t f = first; f < first + count; ++f) {
      const T* x = u.lanes(tile, f);
      const double *pull = pulled.get() + (tile * count + f - first) * kTile<T>, *sum = total.get() + tile * kTile<T>;
      T* to = (f < mu.columns ? g_mu + f : g_sigma + f - mu.columns) + tile * kTile<T> * mu.columns;
      for (int64_t lane = 0; lane < u.rows(tile); ++lane)
        to[lane * mu.columns] = T(2 * factor * (sum[lane] * x[lane] - pull[lane]));
    }
  });
}

template <class T>
void gamma_gradient(const Matrix<T>& gamma, const Clusters& clusters, const double* z, const double* r, double factor,
                    T* out) {
  const int64_t n = gamma.rows, k = gamma.columns;
  std::vector<double> same(k, 0.0), entropy(k, 0.0), l(n);
  for (int64_t i = 0; i < n; ++i) {
    l[i] = std::log(z[i]);
    for (int64_t c = 0; c < k; ++c) same[c] += gamma(i, c) * r[i * k + c], entropy[c] += gamma(i, c) * l[i];
  }
  std::vector<ClusterSlope> slope;
  for (int64_t c = 0; c < k; ++c) slope.emplace_back(clusters.s[c], clusters.size[c], same[c], entropy[c]);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < k; ++c) out[i * k + c] = T(factor * slope[c](l[i], r[i * k + c]));
}

template <class T>
std::tuple<Tensor, Tensor, Tensor> gradients(const Tensor& mu_, const Tensor& sigma_, const Tensor& gamma_,
                                             const Tensor& z, const Tensor& r, const Tensor& grad, bool rows,
                                             bool need_mu, bool need_sigma, bool need_gamma) {
  const Matrix<T> mu(mu_), sigma(sigma_), gamma(gamma_);
  const Clusters clusters(gamma);
  const double n = mu.rows, factor = *static_cast<const T*>(grad.const_data_ptr()) / (rows ? n : n * n);
  const auto wanted = [&](bool need, int64_t columns) { return empty({need * mu.rows, columns}, mu_.scalar_type()); };
  const Tensor g_mu = wanted(need_mu, mu.columns), g_sigma = wanted(need_sigma, mu.columns),
               g_gamma = wanted(need_gamma, gamma.columns);
  const auto* z_at = static_cast<const double*>(z.const_data_ptr());
  const int64_t first = need_mu ? 0 : mu.columns, end = need_sigma ? 2 * mu.columns : mu.columns;
  if (end > first) {
    row_gradients(mu, sigma, gamma, clusters, z_at, factor, first, end - first, data<T>(g_mu), data<T>(g_sigma));
  }
  if (need_gamma) {
    gamma_gradient(gamma, clusters, z_at, static_cast<const double*>(r.const_data_ptr()), factor, data<T>(g_gamma));
  }
  return {g_mu, g_sigma, g_gamma};
}

std::tuple<Tensor, Tensor, Tensor> wasserstein_similarity_cpu(Tensor mu, Tensor sigma, Tensor gamma, bool rows) {
  return mu.scalar_type() == ScalarType::Float ? loss<float>(mu, sigma, gamma, rows)
                                               : loss<double>(mu, sigma, gamma, rows);
}

std::tuple<Tensor, Tensor, Tensor> wasserstein_similarity_bwd_cpu(Tensor mu, Tensor sigma, Tensor gamma, Tensor z,
                                                                  Tensor r, Tensor grad, bool rows, bool need_mu,
                                                                  bool need_sigma, bool need_gamma) {
  const auto run = mu.scalar_type() == ScalarType::Float ? gradients<float> : gradients<double>;
  return run(mu, sigma, gamma, z, r, grad, rows, need_mu, need_sigma, need_gamma);
}

}  // namespace
}  // namespace dcaccel::wasserstein_similarity

STABLE_TORCH_LIBRARY_IMPL(dcaccel, CPU, m) {
  m.impl("wasserstein_similarity", TORCH_BOX(&dcaccel::wasserstein_similarity::wasserstein_similarity_cpu));
  m.impl("wasserstein_similarity_bwd", TORCH_BOX(&dcaccel::wasserstein_similarity::wasserstein_similarity_bwd_cpu));
}

#endif  // DCACCEL_LEVEL == 0
