// How a kernel walks over all pairs of rows: which lanes of a tile count, which groups of vectors to compute, and the
// matches of the tournament (threads.h). What is computed of a pair is the kernel's own business.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "pair_tiles.h"

namespace dcaccel {

// What a kernel file offers its host part: a match (or a sweep) of a pass, and gradient_of_tile; see below.
using PlayFn = void (*)(void* pass, int64_t a, int64_t b);
using SweepFn = void (*)(void* pass, int64_t j);
template <class T>
using GradientFn = void (*)(const T* u, const double* total, const double* pulled, double factor, T* out);

}  // namespace dcaccel

namespace dcaccel::DCACCEL_ISA {

struct Strip {
  int64_t begin, end;
};

// A tile I of rows and a tile J of columns: rows along memory rows of the buffers, columns along vectors. Either one of
// the tiles I <= J of the same set, whose pairs count for both sides (a match), or a tile of all rows against one of the
// rows that a process owns, whose pairs count for the columns only (a sweep).
template <class T>
struct TilePair {
  int64_t i, j, rows, columns, vecs;
  int64_t self;       // the column in which the tile's first row meets itself, if that is one
  bool mirrored, one_sided;

  static DC_HD TilePair match(int64_t n, int64_t i, int64_t j) {
    return {i, j, count(n, i), count(n, j), vectors(count(n, j)), (i - j) * kTile<T>, i == j, false};
  }
  // The columns are rows start, start + 1, ... of `n`, `own` of them.
  static DC_HD TilePair sweep(int64_t n, int64_t i, int64_t own, int64_t start, int64_t j) {
    return {i, j, count(n, i), count(own, j), vectors(count(own, j)), (i - j) * kTile<T> - start, false, true};
  }
  static DC_HD int64_t count(int64_t n, int64_t tile) {
    return n - tile * kTile<T> < kTile<T> ? n - tile * kTile<T> : kTile<T>;
  }
  static DC_HD int64_t vectors(int64_t lanes) { return (lanes + Vec<T>::size - 1) / Vec<T>::size; }
  bool whole() const {
    return rows == kTile<T> && columns == kTile<T> && (self >= kTile<T> || self <= -kTile<T>);
  }

  // Which lanes of the vector of columns that starts at `column` are pairs of `row` that count.
  DC_HD typename Vec<T>::mask counts(int64_t row, int64_t column) const {
    const Vec<T> number = lane_numbers<T>() + Vec<T>(T(column));
    const Vec<T> end(row < rows ? T(columns) : T(0)), own(T(row + self));
    return (number.v < end.v) & (number.v != own.v);
  }
};

// Calls values(v0, strip) for groups of vectors of columns: full groups, masked only where they must be, then the
// remainder. A tile of rows with themselves goes by strips as high as a vector is wide, each from its diagonal block
// on; what lies below that block is the mirror image of what lies above.
template <class T, class Values>
DC_HD void by_columns(const TilePair<T>& t, const Values& values) {
  if (t.whole()) {
    for (int64_t v0 = 0; v0 < t.vecs; v0 += kVecs) values.template operator()<false, kVecs>(v0, Strip{0, t.rows});
    return;
  }
  const int64_t height = t.mirrored ? Vec<T>::size : t.rows;
  for (int64_t row = 0; row < t.rows; row += height) {
    const Strip strip{row, row + height < t.rows ? row + height : t.rows};
    int64_t v0 = t.mirrored ? row / height : 0;
    for (; v0 + kVecs <= t.vecs; v0 += kVecs) values.template operator()<true, kVecs>(v0, strip);
    if (t.vecs - v0 == 3) values.template operator()<true, 3>(v0, strip);
    if (t.vecs - v0 == 2) values.template operator()<true, 2>(v0, strip);
    if (t.vecs - v0 == 1) values.template operator()<true, 1>(v0, strip);
  }
}

// Column sums stay in T for this many rows only: their rounding is a good part of the error of a gradient.
constexpr int64_t kStrip = 16;

template <class T, int V>
DC_HD void flush(Vec<T> (&sums)[V], double* out) {
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) add_to(out + v * Vec<T>::size, sums[v]), sums[v] = Vec<T>();
}

// A feature of a tile of a gradient: factor (total u - pulled).
template <class T>
void gradient_of_tile(const T* u, const double* total, const double* pulled, double factor, T* out) {
  for (int64_t lane = 0; lane < kTile<T>; ++lane) out[lane] = T(factor * (total[lane] * u[lane] - pulled[lane]));
}

// The matches of blocks a <= b of `block_tiles` tiles, as a tournament calls them. A pass has `rows`, `own` (the columns; in
// a tournament the same), and for a sweep `start`.
template <class Pass, class T, void (*Tile)(const Pass&, const TilePair<T>&)>
void play(void* pass, int64_t a, int64_t b) {
  const Pass& p = *static_cast<const Pass*>(pass);
  const int64_t tiles = p.rows.tiles();
  for (int64_t i = a * p.block_tiles; i < (a + 1) * p.block_tiles && i < tiles; ++i)
    for (int64_t j = a == b ? i : b * p.block_tiles; j < (b + 1) * p.block_tiles && j < tiles; ++j)
      Tile(p, TilePair<T>::match(p.rows.n, i, j));
}

// All rows against tile j of the rows that are owned.
template <class Pass, class T, void (*Tile)(const Pass&, const TilePair<T>&)>
void sweep(void* pass, int64_t j) {
  const Pass& p = *static_cast<const Pass*>(pass);
  for (int64_t i = 0; i < p.rows.tiles(); ++i) Tile(p, TilePair<T>::sweep(p.rows.n, i, p.own.n, p.start, j));
}

}  // namespace dcaccel::DCACCEL_ISA
