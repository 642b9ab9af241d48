// The rows as the passes of wasserstein_similarity read them, on the CPU and on CUDA; also the state that the forward
// leaves for the backward.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/hd.h"
#include "../common/tile.h"

namespace dcaccel::wasserstein_similarity {

// What the passes read, packed in tiles (tile.h) of `features` features: u (d of them), a (k), share (1), slope (k).
// While the loss is computed, a holds gamma, and share and slope nothing.
template <class T>
struct Rows {
  int64_t n, d, k, features;
  T* values;

  DC_HD T* u(int64_t tile) const { return values + tile * features * kTile<T>; }
  DC_HD T* a(int64_t tile) const { return u(tile) + d * kTile<T>; }      // a_i . a_j = 2 w_ij
  DC_HD T* share(int64_t tile) const { return a(tile) + k * kTile<T>; }  // r_i / Z_i
  DC_HD T* slope(int64_t tile) const { return share(tile) + kTile<T>; }  // dloss/dgamma / c
  DC_HD int64_t tiles() const { return (n + kTile<T> - 1) / kTile<T>; }
};

}  // namespace dcaccel::wasserstein_similarity
