// wasserstein_similarity on the CPU: packing, the closed forms of rows and clusters in double, registration.
// Compiled once per instruction set for the passes; the rest of the file belongs to level 0.
// SPDX-License-Identifier: Apache-2.0
#include "passes.h"

#if DCACCEL_LEVEL == 0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "../common/centring.h"
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

// What the forward leaves for the backward: Rows, and behind the features of the passes dloss/dgamma / c, k of them. It
// has room for whole groups of kStateRows rows, so that Python can tell its size without knowing the tile.
constexpr int64_t kStateRows = 64;

template <class T>
constexpr int kBlock = baseline::Vec<T>::size;

template <class T>
Rows<T> rows_in(const Tensor& state, int64_t n, int64_t d, int64_t k) {
  return {n, d, k, d + 2 * k + 1, static_cast<T*>(state.mutable_data_ptr())};
}

template <class T>
Tensor empty_state(int64_t n, int64_t d, int64_t k) {
  return empty<T>({(n + kStateRows - 1) / kStateRows * kStateRows * (d + 2 * k + 1)});
}

// How many rows of a tile there are.
template <class T>
int64_t count_of(int64_t n, int64_t tile) {
  return std::min(n - tile * kTile<T>, kTile<T>);
}

// to[c][r] = from[r][c] for a square block, four rows of float, at any address.
template <class T>
void turn(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  baseline::Vec<T> block[kBlock<T>];
  for (int r = 0; r < kBlock<T>; ++r) std::memcpy(&block[r], from + r * from_stride, sizeof(block[r]));
  baseline::transpose(block);
  for (int r = 0; r < kBlock<T>; ++r) std::memcpy(to + r * to_stride, &block[r], sizeof(block[r]));
}

// The columns of `from` as features of a tile, zero behind row N. Blocks may overlap at the last column.
template <class T>
void pack(const Matrix<T>& from, int64_t tile, T* to) {
  const int64_t count = count_of<T>(from.rows, tile), columns = from.columns, stride = from.row_stride;
  const bool blocks = from.column_stride == 1 && columns >= kBlock<T>;
  const int64_t turned = blocks ? count / kBlock<T> * kBlock<T> : 0;
  const T* x = from.data + tile * kTile<T> * stride;
  for (int64_t lane = 0; lane < turned; lane += kBlock<T>)
    for (int64_t c = 0; c < columns; c += kBlock<T>) {
      const int64_t first = std::min(c, columns - kBlock<T>);
      turn(x + lane * stride + first, stride, to + first * kTile<T> + lane, kTile<T>);
    }
  for (int64_t c = 0; c < columns; ++c, x += from.column_stride, to += kTile<T>) {
    for (int64_t lane = turned; lane < count; ++lane) to[lane] = x[lane * stride];
    std::fill(to + count, to + kTile<T>, T(0));
  }
}

// The sum of term(lane) over a tile; eight side by side, because the compiler may not reorder one.
template <class T, class Term>
double sum_of(const Term& term) {
  double sum[8] = {};
  for (int64_t lane = 0; lane < kTile<T>; lane += 8)
    for (int64_t to = 0; to < 8; ++to) sum[to] += term(lane + to);
  return std::accumulate(sum, sum + 8, 0.0);
}

// Minimum and maximum of a feature of u.
template <class T>
std::pair<T, T> range(const Rows<T>& rows, int64_t f) {
  using V = baseline::Vec<T>;
  V low(rows.u(0)[f * kTile<T>]), high = low;
  for (int64_t tile = 0; tile < rows.tiles(); ++tile) {
    const T *x = rows.u(tile) + f * kTile<T>, *end = x + count_of<T>(rows.n, tile);
    for (; end - x >= V::size; x += V::size) {
      const V v = V::load(x);
      low = select(v.v < low.v, v, low), high = select(v.v > high.v, v, high);
    }
    for (; x < end; ++x) low = select(V(*x).v < low.v, V(*x), low), high = select(V(*x).v > high.v, V(*x), high);
  }
  T least[V::size], most[V::size];
  std::memcpy(least, &low, sizeof low), std::memcpy(most, &high, sizeof high);
  return {*std::min_element(least, least + V::size), *std::max_element(most, most + V::size)};
}

// Moves the rows u to where their differences of sums are accurate, see centring.h.
template <class T>
void centre(const Rows<T>& rows) {
  for (int64_t f = 0; f < rows.d; ++f) {
    const auto [low, high] = range(rows, f);
    const T near = low < 0 ? -high : low, far = low < 0 ? -low : high;
    const bool finite = std::isfinite(low) && std::isfinite(high);
    if (finite && !(near > 0 && far <= 4 * near)) continue;  // no mean is within a factor of two of both
    double sum = 0;
    for (int64_t tile = 0; tile < rows.tiles(); ++tile) {
      const T* x = rows.u(tile) + f * kTile<T>;
      sum += sum_of<T>([&](int64_t lane) { return x[lane]; });
    }
    const T shift = centring_shift(low, high, sum / rows.n);
    if (shift == T(0)) continue;
    for (int64_t tile = 0; tile < rows.tiles(); ++tile)
      for (int64_t lane = 0; lane < kTile<T>; ++lane) rows.u(tile)[f * kTile<T> + lane] -= shift;
  }
}

// Sums of a cluster: s of gamma as it is, size with the clamp, the others as in ClusterSlope.
struct Cluster {
  double s = 0, size = 0, same = 0, entropy = 0;
};

// From the sums of the pass and gamma in place of a: loss / c, and the state complete.
template <class T>
double finish(const LossPass<T>& pass) {
  const Rows<T>& rows = pass.rows;
  const int64_t tiles = rows.tiles(), k = rows.k;
  std::vector<Cluster> clusters(k);
  for (int64_t c = 0; c < k; ++c) {
    Cluster& own = clusters[c];
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const T* gamma = rows.a(tile) + c * kTile<T>;
      own.s += sum_of<T>([&](int64_t lane) { return double(gamma[lane]); });
    }
    own.size = own.s < kSmallestCluster ? kSmallestCluster : own.s;
  }
  for_tiles(tiles, [&](int64_t tile) {  // r complete, share, and l in place of z
    double *z = pass.z(tile), *r = pass.r(tile), row[kTile<T>] = {};
    const T* gamma = rows.a(tile);
    for (int64_t c = 0; c < k; ++c, gamma += kTile<T>, r += kTile<T>)
      for (int64_t lane = 0; lane < kTile<T>; ++lane)
        r[lane] += gamma[lane], row[lane] += gamma[lane] * (clusters[c].s / clusters[c].size);
    for (int64_t lane = 0; lane < kTile<T>; ++lane) {
      z[lane] += kExpOfOne;
      rows.share(tile)[lane] = T(row[lane] / z[lane]);
      z[lane] = std::log(z[lane]);
    }
  });
  double loss = 0;
  for (int64_t c = 0; c < k; ++c) {
    Cluster& own = clusters[c];
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const T* gamma = rows.a(tile) + c * kTile<T>;
      const double *l = pass.z(tile), *r = pass.r(tile) + c * kTile<T>;
      own.same += sum_of<T>([&](int64_t lane) { return gamma[lane] * r[lane]; });
      own.entropy += sum_of<T>([&](int64_t lane) { return gamma[lane] * l[lane]; });
    }
    loss += (own.s * own.entropy - own.same) / own.size;
  }
  for_tiles(tiles, [&](int64_t tile) {
    const double *l = pass.z(tile), *r = pass.r(tile);
    T *gamma = rows.a(tile), *to = rows.slope(tile);
    for (const Cluster& own : clusters) {
      const ClusterSlope of_rows(own.s, own.size, own.same, own.entropy);
      const double scale = std::sqrt(2 / own.size);
      for (int64_t lane = 0; lane < kTile<T>; ++lane)
        to[lane] = T(of_rows(l[lane], r[lane])), gamma[lane] = T(gamma[lane] * scale);
      r += kTile<T>, gamma += kTile<T>, to += kTile<T>;
    }
  });
  return loss;
}

template <class T>
std::tuple<Tensor, Tensor> loss(const Tensor& mu_, const Tensor& sigma_, const Tensor& gamma_, bool mean_of_rows) {
  const Matrix<T> mu(mu_), sigma(sigma_), gamma(gamma_);
  const double n = mu.rows;
  const Tensor out = empty<T>({}), state = empty_state<T>(mu.rows, 2 * mu.columns, gamma.columns);
  const Rows<T> rows = rows_in<T>(state, mu.rows, 2 * mu.columns, gamma.columns);
  const int64_t tiles = rows.tiles(), block = block_tiles(tiles);
  for_tiles(tiles, [&](int64_t tile) {
    pack(mu, tile, rows.u(tile)), pack(sigma, tile, rows.u(tile) + mu.columns * kTile<T>);
    pack(gamma, tile, rows.a(tile));
  });
  centre(rows);
  const Scratch<double> sums(tiles * kTile<T> * (1 + rows.k));
  sums.zero();
  LossPass<T> pass{rows, block, sums.get()};
  tournament((tiles + block - 1) / block, active_kernels<T>().loss, &pass);
  *data<T>(out) = T(finish(pass) / (mean_of_rows ? n : n * n));
  return {out, state};
}

// The columns of a tile of a gradient = values(column, lane).
template <class T, class Values>
void unpack(int64_t tile, int64_t n, int64_t columns, T* out, const Values& values) {
  out += tile * kTile<T> * columns;
  for (int64_t c = 0; c < columns; ++c) {
    T column[kTile<T>];
    for (int64_t lane = 0; lane < kTile<T>; ++lane) column[lane] = T(values(c, lane));
    for (int64_t lane = 0; lane < count_of<T>(n, tile); ++lane) out[lane * columns + c] = column[lane];
  }
}

// factor * dloss/du / c for both halves of u, or the one that is not null.
template <class T>
void row_gradients(const Rows<T>& rows, double factor, T* g_mu, T* g_sigma) {
  const int64_t tiles = rows.tiles(), block = block_tiles(tiles), z = rows.d / 2;
  const int64_t first = g_mu ? 0 : z, count = g_mu && g_sigma ? 2 * z : z;
  const Scratch<double> sums(tiles * kTile<T> * (1 + count));
  sums.zero();
  PullPass<T> pass{rows, block, sums.get(), first, count};
  tournament((tiles + block - 1) / block, active_kernels<T>().pull, &pass);
  const auto half = [&](int64_t tile, int64_t from, T* out) {
    const T* u = rows.u(tile) + from * kTile<T>;
    const double *total = pass.total(tile), *pulled = pass.pulled(tile) + (from - first) * kTile<T>;
    if (out) unpack(tile, rows.n, z, out, [&](int64_t c, int64_t lane) {
      return 2 * factor * (total[lane] * u[c * kTile<T> + lane] - pulled[c * kTile<T> + lane]);
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
      const T* from = rows.slope(tile);
      const auto values = [&](int64_t c, int64_t lane) { return factor * from[c * kTile<T> + lane]; };
      unpack(tile, size, k, data<T>(g_gamma), values);
    });
  }
  return {g_mu, g_sigma, g_gamma};
}

std::tuple<Tensor, Tensor> wasserstein_similarity_cpu(Tensor mu, Tensor sigma, Tensor gamma, bool rows) {
  return mu.scalar_type() == ScalarType::Float ? loss<float>(mu, sigma, gamma, rows)
                                               : loss<double>(mu, sigma, gamma, rows);
}

// mu, sigma and gamma are arguments for the reference, and for autograd to know that there is no second derivative.
std::tuple<Tensor, Tensor, Tensor> wasserstein_similarity_bwd_cpu(Tensor mu, Tensor, Tensor gamma, Tensor state,
                                                                  Tensor grad, bool rows, bool need_mu,
                                                                  bool need_sigma, bool need_gamma) {
  const auto run = mu.scalar_type() == ScalarType::Float ? gradients<float> : gradients<double>;
  return run(mu, gamma, state, grad, rows, need_mu, need_sigma, need_gamma);
}

}  // namespace
}  // namespace dcaccel::wasserstein_similarity

STABLE_TORCH_LIBRARY_IMPL(dcaccel, CPU, m) {
  m.impl("wasserstein_similarity", TORCH_BOX(&dcaccel::wasserstein_similarity::wasserstein_similarity_cpu));
  m.impl("wasserstein_similarity_bwd", TORCH_BOX(&dcaccel::wasserstein_similarity::wasserstein_similarity_bwd_cpu));
}

#endif  // DCACCEL_LEVEL == 0
