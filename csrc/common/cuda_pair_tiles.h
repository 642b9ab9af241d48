// Building blocks of CUDA kernels over all pairs of rows, on rows packed in tiles (tile.h).
//
// A block of 128 threads owns one tile of rows and sweeps a range of column tiles; a thread holds a register block of
// pairs, two 16-byte vectors of columns by one of rows. The columns are all rows; the row tiles are those of the rows
// whose sums are wanted, `own`: all of them, or the ones from `start` on that a process owns, in tiles of their own.
// Column tiles are streamed through two buffers in shared memory by cp.async. A tile comes in parts: first the features
// that rows and columns are paired on, `kChunk` at a time at most, so that any number of features fits; then those that
// the pair values are contracted with. Sums over columns stay in registers for `kFlushTiles` tiles and go from there
// into sums in double, which the block alone writes: no atomics, and an order of summation that depends on the sizes
// only.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "cuda_compat.h"
#include "hd.h"
#include "tile.h"

namespace dcaccel::cuda {

constexpr int kThreads = 128, kColumnThreads = 8;  // threads of a block; those side by side along the columns
constexpr int kChunk = 20;      // paired features of a part: latent 10, means and deviations, at once
constexpr int kParts = 2;       // buffers
constexpr int kFlushTiles = 8;  // a thread sums 64 columns in float before it changes to double
constexpr int kMaxSplits = 16, kWantedBlocks = 2048;

// Blocks that share a multiprocessor when every thread holds the sums of `features` features in registers.
constexpr int blocks_for(int features) { return features > 10 ? 2 : (features > 4 ? 3 : 4); }

template <class T>
constexpr int kVector = 16 / sizeof(T);
template <class T>
constexpr int kRows = kVector<T>;  // register block: 4 x 8 pairs of float, 2 x 4 of double
template <class T>
constexpr int kColumns = 2 * kVector<T>;
static_assert(kTile<float> == 16 * kVector<float> && kTile<double> == 16 * kVector<double>);

template <class T>
using Block = T[kRows<T>][kColumns<T>];

// Two buffers in shared memory; each holds one part: x and y of kChunk features, or columns of more.
template <class T>
using Buffers = T[kParts][2 * kChunk * kTile<T>];

// The parts that the columns are split into for more blocks than there are own tiles; a function of sizes alone. Each
// has its own sums: at most 2048 tiles of them, or one set.
inline int64_t column_splits(int64_t own_tiles, int64_t tiles) {
  const int64_t wanted = (kWantedBlocks + own_tiles - 1) / own_tiles, most = tiles < kMaxSplits ? tiles : kMaxSplits;
  return wanted < most ? wanted : most;
}

// Where this thread's pairs lie in a tile.
template <class T>
DC_DEVICE int first_row() {
  return int(threadIdx.x) / kColumnThreads * kRows<T>;
}
template <class T>
DC_DEVICE int first_column() {
  return int(threadIdx.x) % kColumnThreads * kVector<T>;
}
template <class T>
DC_DEVICE int column_of(int c) {  // the two vectors are half a tile apart, so that a load has no bank conflicts
  return c / kVector<T> * (kTile<T> / 2) + first_column<T>() + c % kVector<T>;
}

// Which pairs of a tile count: columns that exist, and not a row with itself.
template <class T>
struct Counts {
  int columns, itself;  // the first column that does not exist; the one where row 0 meets itself, kTile<T> for none

  // Of own tile i, whose row 0 is row start + i kTile<T>, with column tile j of n rows.
  DC_DEVICE Counts(int64_t n, int64_t start, int64_t i, int64_t j) {
    const int64_t left = n - j * kTile<T>, offset = start + (i - j) * kTile<T>;
    columns = int(left < kTile<T> ? left : kTile<T>);
    itself = int(offset > -kTile<T> && offset < kTile<T> ? offset : kTile<T>);
  }
  DC_DEVICE bool all() const { return columns == kTile<T> && itself == kTile<T>; }
  DC_DEVICE bool operator()(int r, int c) const {
    return column_of<T>(c) < columns && column_of<T>(c) != first_row<T>() + r + itself;
  }
};

template <class T>
DC_DEVICE void load_rows(const T* feature, T (&to)[kRows<T>]) {
  load16(feature + first_row<T>(), to);
}
template <class T>
DC_DEVICE void load_columns(const T* feature, T (&to)[kColumns<T>]) {
  load16(feature + first_column<T>(), to);
  load16(feature + kTile<T> / 2 + first_column<T>(), to + kVector<T>);
}

template <class T>
DC_DEVICE void fill(Block<T>& block, T value) {
#pragma unroll
  for (int r = 0; r < kRows<T>; ++r)
#pragma unroll
    for (int c = 0; c < kColumns<T>; ++c) block[r][c] = value;
}

// acc[r][c] += sum_f (x[f][r] - y[f][c])^2. See pair_tiles.h for why not the product form.
template <class T>
DC_DEVICE void add_squared_distances(const T* x, const T* y, int features, Block<T>& acc) {
#pragma unroll 2
  for (int f = 0; f < features; ++f, x += kTile<T>, y += kTile<T>) {
    T row[kRows<T>], column[kColumns<T>];
    load_rows(x, row), load_columns(y, column);
#pragma unroll
    for (int r = 0; r < kRows<T>; ++r)
#pragma unroll
      for (int c = 0; c < kColumns<T>; ++c) {
        const T difference = row[r] - column[c];
        acc[r][c] = fma(difference, difference, acc[r][c]);
      }
  }
}

// acc[r][c] += sum_f x[f][r] y[f][c]
template <class T>
DC_DEVICE void add_products(const T* x, const T* y, int features, Block<T>& acc) {
#pragma unroll 2
  for (int f = 0; f < features; ++f, x += kTile<T>, y += kTile<T>) {
    T row[kRows<T>], column[kColumns<T>];
    load_rows(x, row), load_columns(y, column);
#pragma unroll
    for (int r = 0; r < kRows<T>; ++r)
#pragma unroll
      for (int c = 0; c < kColumns<T>; ++c) acc[r][c] = fma(row[r], column[c], acc[r][c]);
  }
}

// Sums over columns: [0] of the pair values a kernel chooses, [1 + f] of pair values times feature f of the column.
template <class T, int F>
struct ColumnSums {
  T values[1 + F][kRows<T>];

  DC_DEVICE void clear() {
#pragma unroll
    for (int f = 0; f <= F; ++f)
#pragma unroll
      for (int r = 0; r < kRows<T>; ++r) values[f][r] = T(0);
  }

  // values[1 + f][r] += sum_c s[r][c] y[f][c]. Always F features: what lies behind the ones that are wanted is not
  // used.
  DC_DEVICE void contract(const Block<T>& s, const T* y) {
#pragma unroll
    for (int f = 0; f < F; ++f) {
      T column[kColumns<T>];
      load_columns(y + f * kTile<T>, column);
#pragma unroll
      for (int r = 0; r < kRows<T>; ++r)
#pragma unroll
        for (int c = 0; c < kColumns<T>; ++c) values[1 + f][r] = fma(s[r][c], column[c], values[1 + f][r]);
    }
  }

  // Adds the sums [from, to) over all threads of a row to `out` ([f][row], double), or writes them, and starts again
  // from zero. Eight sums go at a time: in every step the eight threads exchange the half that the other one keeps.
  DC_DEVICE void flush(double* out, int from, int to, bool first) {
    const int own = int(threadIdx.x) % kColumnThreads;
    out += first_row<T>();
#pragma unroll
    for (int group = 0; group < (1 + F) * kRows<T>; group += kColumnThreads) {
      T sums[kColumnThreads];
#pragma unroll
      for (int i = 0; i < kColumnThreads; ++i) {
        const int at = group + i;
        sums[i] = at < (1 + F) * kRows<T> ? values[at / kRows<T>][at % kRows<T>] : T(0);
      }
#pragma unroll
      for (int step = kColumnThreads / 2; step > 0; step /= 2) {
        const bool upper = own & step;
#pragma unroll
        for (int i = 0; i < step; ++i) {
          const T keep = upper ? sums[i + step] : sums[i], give = upper ? sums[i] : sums[i + step];
          sums[i] = keep + __shfl_xor_sync(kAllLanes, give, step);
        }
      }
      const int f = (group + own) / kRows<T>, r = (group + own) % kRows<T>;
      if (f >= from && f < to) {
        double& total = out[f * kTile<T> + r];
        total = first ? double(sums[0]) : total + double(sums[0]);
      }
    }
    clear();
  }
};

// Starts copying `count` features of a tile, which lie one behind the other, into shared memory.
template <class T>
DC_DEVICE void fetch(const T* from, int count, T* to) {
  const int own = int(threadIdx.x) * kVector<T>;
  from += own, to += own;
#pragma unroll 1  // two or three rounds; unrolled, their addresses cost more than they save
  for (int left = count * int(kTile<T>) - own; left > 0; left -= kThreads * kVector<T>) {
    __pipeline_memcpy_async(to, from, 16);
    from += kThreads * kVector<T>, to += kThreads * kVector<T>;
  }
}

// Calls, for every column tile j of [begin, end), body.clear(), then body.pair(x, y, from, to) for parts of the
// `paired` features, then body.finish(j, columns). x, y and columns are in shared memory: features of the row tile,
// features of the column tile, and what body.fetch_columns(j, to) put there. body.paired_rows() and
// body.paired_columns(j) are where the paired features lie.
template <class T, class Body>
DC_DEVICE void sweep(Body& body, int begin, int end, int paired, Buffers<T>& buffers) {
  const int chunks = (paired + kChunk - 1) / kChunk, chunk = (paired + chunks - 1) / chunks;
  const auto fetch_part = [&](int j, int part, T* to) {
    if (part < chunks) {
      const int from = part * chunk, count = from + chunk < paired ? chunk : paired - from;
      if (chunks > 1 || j == begin) fetch(body.paired_rows() + int64_t(from) * kTile<T>, count, to);  // else still there
      fetch(body.paired_columns(j) + int64_t(from) * kTile<T>, count, to + kChunk * kTile<T>);
    } else {
      body.fetch_columns(j, to);
    }
  };
  int buffer = 0;
  fetch_part(begin, 0, buffers[0]);
  __pipeline_commit();
  for (int j = begin; j < end; ++j) {
    body.clear();
    for (int part = 0; part <= chunks; ++part, buffer ^= 1) {
      const bool last = part == chunks;
      __pipeline_wait_prior(0);
      __syncthreads();  // this part has arrived, and nobody reads the other buffer any more
      if (!last || j + 1 < end) fetch_part(last ? j + 1 : j, last ? 0 : part + 1, buffers[buffer ^ 1]);
      __pipeline_commit();
      const T* now = buffers[buffer];
      const int from = part * chunk;
      if (last)
        body.finish(j, now);
      else
        body.pair(now, now + kChunk * kTile<T>, from, from + chunk < paired ? from + chunk : paired);
    }
  }
}

}  // namespace dcaccel::cuda
