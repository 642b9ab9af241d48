// The rows as the passes of wasserstein_similarity read them, on the CPU and on CUDA; also the state that the forward
// leaves for the backward.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/tile.h"

namespace dcaccel::wasserstein_similarity {

// Packed (tile.h): u (d features), a (k), share (1), slope (k). While the loss is computed, a holds gamma, and share and
// slope nothing; the passes do not read slope.
template <class T>
struct Rows : Packed<T> {
  int64_t d, k;

  DC_HD T* u(int64_t tile) const { return this->at(tile, 0); }
  DC_HD T* a(int64_t tile) const { return this->at(tile, d); }              // a_i . a_j = 2 w_ij
  DC_HD T* share(int64_t tile) const { return this->at(tile, d + k); }      // r_i / Z_i
  DC_HD T* slope(int64_t tile) const { return this->at(tile, d + k + 1); }  // dloss/dgamma / c
};

}  // namespace dcaccel::wasserstein_similarity
