// How rows are packed for the pair kernels; shared by the host part and by every instruction set.
//
// A matrix (N, F) becomes tiles of kTile<T> rows, each tile stored feature by feature, zero behind row N: element
// (i, f) lies at (i / tile * F + f) * tile + i % tile. Rows are then contiguous for vectors and a feature of one row is
// a broadcast load.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "hd.h"

namespace dcaccel {

// A tile of S and its transpose must stay in 32 KiB of L1 together with the features of both sides: 64 rows of float
// are 16 KiB, 32 rows of double 8 KiB.
template <class T>
constexpr int64_t kTile = sizeof(T) == 4 ? 64 : 32;

// `n` rows in tiles; feature f of a tile is kTile<T> values from at(tile, f).
template <class T>
struct Packed {
  int64_t n, features;
  T* values;

  DC_HD T* at(int64_t tile, int64_t feature) const { return values + (tile * features + feature) * kTile<T>; }
  DC_HD int64_t tiles() const { return (n + kTile<T> - 1) / kTile<T>; }
};

}  // namespace dcaccel
