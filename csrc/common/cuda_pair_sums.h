// Around the passes over pairs on CUDA (cuda_pair_tiles.h): their sums, and the rows centred before (centring.h).
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "centring.h"
#include "cuda_reduce.h"
#include "tile.h"

namespace dcaccel::cuda {

// Sums over columns, one set a split: [split][tile][1 + features][kTile]; feature 0 is the sum of the pair values.
template <class T>
struct PairSums {
  double* values;
  int64_t tiles, features, splits;

  DC_HD double* at(int64_t split, int64_t tile, int64_t feature) const {
    return values + ((split * tiles + tile) * (1 + features) + feature) * kTile<T>;
  }
  // The sum over splits for a row of a tile.
  DC_HD double total(int64_t tile, int64_t feature, int64_t lane) const {
    double sum = 0;
    for (int64_t split = 0; split < splits; ++split) sum += at(split, tile, feature)[lane];
    return sum;
  }
};

DC_DEVICE int64_t global_thread() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

inline unsigned blocks(int64_t count, int64_t threads) { return unsigned((count + threads - 1) / threads); }

// What a block of kReduceThreads finds in a feature.
template <class T>
struct Column {
  double low, high, sum = 0;
  int64_t n;

  DC_DEVICE Column(const Packed<T>& rows, int64_t f) : low(*rows.at(0, f)), high(low), n(rows.n) {
    for (int64_t i = threadIdx.x; i < n; i += kReduceThreads) {
      const double x = rows.at(i / kTile<T>, f)[i % kTile<T>];
      low = Least::of(low, x), high = Most::of(high, x), sum += x;
    }
    low = over_block<Least>(low), high = over_block<Most>(high), sum = over_block<Sum>(sum);
  }
  DC_DEVICE T shift() const { return centring_shift(T(low), T(high), sum / double(n)); }
};

// Moves features by their shifts. One thread a row, blockIdx.y is the feature.
template <class T>
static __global__ void centre_kernel(Packed<T> rows, const T* shifts) {
  const int64_t i = global_thread(), f = blockIdx.y;
  if (i >= rows.tiles() * kTile<T>) return;
  const T shift = shifts[f];
  if (shift != T(0)) rows.at(i / kTile<T>, f)[i % kTile<T>] -= shift;
}

// `to` = the rows `start`, start + 1, ... of `from`, from a tile's first lane on and with zeros behind the last. One
// thread a row, blockIdx.y is the feature.
template <class T>
static __global__ void take_rows_kernel(Packed<T> from, int64_t start, Packed<T> to) {
  const int64_t i = global_thread(), f = blockIdx.y, row = start + i;
  if (i >= to.tiles() * kTile<T>) return;
  to.at(i / kTile<T>, f)[i % kTile<T>] = i < to.n ? from.at(row / kTile<T>, f)[row % kTile<T>] : T(0);
}

}  // namespace dcaccel::cuda
