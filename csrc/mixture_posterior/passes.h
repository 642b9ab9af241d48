// mixture_posterior and its derivative for a block of rows, for one instruction set.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/softmax.h"
#include "math.h"

namespace dcaccel::mixture_posterior {

template <class T>
struct Forward {
  View<T> z;
  Centers<T> centers;  // sums start at -2 a
  T* log_r;

  DC_HD static int64_t scratch(int64_t k, int64_t d) {
    return kRowTile * (padded<T>(d) + padded<T>(k) + padded<T>(1) + 2);
  }
};

template <class T>
struct Backward {
  View<T> z, log_r, grad;
  Centers<T> centers;
  T* g_z;             // null when not wanted
  bool need_centers;  // any of the other three

  DC_HD static int64_t scratch(int64_t k, int64_t d) {
    return kRowTile * (2 * padded<T>(d) + 2 * padded<T>(k) + padded<T>(1) + 1);
  }
};

// Sums of a block: S_ik (z_i - m_k) and S_ik (z_i - m_k)^2, both [kp][dp], then S_ik, [kp].
struct Sums {
  double *first, *second, *zeroth;
  DC_HD static int64_t size(int64_t kp, int64_t dp) { return 2 * kp * dp + kp; }
  DC_HD Sums(double* sums, int64_t kp, int64_t dp) : first(sums), second(first + kp * dp), zeroth(second + kp * dp) {}
};

template <class T>
struct Kernels {
  void (*forward)(const Forward<T>&, int64_t first, int64_t last, T* scratch);
  void (*backward)(const Backward<T>&, int64_t first, int64_t last, T* scratch, double* sums);
};

namespace DCACCEL_ISA {

using namespace dcaccel::DCACCEL_ISA;

template <class T>
void forward(const Forward<T>& p, int64_t first, int64_t last, T* scratch) {
  const int64_t k = p.centers.k, kp = p.centers.kp();
  Cutter<T> cut{scratch};
  T *z = cut.take(kRowTile * p.centers.dp()), *tile = cut.take(kRowTile * kp);
  T *partial = cut.take(kRowTile * padded<T>(1)), *sums = cut.take(kRowTile), *largest = cut.take(kRowTile);
  for (; first < last; first += kRowTile) {
    const int64_t rows = smaller(kRowTile, last - first);
    load_tile(p.z, first, rows, p.centers.d, z);
    for_distances<T, true>(p.centers, z, rows, [&]<int V>(int64_t row, int64_t v0, Vec<T>(&values)[V]) {
      Vec<T> top;
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const Vec<T> x = score(values[v]);
        x.store(tile + row * kp + (v0 + v) * Vec<T>::size);
        top = v == 0 ? x : larger(top, x);
      }
      gather_partial(partial, row, v0 == 0, top, [](Vec<T> a, Vec<T> b) { return larger(a, b); });
    });
    largest_lane(partial, largest);
    exp_sums<T, false>(tile, k, rows, partial, sums, [&](int64_t r, Vec<T> x) { return x - Vec<T>(largest[r]); });
    for_row_values(sums, [](Vec<T> x) { return log(x); });
    store_tile(tile, rows, k, p.log_r + first * k, [&](int64_t r, Vec<T> x) {
      return (x - Vec<T>(largest[r])) - Vec<T>(sums[r]);
    });
  }
}

// S of a tile in place of g, and its sums over the rows.
template <class T>
void slopes(const Backward<T>& p, const T* log_r, T* g, int64_t rows, T* partial, T* sum_g, double* sums) {
  constexpr int lanes = Vec<T>::size;
  const int64_t kp = p.centers.kp();
  for (int64_t r = 0; r < rows; ++r) {
    Vec<T> sum;
    for (int64_t c = 0; c < kp; c += lanes) sum += Vec<T>::load(g + r * kp + c);
    sum.store(partial + r * lanes);
  }
  sum_lanes(partial, sum_g);
  for (int64_t c = 0; c < p.centers.k; c += lanes) {
    Vec<T> sum;
    for (int64_t r = 0; r < rows; ++r) {
      T* place = g + r * kp + c;
      const Vec<T> s = slope(Vec<T>::load(place), Vec<T>::load(log_r + r * kp + c), Vec<T>(sum_g[r]));
      s.store(place);
      sum += s;
    }
    if (p.need_centers) add_to(sums + c, sum);
  }
}

// C centers and a vector of features: S (z - m) e^2 away from the gradient of the rows, S (z - m) and S (z - m)^2 to
// the sums.
template <class T, bool Rows, bool Summed, int C>
DC_HD void pull(const Centers<T>& c, const T* s, const T* z, int64_t at, int64_t rows, T* g_z, const Sums& sums) {
  const int64_t kp = c.kp(), dp = c.dp();
  Vec<T> mean[C], precision[C], first[C], second[C];
#pragma GCC unroll 4
  for (int j = 0; j < C; ++j)
    mean[j] = Vec<T>::load(c.rows + at + j * dp), precision[j] = Vec<T>::load(c.scale_rows + at + j * dp);
  for (int64_t r = 0; r < rows; ++r, s += kp, z += dp, g_z += dp) {
    const Vec<T> x = Vec<T>::load(z);
    Vec<T> g;  // of these components only: added up in groups, sums over many keep their digits
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) {
      const Vec<T> difference = x - mean[j], pulled = Vec<T>(s[j]) * difference;
      if constexpr (Rows) g = fma(pulled, precision[j], g);
      if constexpr (Summed) first[j] += pulled, second[j] = fma(pulled, difference, second[j]);
    }
    if constexpr (Rows) (Vec<T>::load(g_z) + g).store(g_z);
  }
  if constexpr (Summed)
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) {
      add_to(sums.first + at + j * dp, first[j]);
      add_to(sums.second + at + j * dp, second[j]);
    }
}

template <class T, bool Rows, bool Summed>
void pull_tile(const Centers<T>& c, const T* s, const T* z, int64_t rows, T* g_z, const Sums& sums) {
  for (int64_t f = 0; f < c.d; f += Vec<T>::size)
    for_center_groups<4>(c.k, [&]<int C>(int64_t k0) {
      pull<T, Rows, Summed, C>(c, s + k0, z + f, k0 * c.dp() + f, rows, g_z + f, sums);
    });
}

template <class T>
void backward(const Backward<T>& p, int64_t first, int64_t last, T* scratch, double* block_sums) {
  const int64_t k = p.centers.k, d = p.centers.d, kp = p.centers.kp(), dp = p.centers.dp();
  const Sums sums(block_sums, kp, dp);
  Cutter<T> cut{scratch};
  T *z = cut.take(kRowTile * dp), *g_z = cut.take(kRowTile * dp), *log_r = cut.take(kRowTile * kp);
  T *g = cut.take(kRowTile * kp), *partial = cut.take(kRowTile * padded<T>(1)), *sum_g = cut.take(kRowTile);
  for (; first < last; first += kRowTile) {
    const int64_t rows = smaller(kRowTile, last - first);
    load_tile(p.z, first, rows, d, z), load_tile(p.log_r, first, rows, k, log_r);
    load_tile(p.grad, first, rows, k, g);
    slopes(p, log_r, g, rows, partial, sum_g, sums.zeroth);
    if (p.g_z) __builtin_memset(g_z, 0, kRowTile * dp * sizeof(T));
    if (p.g_z && p.need_centers) pull_tile<T, true, true>(p.centers, g, z, rows, g_z, sums);
    if (p.g_z && !p.need_centers) pull_tile<T, true, false>(p.centers, g, z, rows, g_z, sums);
    if (!p.g_z) pull_tile<T, false, true>(p.centers, g, z, rows, g_z, sums);
    if (p.g_z) store_tile(g_z, rows, d, p.g_z + first * d, [](int64_t, Vec<T> x) { return Vec<T>() - x; });
  }
}

template <class T>
Kernels<T> kernels() {
  return {forward<T>, backward<T>};
}

Kernels<float> kernels_float() { return kernels<float>(); }
Kernels<double> kernels_double() { return kernels<double>(); }

}  // namespace DCACCEL_ISA
}  // namespace dcaccel::mixture_posterior
