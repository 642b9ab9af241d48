// Building blocks of kernels over all pairs of rows: distances and products of a register block of pairs, and the two
// contractions of a tile of pair values with features. All of them work on packed tiles (tile.h).
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "tile.h"
#include "vec.h"

namespace dcaccel::DCACCEL_ISA {

// Register blocks: kRows rows x kVecs vectors of pairs; kSets sets of kFeatures features x kSumVecs vectors of sums.
#if DCACCEL_LEVEL == 2
constexpr int kRows = 4, kVecs = 4, kFeatures = 5, kSumVecs = 2, kSets = 2;
#elif DCACCEL_LEVEL == 1
constexpr int kRows = 2, kVecs = 4, kFeatures = 3, kSumVecs = 2, kSets = 2;
#else
constexpr int kRows = 2, kVecs = 4, kFeatures = 2, kSumVecs = 1, kSets = 4;
#endif

template <class T>
constexpr int kTileVecs = int(kTile<T>) / Vec<T>::size;

// acc[r][v] += sum_f (x[f][r] - y[f][v])^2. The difference costs an addition more than the product form, on pipes the
// multiply-adds leave idle, and keeps full accuracy for rows that are close together and far from the origin.
template <class T, int R, int V>
DC_HD void add_squared_distances(const T* x, const T* y, int64_t features, Vec<T> (&acc)[R][V]) {
  for (int64_t f = 0; f < features; ++f, x += kTile<T>, y += kTile<T>) {
    Vec<T> column[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) column[v] = Vec<T>::load(y + v * Vec<T>::size);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<T> row(x[r]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        const Vec<T> difference = column[v] - row;
        acc[r][v] = fma(difference, difference, acc[r][v]);
      }
    }
  }
}

// acc[r][v] += sum_f x[f][r] y[f][v]
template <class T, int R, int V>
DC_HD void add_products(const T* x, const T* y, int64_t features, Vec<T> (&acc)[R][V]) {
  for (int64_t f = 0; f < features; ++f, x += kTile<T>, y += kTile<T>) {
    Vec<T> column[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) column[v] = Vec<T>::load(y + v * Vec<T>::size);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<T> row(x[r]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = fma(row, column[v], acc[r][v]);
    }
  }
}

// acc[f][v] += s[v] x[f], one row of a contraction.
template <class T, int F, int V>
DC_HD void add_outer(const T* s, const T* x, Vec<T> (&acc)[F][V]) {
  Vec<T> value[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) value[v] = Vec<T>::load(s + v * Vec<T>::size);
#pragma GCC unroll 8
  for (int f = 0; f < F; ++f) {
    const Vec<T> feature(x[f * kTile<T>]);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[f][v] = fma(feature, value[v], acc[f][v]);
  }
}

// out[f][j] += sum_i s[i][j] x[f][i] for F features and V vectors of j. Sums of a tile are in T, in kSets separate sums
// because their rounding is the largest error of a gradient in float; the rest is in double.
template <class T, int F, int V>
DC_HD void contract_block(const T* s, const T* x, int64_t rows, double* out) {
  Vec<T> acc[kSets][F][V];
  int64_t i = 0;
  for (; i + kSets <= rows; i += kSets)
#pragma GCC unroll 4
    for (int set = 0; set < kSets; ++set) add_outer<T, F, V>(s + (i + set) * kTile<T>, x + i + set, acc[set]);
  for (; i < rows; ++i) add_outer<T, F, V>(s + i * kTile<T>, x + i, acc[0]);
#pragma GCC unroll 8
  for (int f = 0; f < F; ++f)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      Vec<T> sum = acc[0][f][v] + acc[1][f][v];
      if constexpr (kSets == 4) sum += acc[2][f][v] + acc[3][f][v];
      add_to(out + f * kTile<T> + v * Vec<T>::size, sum);
    }
}

template <class T, int F>
void contract_features(const T* s, const T* x, int64_t rows, int64_t vecs, double* out) {
  constexpr int lanes = Vec<T>::size;
  int64_t v = 0;
  for (; v + kSumVecs <= vecs; v += kSumVecs) contract_block<T, F, kSumVecs>(s + v * lanes, x, rows, out + v * lanes);
  for (; v < vecs; ++v) contract_block<T, F, 1>(s + v * lanes, x, rows, out + v * lanes);
}

// out[f][j] += sum_i s[i][j] x[f][i], any number of features; `vecs` vectors of j.
template <class T>
void contract(const T* s, const T* x, int64_t features, int64_t rows, int64_t vecs, double* out) {
  for (; features >= kFeatures; features -= kFeatures) {
    contract_features<T, kFeatures>(s, x, rows, vecs, out);
    x += kFeatures * kTile<T>, out += kFeatures * kTile<T>;
  }
  if (features >= 2) {
    contract_features<T, 2>(s, x, rows, vecs, out);
    if (features == 4) contract_features<T, 2>(s, x + 2 * kTile<T>, rows, vecs, out + 2 * kTile<T>);
    x += features / 2 * 2 * kTile<T>, out += features / 2 * 2 * kTile<T>, features %= 2;
  }
  if (features) contract_features<T, 1>(s, x, rows, vecs, out);
}

// to = the transpose of the first `vecs` vectors of every row of a full tile; sums[i] += sum_j s[i][j] unless null.
// With `Mirror` only of blocks above the diagonal: `to` may be s, and the tile becomes symmetric.
template <class T, bool Mirror>
void transpose_tile(const T* s, int64_t vecs, T* to, double* sums) {
  constexpr int lanes = Vec<T>::size;
  for (int64_t bi = 0; bi < kTileVecs<T>; ++bi) {
    Vec<T> sum[4];
    for (int64_t bj = Mirror ? bi + 1 : 0; bj < vecs; ++bj) {
      Vec<T> block[lanes];
#pragma GCC unroll 16
      for (int r = 0; r < lanes; ++r) block[r] = Vec<T>::load(s + (bi * lanes + r) * kTile<T> + bj * lanes);
      transpose(block);
#pragma GCC unroll 16
      for (int r = 0; r < lanes; ++r) {
        block[r].store(to + (bj * lanes + r) * kTile<T> + bi * lanes);
        sum[r % 4] += block[r];
      }
    }
    if (sums) add_to(sums + bi * lanes, (sum[0] + sum[1]) + (sum[2] + sum[3]));
  }
}

// sums[j] += sum_i s[i][j]; not longer than 16 rows in T.
template <class T>
void add_column_sums(const T* s, int64_t rows, int64_t vecs, double* sums) {
  for (int64_t v = 0; v < vecs; ++v)
    for (int64_t begin = 0; begin < rows; begin += 16) {
      Vec<T> sum;
      for (int64_t i = begin; i < begin + 16 && i < rows; ++i) sum += Vec<T>::load(s + i * kTile<T> + v * Vec<T>::size);
      add_to(sums + v * Vec<T>::size, sum);
    }
}

// sums[i] += the sum over lanes of partial[i], for a tile of rows.
template <class T>
void add_lane_sums(const T* partial, double* sums) {
  constexpr int lanes = Vec<T>::size;
  for (int64_t b = 0; b < kTileVecs<T>; ++b) {
    Vec<T> block[lanes];
#pragma GCC unroll 16
    for (int r = 0; r < lanes; ++r) block[r] = Vec<T>::load(partial + (b * lanes + r) * lanes);
    transpose(block);
#pragma GCC unroll 4
    for (int step = lanes / 2; step > 0; step /= 2)
#pragma GCC unroll 8
      for (int r = 0; r < step; ++r) block[r] += block[r + step];
    add_to(sums + b * lanes, block[0]);
  }
}

}  // namespace dcaccel::DCACCEL_ISA
