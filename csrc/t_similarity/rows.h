// The rows as the passes of t_similarity read them, on the CPU and on CUDA; also the state that the forward leaves for
// the backward.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/tile.h"

namespace dcaccel::t_similarity {

// What the passes read, packed (tile.h): z (d features), e (width), and kOfRow numbers of a row.
template <class T>
struct Rows : Packed<T> {
  int64_t d, width;

  DC_HD T* z(int64_t tile) const { return this->at(tile, 0); }
  DC_HD T* e(int64_t tile) const { return this->at(tile, d); }
  DC_HD T* of_row(int64_t tile, int which) const { return this->at(tile, d + width + which); }
};

// The numbers of a row: its shifts M of z and of e (see Shift; the least x and y until they are known), and for the
// gradients m / P (with shifts of each row m), 1 / P, 1 / Q.
constexpr int kShiftZ = 0, kShiftE = 1, kMean = 2, kOverP = 3, kOverQ = 4, kOfRow = 5;

// Numbers of the state: Rows, with room for whole groups of 64 rows, so that Python can tell its size without knowing the
// tile, and behind them the two shared shifts.
DC_HD int64_t state_size(int64_t n, int64_t d, int64_t width) { return (n + 63) / 64 * 64 * (d + width + kOfRow) + 2; }

}  // namespace dcaccel::t_similarity
