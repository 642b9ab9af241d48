// The two passes over all pairs of rows, for one instruction set; cpu.cpp packs their inputs and finishes their sums.
//
// Both passes visit each unordered pair of tiles once. A tile of q (then S) is written to L1, contracted with the rows
// of one side, transposed and contracted with the rows of the other. Pairs i = j are left out: their q is known
// exactly, and their S, the largest of all, belongs to a difference of zero.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/exp_log.h"
#include "../common/pair_sweep.h"
#include "math.h"
#include "rows.h"

namespace dcaccel::wasserstein_similarity {

// `own` are the rows whose sums are wanted: all `rows`, or those from `start` on that a process owns (pair_sweep.h). Sums are
// packed like own and hold zeros or earlier contributions.
template <class T>
struct LossPass {
  Rows<T> rows, own;
  int64_t block_tiles, start;
  double* sums;  // 1 + k features: += sum_{j != i} exp(q_ij) and sum_{j != i} q_ij gamma_j

  DC_HD double* z(int64_t tile) const { return sums + tile * (1 + rows.k) * kTile<T>; }
  DC_HD double* r(int64_t tile) const { return z(tile) + kTile<T>; }
};

template <class T>
struct PullPass {
  Rows<T> rows, own;
  int64_t block_tiles, start;
  double* sums;          // 1 + count features: += sum_{j != i} S_ij and sum_{j != i} S_ij u_j
  int64_t first, count;  // the features of u that a gradient is wanted for

  DC_HD double* total(int64_t tile) const { return sums + tile * (1 + count) * kTile<T>; }
  DC_HD double* pulled(int64_t tile) const { return total(tile) + kTile<T>; }
};

// Sums of a cluster: s of gamma as it is, size with the clamp, their ratio, the others as in ClusterSlope.
struct Cluster {
  double s, size, ratio, same, entropy;
};

// What follows a LossPass, over clusters and tiles in turn.
template <class T>
struct Closing {
  const LossPass<T>& pass;
  Cluster* clusters;
};

// For a LossPass<T> or a PullPass<T>; see play and sweep. Those of a Closing<T>, in their order: sizes of a cluster, r, l and
// share of a tile's rows, the other sums of a cluster, and a and slope of a tile.
template <class T>
struct Kernels {
  PlayFn loss, pull;
  SweepFn own_loss, own_pull, size, close, sums, slopes;
  GradientFn<T> gradient;
};

namespace DCACCEL_ISA {

using namespace dcaccel::DCACCEL_ISA;

// q of a tile, and sums of exp(q): of columns into z, of rows as one vector of partial sums a row.
template <class T, bool Masked, int V>
void loss_values(const LossPass<T>& p, const TilePair<T>& t, int64_t v0, Strip strip, T* q_tile, T* row_sums) {
  constexpr int lanes = Vec<T>::size;
  const T *x = p.rows.u(t.i), *y = p.own.u(t.j) + v0 * lanes;
  double* column_sums = p.z(t.j) + v0 * lanes;
  const int64_t diagonal = t.mirrored ? strip.begin / lanes : -1;  // a block whose rows and columns are the same
  Vec<T> column_sum[V];
  for (int64_t row = strip.begin; row < strip.end; row += kRows) {
    if (row % kStrip == 0 && row > strip.begin) flush(column_sum, column_sums);
    Vec<T> acc[kRows][V];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = Vec<T>(T(1));
    add_squared_distances<T>(x + row, y, p.rows.d, acc);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      Vec<T> row_sum;
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        Vec<T> q = similarity(acc[r][v]), e = exp_unit(q);
        if constexpr (Masked) {
          const auto counts = t.counts(row + r, (v0 + v) * lanes);
          q = select(counts, q, Vec<T>()), e = select(counts, e, Vec<T>());
        }
        q.store(q_tile + (row + r) * kTile<T> + (v0 + v) * lanes);
        column_sum[v] += e;
        if (!Masked || v > 0 || v0 != diagonal) row_sum += e;
      }
      T* sums = row_sums + (row + r) * lanes;
      if (v0 > 0 && v0 != diagonal) row_sum += Vec<T>::load(sums);
      row_sum.store(sums);
    }
  }
  flush(column_sum, column_sums);
}

template <class T>
void loss_tile(const LossPass<T>& p, const TilePair<T>& t) {
  alignas(64) T q[kTile<T> * kTile<T>], turned[kTile<T> * kTile<T>], row_sums[kTile<T> * Vec<T>::size];
  if (t.rows < kTile<T>) __builtin_memset(row_sums, 0, sizeof row_sums);
  by_columns<T>(t, [&]<bool Masked, int V>(int64_t v0, Strip strip) {
    loss_values<T, Masked, V>(p, t, v0, strip, q, row_sums);
  });
  if (!t.one_sided) add_lane_sums(row_sums, p.z(t.i));
  if (t.mirrored) transpose_tile<T, true>(q, t.vecs, q, nullptr);
  contract(q, p.rows.a(t.i), p.rows.k, t.rows, t.vecs, p.r(t.j));
  if (t.mirrored || t.one_sided) return;  // columns have seen every row
  transpose_tile<T, false>(q, t.vecs, turned, nullptr);
  contract(turned, p.own.a(t.j), p.rows.k, t.columns, kTileVecs<T>, p.r(t.i));
}

// S of a tile, and its column sums into total.
template <class T, bool Masked, int V>
void pull_values(const PullPass<T>& p, const TilePair<T>& t, int64_t v0, Strip strip, T* s_tile) {
  constexpr int lanes = Vec<T>::size;
  const T *x = p.rows.u(t.i), *y = p.own.u(t.j) + v0 * lanes, *xa = p.rows.a(t.i), *ya = p.own.a(t.j) + v0 * lanes;
  const T *share_i = p.rows.share(t.i), *share_j = p.own.share(t.j) + v0 * lanes;
  double* column_sums = p.total(t.j) + v0 * lanes;
  Vec<T> column_sum[V];
  for (int64_t row = strip.begin; row < strip.end; row += kRows) {
    if (row % kStrip == 0 && row > strip.begin) flush(column_sum, column_sums);
    T* out = s_tile + row * kTile<T> + v0 * lanes;
    {
      Vec<T> twice_w[kRows][V];
      add_products<T>(xa + row, ya, p.rows.k, twice_w);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) twice_w[r][v].store(out + r * kTile<T> + v * lanes);
    }
    Vec<T> acc[kRows][V];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = Vec<T>(T(1));
    add_squared_distances<T>(x + row, y, p.rows.d, acc);
    Vec<T> block_sum[V];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec<T> share_row(share_i[row + r]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        T* place = out + r * kTile<T> + v * lanes;
        const Vec<T> q = similarity(acc[r][v]), share_column = Vec<T>::load(share_j + v * lanes);
        Vec<T> s = pull(q, exp_unit(q), Vec<T>::load(place), share_row, share_column);
        if constexpr (Masked) s = select(t.counts(row + r, (v0 + v) * lanes), s, Vec<T>());
        s.store(place);
        block_sum[v] = r == 0 ? s : block_sum[v] + s;
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) column_sum[v] += block_sum[v];
  }
  flush(column_sum, column_sums);
}

template <class T>
void pull_tile(const PullPass<T>& p, const TilePair<T>& t) {
  alignas(64) T s[kTile<T> * kTile<T>], turned[kTile<T> * kTile<T>];
  by_columns<T>(t, [&]<bool Masked, int V>(int64_t v0, Strip strip) { pull_values<T, Masked, V>(p, t, v0, strip, s); });
  if (t.mirrored) transpose_tile<T, true>(s, t.vecs, s, p.total(t.i));
  const int64_t first = p.first * kTile<T>;
  contract(s, p.rows.u(t.i) + first, p.count, t.rows, t.vecs, p.pulled(t.j));
  if (t.mirrored || t.one_sided) return;
  transpose_tile<T, false>(s, t.vecs, turned, p.total(t.i));
  contract(turned, p.own.u(t.j) + first, p.count, t.columns, kTileVecs<T>, p.pulled(t.i));
}

// sum_i gamma_ic x_i over all rows, from the lanes of a tile that x gives.
template <class T, class X>
DC_HD double over_rows(const Rows<T>& rows, int64_t c, const X& x) {
  using W = Vec<double>;
  W even, odd;
  for (int64_t tile = 0; tile < rows.tiles(); ++tile) {
    const T* gamma = rows.a(tile) + c * kTile<T>;
#pragma GCC unroll 4
    for (int64_t lane = 0; lane < kTile<T>; lane += 2 * W::size) {
      even += x(widen(gamma + lane), tile, lane);
      odd += x(widen(gamma + lane + W::size), tile, lane + W::size);
    }
  }
  return total(even + odd);
}

template <class T>
void size_of_cluster(void* closing, int64_t c) {
  const Closing<T>& p = *static_cast<const Closing<T>*>(closing);
  const double s = over_rows(p.pass.rows, c, [](Vec<double> gamma, int64_t, int64_t) { return gamma; });
  const double size = s < kSmallestCluster ? kSmallestCluster : s;
  p.clusters[c] = {s, size, s / size, 0, 0};
}

// r complete, share, and l in place of z.
template <class T>
void close_tile(void* closing, int64_t tile) {
  using W = Vec<double>;
  const Closing<T>& p = *static_cast<const Closing<T>*>(closing);
  const T* gamma = p.pass.rows.a(tile);
  T* share = p.pass.rows.share(tile);
  double *z = p.pass.z(tile), *r = p.pass.r(tile), row[kTile<T>] = {};
  for (int64_t c = 0; c < p.pass.rows.k; ++c, gamma += kTile<T>, r += kTile<T>)
    for (int64_t lane = 0; lane < kTile<T>; ++lane) r[lane] += gamma[lane], row[lane] += gamma[lane] * p.clusters[c].ratio;
  for (int64_t lane = 0; lane < kTile<T>; ++lane) z[lane] += kExpOfOne, share[lane] = T(row[lane] / z[lane]);
  for (int64_t lane = 0; lane < kTile<T>; lane += W::size) log(W::load(z + lane)).store(z + lane);
}

template <class T>
void sums_of_cluster(void* closing, int64_t c) {
  using W = Vec<double>;
  const Closing<T>& p = *static_cast<const Closing<T>*>(closing);
  const auto with = [&](const auto& of_tile) {
    return over_rows(p.pass.rows, c, [&](W gamma, int64_t tile, int64_t lane) {
      return gamma * W::load(of_tile(tile) + lane);
    });
  };
  p.clusters[c].same = with([&](int64_t tile) { return p.pass.r(tile) + c * kTile<T>; });
  p.clusters[c].entropy = with([&](int64_t tile) { return p.pass.z(tile); });
}

template <class T>
void slopes_of_tile(void* closing, int64_t tile) {
  const Closing<T>& p = *static_cast<const Closing<T>*>(closing);
  const double *l = p.pass.z(tile), *r = p.pass.r(tile);
  T *gamma = p.pass.rows.a(tile), *to = p.pass.rows.slope(tile);
  for (int64_t c = 0; c < p.pass.rows.k; ++c, r += kTile<T>, gamma += kTile<T>, to += kTile<T>) {
    const Cluster& own = p.clusters[c];
    const ClusterSlope of_rows(own.s, own.size, own.same, own.entropy);
    const double scale = __builtin_sqrt(2 / own.size);
    for (int64_t lane = 0; lane < kTile<T>; ++lane)
      to[lane] = T(of_rows(l[lane], r[lane])), gamma[lane] = T(gamma[lane] * scale);
  }
}

template <class T>
Kernels<T> kernels() {
  return {play<LossPass<T>, T, loss_tile<T>>, play<PullPass<T>, T, pull_tile<T>>,
          sweep<LossPass<T>, T, loss_tile<T>>, sweep<PullPass<T>, T, pull_tile<T>>, size_of_cluster<T>, close_tile<T>,
          sums_of_cluster<T>, slopes_of_tile<T>, gradient_of_tile<T>};
}

// Called by the host part through these two names, one pair for each level.
Kernels<float> kernels_float() { return kernels<float>(); }
Kernels<double> kernels_double() { return kernels<double>(); }

}  // namespace DCACCEL_ISA
}  // namespace dcaccel::wasserstein_similarity
