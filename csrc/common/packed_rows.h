// Rows packed in tiles (tile.h): loops over them, packing, unpacking, centring. Host part only, compiled at level 0.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "centring.h"
#include "tensor.h"
#include "threads.h"
#include "tile.h"
#include "vec.h"

namespace dcaccel {

// body(tile) for all tiles, in parallel once there is enough to do.
template <class Body>
void for_tiles(int64_t tiles, const Body& body) {
  if (tiles >= 32) {
    parallel(tiles, [](void* p, int64_t tile) { (*static_cast<const Body*>(p))(tile); }, const_cast<Body*>(&body));
  } else {
    for (int64_t tile = 0; tile < tiles; ++tile) body(tile);
  }
}

// Blocks of the tournament: at least 32 for large N, so that 16 threads find work, and at most 8 tiles each, so that
// two blocks and their sums stay in L2. A function of N only, or results would depend on the number of threads.
inline int64_t block_tiles(int64_t tiles) { return tiles < 64 ? 1 : (tiles < 256 ? tiles / 32 : 8); }

template <class T>
constexpr int kBlock = baseline::Vec<T>::size;

// How many rows of a tile there are.
template <class T>
int64_t count_of(int64_t n, int64_t tile) {
  return std::min(n - tile * kTile<T>, kTile<T>);
}

// to[c][r] = from[r][c] for a square block, four rows of float, at any address.
template <class T>
void turn(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  baseline::Vec<T> block[kBlock<T>];
  for (int r = 0; r < kBlock<T>; ++r) std::memcpy(&block[r], from + r * from_stride, sizeof(block[r]));
  baseline::transpose(block);
  for (int r = 0; r < kBlock<T>; ++r) std::memcpy(to + r * to_stride, &block[r], sizeof(block[r]));
}

// The columns of `from` as features of a tile, zero behind row N. Blocks may overlap at the last column.
template <class T>
void pack(const Matrix<T>& from, int64_t tile, T* to) {
  const int64_t count = count_of<T>(from.rows, tile), columns = from.columns, stride = from.row_stride;
  const bool blocks = from.column_stride == 1 && columns >= kBlock<T>;
  const int64_t turned = blocks ? count / kBlock<T> * kBlock<T> : 0;
  const T* x = from.data + tile * kTile<T> * stride;
  for (int64_t lane = 0; lane < turned; lane += kBlock<T>)
    for (int64_t c = 0; c < columns; c += kBlock<T>) {
      const int64_t first = std::min(c, columns - kBlock<T>);
      turn(x + lane * stride + first, stride, to + first * kTile<T> + lane, kTile<T>);
    }
  for (int64_t c = 0; c < columns; ++c, x += from.column_stride, to += kTile<T>) {
    for (int64_t lane = turned; lane < count; ++lane) to[lane] = x[lane * stride];
    std::fill(to + count, to + kTile<T>, T(0));
  }
}

// The sum of term(lane) over a tile; eight side by side, because the compiler may not reorder one.
template <class T, class Term>
double sum_of(const Term& term) {
  double sum[8] = {};
  for (int64_t lane = 0; lane < kTile<T>; lane += 8)
    for (int64_t to = 0; to < 8; ++to) sum[to] += term(lane + to);
  return std::accumulate(sum, sum + 8, 0.0);
}

// Minimum and maximum of a feature.
template <class T>
std::pair<T, T> range(const Packed<T>& rows, int64_t feature) {
  using V = baseline::Vec<T>;
  V low(*rows.at(0, feature)), high = low;
  for (int64_t tile = 0; tile < rows.tiles(); ++tile) {
    const T *x = rows.at(tile, feature), *end = x + count_of<T>(rows.n, tile);
    for (; end - x >= V::size; x += V::size) {
      const V v = V::load(x);
      low = select(v.v < low.v, v, low), high = select(v.v > high.v, v, high);
    }
    for (; x < end; ++x) low = select(V(*x).v < low.v, V(*x), low), high = select(V(*x).v > high.v, V(*x), high);
  }
  T least[V::size], most[V::size];
  std::memcpy(least, &low, sizeof low), std::memcpy(most, &high, sizeof high);
  return {*std::min_element(least, least + V::size), *std::max_element(most, most + V::size)};
}

// Moves the first `count` features to where differences of their sums are accurate, see centring.h.
template <class T>
void centre(const Packed<T>& rows, int64_t count) {
  for (int64_t f = 0; f < count; ++f) {
    const auto [low, high] = range(rows, f);
    const bool finite = std::isfinite(low) && std::isfinite(high);
    const T near = low < 0 ? -high : low, far = low < 0 ? -low : high;
    if (finite && !(near > 0 && far <= 4 * near)) continue;  // no mean is within a factor of two of both
    double sum = 0;
    for (int64_t tile = 0; tile < rows.tiles(); ++tile) {
      const T* x = rows.at(tile, f);
      sum += sum_of<T>([&](int64_t lane) { return x[lane]; });
    }
    const T shift = centring_shift(low, high, sum / rows.n);
    if (shift == T(0)) continue;
    for (int64_t tile = 0; tile < rows.tiles(); ++tile)
      for (int64_t lane = 0; lane < kTile<T>; ++lane) rows.at(tile, f)[lane] -= shift;
  }
}

// `to` = the rows `start`, start + 1, ... of `from`, from a tile's first lane on and with zeros behind the last.
template <class T>
void take_rows(const Packed<T>& from, int64_t start, const Packed<T>& to) {
  for_tiles(to.tiles(), [&](int64_t tile) {
    for (int64_t f = 0; f < to.features; ++f)
      for (int64_t lane = 0; lane < kTile<T>; ++lane) {
        const int64_t row = start + tile * kTile<T> + lane;
        to.at(tile, f)[lane] = lane < count_of<T>(to.n, tile) ? from.at(row / kTile<T>, f)[row % kTile<T>] : T(0);
      }
  });
}

// The columns of a tile of `out`; fill(column, to) gives one in kTile<T> numbers. Blocks may overlap as in pack.
template <class T, class Fill>
void unpack(int64_t tile, int64_t n, int64_t columns, T* out, const Fill& fill) {
  const int64_t count = count_of<T>(n, tile), width = std::min<int64_t>(columns, kBlock<T>);
  const int64_t turned = width == kBlock<T> ? count / kBlock<T> * kBlock<T> : 0;
  out += tile * kTile<T> * columns;
  for (int64_t c = 0; c < columns; c += width) {
    const int64_t first = std::min(c, columns - width);
    alignas(64) T block[kBlock<T>][kTile<T>];
    for (int64_t i = 0; i < width; ++i) fill(first + i, block[i]);
    for (int64_t lane = 0; lane < turned; lane += kBlock<T>)
      turn(block[0] + lane, kTile<T>, out + lane * columns + first, columns);
    for (int64_t lane = turned; lane < count; ++lane)
      for (int64_t i = 0; i < width; ++i) out[lane * columns + first + i] = block[i][lane];
  }
}

}  // namespace dcaccel
