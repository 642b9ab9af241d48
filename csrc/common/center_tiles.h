// The engine of the kernels over all (row, center) pairs: tiles of rows in and out, squared distances of a register
// block, and sums across lanes. Lanes are centers here; in gradients they are features.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "center_tables.h"
#include "vec.h"

namespace dcaccel::DCACCEL_ISA {

// The first `count` lanes of x to p, which need not be aligned.
template <class T>
DC_HD void store_some(T* p, Vec<T> x, int64_t count) {
#if DCACCEL_LEVEL == 2
  if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), __m512(x.v));
  } else {
    _mm512_mask_storeu_pd(p, __mmask8((1u << count) - 1), __m512d(x.v));
  }
#else
  alignas(DCACCEL_VECTOR_BYTES) T lanes[Vec<T>::size];
  x.store(lanes);
  for (int64_t i = 0; i < count; ++i) p[i] = lanes[i];
#endif
}

template <class T>
DC_HD void store_any(T* p, Vec<T> x) {
  __builtin_memcpy(p, &x.v, sizeof x.v);
}

// `count` numbers from p, zeros behind them.
template <class T>
DC_HD Vec<T> load_some(const T* p, int64_t count) {
#if DCACCEL_LEVEL == 2
  if constexpr (sizeof(T) == 4) {
    return Vec<T>::of(typename Vec<T>::raw(_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), p)));
  } else {
    return Vec<T>::of(typename Vec<T>::raw(_mm512_maskz_loadu_pd(__mmask8((1u << count) - 1), p)));
  }
#else
  alignas(DCACCEL_VECTOR_BYTES) T lanes[Vec<T>::size] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = p[i];
  return Vec<T>::load(lanes);
#endif
}

template <class T>
DC_HD Vec<T> load_any(const T* p) {
  Vec<T> x;
  __builtin_memcpy(&x.v, p, sizeof x.v);
  return x;
}

template <class T>
DC_HD Vec<T> larger(Vec<T> a, Vec<T> b) {
  return select(a.v > b.v, a, b);
}

template <class T>
DC_HD Vec<T> smaller(Vec<T> a, Vec<T> b) {
  return select(a.v < b.v, a, b);
}

DC_HD constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Rows first..first+rows of a matrix as a tile of kRowTile padded rows; zeros behind the columns and the rows.
template <class T>
void load_tile(const View<T>& from, int64_t first, int64_t rows, int64_t columns, T* tile) {
  constexpr int lanes = Vec<T>::size;
  const int64_t stride = padded<T>(columns), whole = columns / lanes * lanes, rest = columns - whole;
  for (int64_t r = 0; r < rows; ++r, tile += stride) {
    const T* x = from.data + (first + r) * from.row_stride;
    if (from.column_stride == 1) {
      for (int64_t f = 0; f < whole; f += lanes) load_any(x + f).store(tile + f);
      if (rest) load_some(x + whole, rest).store(tile + whole);
      for (int64_t f = whole + (rest ? lanes : 0); f < stride; f += lanes) Vec<T>().store(tile + f);
    } else {
      for (int64_t f = 0; f < columns; ++f) tile[f] = x[f * from.column_stride];
      for (int64_t f = columns; f < stride; ++f) tile[f] = 0;
    }
  }
  for (int64_t f = 0; f < (kRowTile - rows) * stride; f += lanes) Vec<T>().store(tile + f);
}

// The rows of a tile to contiguous rows of a matrix: out[r][f] = value(r, tile[r][f]).
template <class T, class Value>
DC_HD void store_tile(const T* tile, int64_t rows, int64_t columns, T* out, const Value& value) {
  constexpr int lanes = Vec<T>::size;
  const int64_t stride = padded<T>(columns), whole = columns / lanes * lanes, rest = columns - whole;
  for (int64_t r = 0; r < rows; ++r, tile += stride, out += columns) {
    for (int64_t f = 0; f < whole; f += lanes) store_any(out + f, value(r, Vec<T>::load(tile + f)));
    if (rest) store_some(out + whole, value(r, Vec<T>::load(tile + whole)), rest);
  }
}

// acc[r][v] += sum_f ((z_f - c_f) scale_f)^2 over `count` features, for R rows x V vectors of centers. Differences cost
// an addition more than |z|^2 + |c|^2 - 2 z c but keep their digits far from the origin.
template <class T, bool Scaled, int R, int V>
DC_HD void add_squares(const T* x, int64_t dp, const T* column, const T* scale, int64_t kp, int64_t count,
                       Vec<T> (&acc)[R][V]) {
  for (int64_t f = 0; f < count; ++f, column += kp, scale += Scaled ? kp : 0) {
    Vec<T> center[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) center[v] = Vec<T>::load(column + v * Vec<T>::size);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<T> value(x[r * dp + f]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        Vec<T> difference = value - center[v];
        if constexpr (Scaled) difference = difference * Vec<T>::load(scale + v * Vec<T>::size);
        acc[r][v] = fma(difference, difference, acc[r][v]);
      }
    }
  }
}

// Features summed in one go; more would be less accurate than PyTorch, which adds in pairs.
constexpr int64_t kFeatureRun = 16;

// use(row, v0, values) with values[v] = start + the sum of squares over all features.
template <class T, bool Scaled, int R, int V, class Use>
DC_HD void distance_block(const Centers<T>& c, const T* z, int64_t row, int64_t v0, const Use& use) {
  const int64_t kp = c.kp(), dp = c.dp(), at = v0 * Vec<T>::size;
  const T *x = z + row * dp, *column = c.columns + at, *scale = Scaled ? c.scale_columns + at : nullptr;
  Vec<T> acc[R][V];
  add_squares<T, Scaled>(x, dp, column, scale, kp, smaller(c.d, kFeatureRun), acc);
  for (int64_t f = kFeatureRun; f < c.d; f += kFeatureRun) {
    Vec<T> more[R][V];
    add_squares<T, Scaled>(x + f, dp, column + f * kp, scale + (Scaled ? f * kp : 0), kp, smaller(c.d - f, kFeatureRun),
                           more);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] += more[r][v];
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v] += Vec<T>::load(c.start + at + v * Vec<T>::size);
    use.template operator()<V>(row + r, v0, acc[r]);
  }
}

// Rows of a register block for V vectors of centers: four independent sums at least, registers to spare at most.
template <int V>
constexpr int kBlockRows = V == 1 ? 8 : (DCACCEL_LEVEL == 2 ? 4 : 2);

template <class T, bool Scaled, int V, class Use>
void distance_rows(const Centers<T>& c, const T* z, int64_t rows, int64_t v0, const Use& use) {
  for (int64_t row = 0; row < rows; row += kBlockRows<V>)
    distance_block<T, Scaled, kBlockRows<V>, V>(c, z, row, v0, use);
}

// use(row, v0, values) for every row of a tile and all centers, centers in ascending order for each row.
template <class T, bool Scaled, class Use>
DC_HD void for_distances(const Centers<T>& c, const T* z, int64_t rows, const Use& use) {
  const int64_t vecs = (c.k + Vec<T>::size - 1) / Vec<T>::size;
  int64_t v0 = 0;
  for (; v0 + 4 <= vecs; v0 += 4) distance_rows<T, Scaled, 4>(c, z, rows, v0, use);
  if (vecs - v0 == 3) distance_rows<T, Scaled, 3>(c, z, rows, v0, use);
  if (vecs - v0 == 2) distance_rows<T, Scaled, 2>(c, z, rows, v0, use);
  if (vecs - v0 == 1) distance_rows<T, Scaled, 1>(c, z, rows, v0, use);
}

// out[r] = the combination of all lanes of partial[r], for the rows of a tile.
template <class T, class Combine>
DC_HD void across_lanes(const T* partial, T* out, const Combine& combine) {
  constexpr int lanes = Vec<T>::size;
  for (int64_t first = 0; first < kRowTile; first += lanes) {
    Vec<T> block[lanes];
#pragma GCC unroll 16
    for (int r = 0; r < lanes; ++r) block[r] = Vec<T>::load(partial + (first + r) * lanes);
    transpose(block);
#pragma GCC unroll 4
    for (int step = lanes / 2; step > 0; step /= 2)
#pragma GCC unroll 8
      for (int r = 0; r < step; ++r) block[r] = combine(block[r], block[r + step]);
    block[0].store(out + first);
  }
}

template <class T>
void sum_lanes(const T* partial, T* out) {
  across_lanes(partial, out, [](Vec<T> a, Vec<T> b) { return a + b; });
}

template <class T>
void largest_lane(const T* partial, T* out) {
  across_lanes(partial, out, [](Vec<T> a, Vec<T> b) { return larger(a, b); });
}

template <class T>
void smallest_lane(const T* partial, T* out) {
  across_lanes(partial, out, [](Vec<T> a, Vec<T> b) { return smaller(a, b); });
}

// partial[row] takes in one more vector, or begins with it.
template <class T, class Combine>
DC_HD void gather_partial(T* partial, int64_t row, bool begins, Vec<T> value, const Combine& combine) {
  T* place = partial + row * Vec<T>::size;
  (begins ? value : combine(Vec<T>::load(place), value)).store(place);
}

// group(k0) for groups of 8, 4, 2 and 1 centers as template arguments, where registers allow.
template <int Most, class Group>
DC_HD void for_center_groups(int64_t k, const Group& group) {
  int64_t k0 = 0;
  if constexpr (Most >= 8)
    for (; k0 + 8 <= k; k0 += 8) group.template operator()<8>(k0);
  for (; k0 + 4 <= k; k0 += 4) group.template operator()<4>(k0);
  if (k - k0 >= 2) group.template operator()<2>(k0), k0 += 2;
  if (k - k0 == 1) group.template operator()<1>(k0);
}

}  // namespace dcaccel::DCACCEL_ISA
