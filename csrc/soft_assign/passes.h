// soft_assign and its derivative for a block of rows, for one instruction set.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/softmax.h"
#include "math.h"

namespace dcaccel::soft_assign {

template <class T>
struct Forward {
  View<T> z;
  Centers<T> centers;  // sums start at 1 for one degree of freedom, at 0 otherwise
  T dof;
  T* q;

  DC_HD static int64_t scratch(int64_t k, int64_t d) {
    return kRowTile * (padded<T>(d) + padded<T>(k) + padded<T>(1) + 3);
  }
};

template <class T>
struct Backward {
  View<T> z, q, grad;
  Centers<T> centers;  // sums start at dof
  T dof;
  T* g_z;                   // null when not wanted
  bool need_centers;

  DC_HD static int64_t scratch(int64_t k, int64_t d) {
    return kRowTile * (2 * padded<T>(d) + 2 * padded<T>(k) + padded<T>(1) + 1);
  }
};

// Rows first..last; `sums` [kp][dp] takes sum_i S_ik (z_i - c_k).
template <class T>
struct Kernels {
  void (*forward)(const Forward<T>&, int64_t first, int64_t last, T* scratch);
  void (*backward)(const Backward<T>&, int64_t first, int64_t last, T* scratch, double* sums);
};

namespace DCACCEL_ISA {

using namespace dcaccel::DCACCEL_ISA;

template <class T>
void weights(const Forward<T>& p, const T* z, int64_t rows, T* tile, T* partial, T* sums) {
  const int64_t kp = p.centers.kp();
  const Vec<T> infinite{T(__builtin_inff())};
  for_distances<T, false>(p.centers, z, rows, [&]<int V>(int64_t row, int64_t v0, Vec<T>(&values)[V]) {
    Vec<T> sum;
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      // the quick reciprocal of infinity is small, not zero; rows without any weight must come out as NaN
      const Vec<T> w = select(values[v].v == infinite.v, Vec<T>(), weight(values[v]));
      w.store(tile + row * kp + (v0 + v) * Vec<T>::size);
      sum += w;
    }
    gather_partial(partial, row, v0 == 0, sum, [](Vec<T> a, Vec<T> b) { return a + b; });
  });
  sum_lanes(partial, sums);
}

template <class T>
void distances(const Forward<T>& p, const T* z, int64_t rows, T* tile, T* partial, T* nearest) {
  const int64_t kp = p.centers.kp();
  for_distances<T, false>(p.centers, z, rows, [&]<int V>(int64_t row, int64_t v0, Vec<T>(&values)[V]) {
    Vec<T> least = values[0];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      values[v].store(tile + row * kp + (v0 + v) * Vec<T>::size);
      least = smaller(values[v], least);
    }
    gather_partial(partial, row, v0 == 0, least, [](Vec<T> a, Vec<T> b) { return smaller(a, b); });
  });
  smallest_lane(partial, nearest);
}

template <class T>
void forward(const Forward<T>& p, int64_t first, int64_t last, T* scratch) {
  const int64_t k = p.centers.k, d = p.centers.d;
  Cutter<T> cut{scratch};
  T *z = cut.take(kRowTile * p.centers.dp()), *tile = cut.take(kRowTile * p.centers.kp());
  T *partial = cut.take(kRowTile * padded<T>(1)), *sums = cut.take(kRowTile), *nearest = cut.take(kRowTile);
  T* inverse = cut.take(kRowTile);
  const Vec<T> dof(p.dof), power(-(p.dof + T(1)) / T(2));
  for (; first < last; first += kRowTile) {
    const int64_t rows = smaller(kRowTile, last - first);
    load_tile(p.z, first, rows, d, z);
    if (p.dof == T(1)) {
      weights(p, z, rows, tile, partial, sums);
    } else {
      distances(p, z, rows, tile, partial, nearest);
      for (int64_t r = 0; r < kRowTile; r += Vec<T>::size)
        reciprocal(dof + Vec<T>::load(nearest + r)).store(inverse + r);
      exp_sums<T, true>(tile, k, rows, partial, sums, [&](int64_t r, Vec<T> d) {
        return score(d, Vec<T>(nearest[r]), Vec<T>(inverse[r]), power);
      });
    }
    for_row_values(sums, [](Vec<T> x) { return reciprocal(x); });
    store_tile(tile, rows, k, p.q + first * k, [&](int64_t r, Vec<T> x) { return x * Vec<T>(sums[r]); });
  }
}

// h of the rows of a tile.
template <class T>
void mean_gradients(const T* q, const T* g, int64_t kp, int64_t rows, T* partial, T* h) {
  constexpr int lanes = Vec<T>::size;
  for (int64_t r = 0; r < rows; ++r, q += kp, g += kp) {
    Vec<T> sum;
    for (int64_t c = 0; c < kp; c += lanes) sum = fma(Vec<T>::load(q + c), Vec<T>::load(g + c), sum);
    sum.store(partial + r * lanes);
  }
  sum_lanes(partial, h);
}

// C centers and a vector of features: t = S (z - c), added to the gradient of the rows and to the sums of the centers.
template <class T, bool Rows, bool Sums, int C>
DC_HD void pull(const T* s, const T* z, const T* c, int64_t kp, int64_t dp, int64_t rows, T* g_z, double* sums) {
  Vec<T> center[C], sum[C];
#pragma GCC unroll 8
  for (int j = 0; j < C; ++j) center[j] = Vec<T>::load(c + j * dp);
  for (int64_t r = 0; r < rows; ++r, s += kp, z += dp, g_z += dp) {
    const Vec<T> x = Vec<T>::load(z);
    Vec<T> g;  // of these centers only: added up in groups, sums over many centers keep their digits
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) {
      const Vec<T> difference = x - center[j], slope_j(s[j]);
      if constexpr (Rows) g = fma(slope_j, difference, g);
      if constexpr (Sums) sum[j] = fma(slope_j, difference, sum[j]);
    }
    if constexpr (Rows) (Vec<T>::load(g_z) + g).store(g_z);
  }
  if constexpr (Sums)
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) add_to(sums + j * dp, sum[j]);
}

template <class T, bool Rows, bool Sums>
void pull_tile(const Centers<T>& c, const T* s, const T* z, int64_t rows, T* g_z, double* sums) {
  const int64_t kp = c.kp(), dp = c.dp();
  for (int64_t f = 0; f < c.d; f += Vec<T>::size)
    for_center_groups<DCACCEL_LEVEL == 2 ? 8 : 4>(c.k, [&]<int C>(int64_t k0) {
      pull<T, Rows, Sums, C>(s + k0, z + f, c.rows + k0 * dp + f, kp, dp, rows, g_z + f, sums + k0 * dp + f);
    });
}

template <class T>
void backward(const Backward<T>& p, int64_t first, int64_t last, T* scratch, double* sums) {
  const int64_t k = p.centers.k, d = p.centers.d, kp = p.centers.kp(), dp = p.centers.dp();
  Cutter<T> cut{scratch};
  T *z = cut.take(kRowTile * dp), *g_z = cut.take(kRowTile * dp), *q = cut.take(kRowTile * kp);
  T *g = cut.take(kRowTile * kp), *partial = cut.take(kRowTile * padded<T>(1)), *h = cut.take(kRowTile);
  const Vec<T> factor(-(p.dof + T(1)));
  for (; first < last; first += kRowTile) {
    const int64_t rows = smaller(kRowTile, last - first);
    load_tile(p.z, first, rows, d, z), load_tile(p.q, first, rows, k, q), load_tile(p.grad, first, rows, k, g);
    mean_gradients(q, g, kp, rows, partial, h);
    for_distances<T, false>(p.centers, z, rows, [&]<int V>(int64_t row, int64_t v0, Vec<T>(&values)[V]) {
      const int64_t at = row * kp + v0 * Vec<T>::size;
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        T* place = g + at + v * Vec<T>::size;
        const Vec<T> q_v = Vec<T>::load(q + at + v * Vec<T>::size);
        slope(q_v, Vec<T>::load(place), Vec<T>(h[row]), values[v], factor).store(place);
      }
    });
    if (p.g_z) __builtin_memset(g_z, 0, kRowTile * dp * sizeof(T));
    if (p.g_z && p.need_centers) pull_tile<T, true, true>(p.centers, g, z, rows, g_z, sums);
    if (p.g_z && !p.need_centers) pull_tile<T, true, false>(p.centers, g, z, rows, g_z, sums);
    if (!p.g_z) pull_tile<T, false, true>(p.centers, g, z, rows, g_z, sums);
    if (p.g_z) store_tile(g_z, rows, d, p.g_z + first * d, [](int64_t, Vec<T> x) { return x; });
  }
}

template <class T>
Kernels<T> kernels() {
  return {forward<T>, backward<T>};
}

Kernels<float> kernels_float() { return kernels<float>(); }
Kernels<double> kernels_double() { return kernels<double>(); }

}  // namespace DCACCEL_ISA
}  // namespace dcaccel::soft_assign
