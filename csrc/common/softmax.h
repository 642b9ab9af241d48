// The softmax of a tile of scores, in the steps the kernels over centers share.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "center_tiles.h"
#include "exp_log.h"

namespace dcaccel::DCACCEL_ISA {

// sums[r] = sum_k exp(exponent(r, tile[r][k])); the tile holds the terms afterwards if `Keep`. Behind the last center
// the exponent has to be -inf.
template <class T, bool Keep, class Exponent>
DC_HD void exp_sums(T* tile, int64_t k, int64_t rows, T* partial, T* sums, const Exponent& exponent) {
  constexpr int lanes = Vec<T>::size;
  for (int64_t r = 0; r < rows; ++r, tile += padded<T>(k)) {
    Vec<T> sum;
    for (int64_t c = 0; c < k; c += lanes) {
      const Vec<T> e = exp(exponent(r, Vec<T>::load(tile + c)));
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
