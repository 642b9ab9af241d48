// The passes of t_similarity over pairs of rows on CUDA; cuda.cu launches them.
//
// A block owns a tile of rows and gathers over the columns, as in wasserstein_similarity/cuda.cu. Pairs i = j are left
// out and known exactly. A block of the pull pass contracts with features of z or of e, never both, and so computes one
// of S^z and S^e; more features than a chunk take several blocks, each of which computes the distances anew.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/cuda_pair_tiles.h"
#include "cuda_rows.h"

namespace dcaccel::t_similarity {
namespace {

// What all passes have in common: the place of a block, and x and y of its pairs.
template <class T>
struct Pass {
  Rows<T> rows, own;
  int64_t start;
  Constants<T> c;
  int tile, begin, end;  // tiles are counted in 32 bits, rows in 64
  Block<T> x, y;

  DC_DEVICE Pass(const Rows<T>& rows_, const Rows<T>& own_, int64_t start_, const Constants<T>& c_)
      : rows(rows_),
        own(own_),
        start(start_),
        c(c_),
        tile(int(blockIdx.x)),
        begin(int(rows_.tiles() * blockIdx.y / gridDim.y)),
        end(int(rows_.tiles() * (blockIdx.y + 1) / gridDim.y)) {}
  DC_DEVICE const T* paired_rows() const { return own.z(tile); }
  DC_DEVICE const T* paired_columns(int64_t j) const { return rows.z(j); }
  DC_DEVICE void clear() { fill(x, T(0)), fill(y, T(0)); }
  DC_DEVICE void pair(const T* row, const T* column, int from, int to) {  // z and e lie one behind the other
    const int border = int(rows.d), middle = to < border ? to : (from > border ? from : border);
    add_part(row, column, middle - from, x);
    add_part(row + (middle - from) * kTile<T>, column + (middle - from) * kTile<T>, to - middle, y);
  }
  DC_DEVICE bool flushes(int j) const { return (j - begin) % kFlushTiles == kFlushTiles - 1 || j + 1 == end; }

 private:
  // A power of 50 makes of every error of x a fifty times larger one of p~, so a sum is put aside after every part.
  static DC_DEVICE void add_part(const T* row, const T* column, int features, Block<T>& to) {
    if (features <= 0) return;
    Block<T> part;
    fill(part, T(0));
    add_squared_distances(row, column, features, part);
    each([&](int r, int k) { to[r][k] += part[r][k]; });
  }

 protected:
  template <class Body>
  static DC_DEVICE void each(const Body& body) {
#pragma unroll
    for (int r = 0; r < kRows<T>; ++r)
#pragma unroll
      for (int k = 0; k < kColumns<T>; ++k) body(r, k);
  }
  DC_DEVICE Student<T> student_z(int r, int k) const {
    return Student<T>(x[r][k] * c.inverse_a, c.power_a);
  }
  DC_DEVICE Student<T> student_e(int r, int k) const {
    return Student<T>(y[r][k] * c.inverse_b, c.power_b);
  }
  // Moves the pairs of column tile j that do not count, those behind the last row and a row with itself, so far apart that
  // what they add is lost in the rounding of a sum, which is one at least, and their S is zero.
  DC_DEVICE void part_others(int j) {
    const Counts<T> counts(rows.n, start, tile, j);
    if (counts.all()) return;
    each([&](int r, int k) {
      if (!counts(r, k)) x[r][k] = y[r][k] = sizeof(T) == 4 ? T(1e38) : T(1e300);
    });
  }
};

// The least x and y of every row.
template <class T>
struct NearestPass : Pass<T> {
  T least[2][kRows<T>];

  DC_DEVICE NearestPass(const Rows<T>& rows, const Rows<T>& own, int64_t start, const Constants<T>& c)
      : Pass<T>(rows, own, start, c) {
    for (int r = 0; r < kRows<T>; ++r) least[0][r] = least[1][r] = T(__builtin_huge_val());
  }
  DC_DEVICE void fetch_columns(int64_t, T*) const {}
  DC_DEVICE void finish(int j, const T*) {
    this->part_others(j);
    this->each([&](int r, int k) {
      const T x = this->x[r][k] * this->c.inverse_a, y = this->y[r][k] * this->c.inverse_b;
      least[0][r] = x < least[0][r] ? x : least[0][r];
      least[1][r] = y < least[1][r] ? y : least[1][r];
    });
  }
  // [split][tile][2][kTile]
  DC_DEVICE void write(T* out) {
    out += (int64_t(blockIdx.y) * this->own.tiles() + this->tile) * 2 * kTile<T>;
    for (int which = 0; which < 2; ++which)
      for (int r = 0; r < kRows<T>; ++r) {
        T x = least[which][r];
        for (int step = kColumnThreads / 2; step > 0; step /= 2) {
          const T other = __shfl_xor_sync(kAllLanes, x, step);
          x = other < x ? other : x;
        }
        if (int(threadIdx.x) % kColumnThreads == 0) out[which * kTile<T> + first_row<T>() + r] = x;
      }
  }
};

// Sums of p~, q~ and p~ lq, relative to the shifts of the row, or to those of all rows.
template <class T, bool Unit>
struct LossPass : Pass<T> {
  PairSums<T> out;
  T shift_z[kRows<T>], shift_e[kRows<T>];
  ColumnSums<T, 2> sums;
  bool first = true;

  DC_DEVICE LossPass(const Rows<T>& rows, const Rows<T>& own, int64_t start, const Constants<T>& c,
                     const PairSums<T>& out_)
      : Pass<T>(rows, own, start, c), out(out_) {
    sums.clear();
#pragma unroll
    for (int r = 0; r < kRows<T>; ++r) {
      const int at = first_row<T>() + r;
      shift_z[r] = c.shift_of_row() ? own.of_row(this->tile, kShiftZ)[at] : c.shifts[kShiftZ];
      shift_e[r] = c.shift_of_row() ? own.of_row(this->tile, kShiftE)[at] : c.shifts[kShiftE];
    }
  }
  DC_DEVICE void fetch_columns(int64_t, T*) const {}
  DC_DEVICE void finish(int j, const T*) {
    this->part_others(j);
    this->each([&](int r, int k) {
      const Student<T> z = this->student_z(r, k), e = this->student_e(r, k);
      const T p = exp_negative(z.log - shift_z[r]);
      sums.values[0][r] += p, sums.values[1][r] += Unit ? e.inverse : exp_negative(e.log - shift_e[r]);
      sums.values[2][r] = fma(p, e.log, sums.values[2][r]);
    });
    if (!this->flushes(j)) return;
    sums.flush(out.at(blockIdx.y, this->tile, 0), 0, 3, first);
    first = false;
  }
};

// What the blocks of the pull pass contract with: chunks of the features of z, if wanted, then of e.
struct Sides {
  int64_t d, width;  // 0 if not wanted

  DC_HD int64_t features() const { return (d ? 1 + d : 0) + (width ? 1 + width : 0); }
  DC_HD int64_t first_of_e() const { return d ? 1 + d : 0; }
};

// Sums of S and of S u.
template <class T, int F, bool ByRows>
struct PullPass : Pass<T> {
  PairSums<T> out;
  Sides sides;
  ColumnSums<T, F> sums;
  bool first = true;

  DC_DEVICE PullPass(const Rows<T>& rows, const Rows<T>& own, int64_t start, const Constants<T>& c,
                     const PairSums<T>& out_, Sides sides_)
      : Pass<T>(rows, own, start, c), out(out_), sides(sides_) {
    sums.clear();
  }
  // The chunk: of which side, its first feature there, and how many. Computed when they are needed: registers are scarce.
  DC_DEVICE int chunks_of_z() const { return int((sides.d + F - 1) / F); }
  DC_DEVICE bool of_e() const { return int(blockIdx.z) >= chunks_of_z(); }
  DC_DEVICE int from() const { return (int(blockIdx.z) - (of_e() ? chunks_of_z() : 0)) * F; }
  DC_DEVICE int count() const {
    const int left = int(of_e() ? sides.width : sides.d) - from();
    return left < F ? left : F;
  }
  DC_DEVICE void fetch_columns(int64_t j, T* to) const {
    fetch(this->rows.of_row(j, 0), kOfRow, to);
    fetch(this->rows.at(j, from() + (of_e() ? this->rows.d : 0)), count(), to + kOfRow * kTile<T>);
  }

  // x = value(r, k, and two numbers of the row and of the column: one of the row, of the column, the other ...).
  // `columns` are the numbers of the column's rows.
  template <class Value>
  DC_DEVICE void replace(const T* columns, int one, int other, const Value& value) {
    T row[2][kRows<T>], column[2][kColumns<T>];
    load_rows(this->own.of_row(this->tile, one), row[0]), load_rows(this->own.of_row(this->tile, other), row[1]);
    load_columns(columns + one * kTile<T>, column[0]), load_columns(columns + other * kTile<T>, column[1]);
    this->each([&](int r, int k) { this->x[r][k] = value(r, k, row[0][r], column[0][k], row[1][r], column[1][k]); });
  }

  // S^z in place of x.
  DC_DEVICE void pull_of_z(const T* columns) {
    if constexpr (ByRows) {
      T shift[kRows<T>], shift_j[kColumns<T>];
      load_rows(this->own.of_row(this->tile, kShiftZ), shift), load_columns(columns + kShiftZ * kTile<T>, shift_j);
      replace(columns, kMean, kOverP, [&](int r, int k, T mean, T mean_j, T over, T over_j) {
        const Student<T> z = this->student_z(r, k), e = this->student_e(r, k);
        const T p_i = exp_negative(z.log - shift[r]) * over, p_j = exp_negative(z.log - shift_j[k]) * over_j;
        return pull_z_of_rows(z.inverse, p_i, p_j, e.log, mean, mean_j);
      });
    } else {
      const T shift = this->c.shifts[kShiftZ];
      replace(columns, kMean, kOverP, [&](int r, int k, T mean, T mean_j, T over, T over_j) {
        const Student<T> z = this->student_z(r, k), e = this->student_e(r, k);
        return pull_z(z.inverse, exp_negative(z.log - shift), e.log, over + over_j, mean + mean_j);
      });
    }
  }

  // S^e in place of x.
  template <bool Unit>
  DC_DEVICE void pull_of_e(const T* columns) {
    if constexpr (ByRows) {  // one half after the other, so that fewer numbers are in registers
      replace(columns, kShiftZ, kOverP, [&](int r, int k, T shift, T shift_j, T over, T over_j) {
        const T lp = this->student_z(r, k).log;
        return exp_negative(lp - shift) * over + exp_negative(lp - shift_j) * over_j;
      });
      replace(columns, kShiftE, kOverQ, [&](int r, int k, T shift, T shift_j, T over, T over_j) {
        const Student<T> e = this->student_e(r, k);
        const T q_i = exp_negative(e.log - shift) * over, q_j = exp_negative(e.log - shift_j) * over_j;
        return pull_e_of_rows(e.inverse, this->x[r][k], T(0), q_i, q_j);
      });
    } else {
      const T shift_z = this->c.shifts[kShiftZ], shift_e = this->c.shifts[kShiftE];
      replace(columns, kOverQ, kOverP, [&](int r, int k, T over_q, T over_q_j, T over_p, T over_p_j) {
        const T p = exp_negative(this->student_z(r, k).log - shift_z);
        const Student<T> e = this->student_e(r, k);
        const T q = Unit ? e.inverse : exp_negative(e.log - shift_e);
        return pull_e(e.inverse, p, q, over_p + over_p_j, over_q + over_q_j);
      });
    }
  }

  DC_DEVICE void finish(int j, const T* columns) {
    this->part_others(j);
    if (!of_e())
      pull_of_z(columns);
    else if (this->c.unit)
      pull_of_e<true>(columns);
    else
      pull_of_e<false>(columns);
    this->each([&](int r, int k) { sums.values[0][r] += this->x[r][k]; });
    sums.contract(this->x, columns + kOfRow * kTile<T>);
    if (!this->flushes(j)) return;
    const int64_t base = of_e() ? sides.first_of_e() : 0;
    sums.flush(out.at(blockIdx.y, this->tile, base + from()), from() > 0, 1 + count(), first);
    first = false;
  }
};

// Grid: own tiles x splits of the columns (x chunks of F features).
template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    nearest_kernel(Rows<T> rows, Rows<T> own, int64_t start, Constants<T> c, T* least) {
  DC_SHARED(Buffers<T>, buffers, [1]);
  NearestPass<T> pass(rows, own, start, c);
  sweep<T>(pass, pass.begin, pass.end, int(rows.d + rows.width), buffers[0]);
  pass.write(least);
}

template <class T, bool Unit>
__global__ void __launch_bounds__(kThreads, 3)
    loss_kernel(Rows<T> rows, Rows<T> own, int64_t start, Constants<T> c, PairSums<T> out) {
  DC_SHARED(Buffers<T>, buffers, [1]);
  LossPass<T, Unit> pass(rows, own, start, c, out);
  sweep<T>(pass, pass.begin, pass.end, int(rows.d + rows.width), buffers[0]);
}

template <class T, int F, bool ByRows>
__global__ void __launch_bounds__(kThreads, 2)
    pull_kernel(Rows<T> rows, Rows<T> own, int64_t start, Constants<T> c, PairSums<T> out, Sides sides) {
  DC_SHARED(Buffers<T>, buffers, [1]);
  PullPass<T, F, ByRows> pass(rows, own, start, c, out, sides);
  sweep<T>(pass, pass.begin, pass.end, int(rows.d + rows.width), buffers[0]);
}

}  // namespace
}  // namespace dcaccel::t_similarity
