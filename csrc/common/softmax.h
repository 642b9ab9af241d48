// The softmax of a tile of scores, in the steps the kernels over centers share.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "center_tiles.h"
#include "vec_math.h"

namespace dcaccel::DCACCEL_ISA {

// sums[r] = sum_k exp(tile[r][k] - largest[r]); the tile holds the terms afterwards if `Keep`. Behind the last center
// the tile holds -inf.
template <class T, bool Keep>
void exp_sums(T* tile, int64_t k, int64_t rows, const T* largest, T* partial, T* sums) {
  constexpr int lanes = Vec<T>::size;
  for (int64_t r = 0; r < rows; ++r, tile += padded<T>(k)) {
    const Vec<T> top(largest[r]);
    Vec<T> sum;
    for (int64_t c = 0; c < k; c += lanes) {
      const Vec<T> e = exp(Vec<T>::load(tile + c) - top);
      if constexpr (Keep) e.store(tile + c);
      sum += e;
    }
    sum.store(partial + r * lanes);
  }
  sum_lanes(partial, sums);
}

// x[r] = f(x[r]) for the rows of a tile.
template <class T, class F>
DC_HD void for_row_values(T* x, const F& f) {
  for (int64_t r = 0; r < kRowTile; r += Vec<T>::size) f(Vec<T>::load(x + r)).store(x + r);
}

}  // namespace dcaccel::DCACCEL_ISA
