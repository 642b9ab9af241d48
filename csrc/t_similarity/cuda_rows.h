// What t_similarity does on CUDA around the passes over pairs: packing and centring, shifts from the nearest rows, the
// closed forms of rows, gradients. All O(n (d + width)); sums in double.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <initializer_list>

#include "../common/cuda_math.h"
#include "../common/cuda_pair_sums.h"
#include "cuda.h"
#include "math.h"
#include "rows.h"

namespace dcaccel::t_similarity {
namespace {

using namespace dcaccel::cuda;

// What is the same for all pairs.
template <class T>
struct Constants {
  T inverse_a, power_a, inverse_b, power_b;  // 1/a, (a+1)/2
  bool by_rows, diagonal, unit;              // unit: q~ = 1 / (1 + y) as it is (b = 1, no shift for each row)
  T* shifts;                                 // the two shared ones

  Constants(Options o, T* shared)
      : inverse_a(T(1 / o.dof_z)),
        power_a(T((o.dof_z + 1) / 2)),
        inverse_b(T(1 / o.dof_e)),
        power_b(T((o.dof_e + 1) / 2)),
        by_rows(o.by_rows),
        diagonal(o.diagonal),
        unit(o.dof_e == 1 && (o.diagonal || !o.by_rows)),
        shifts(shared) {}
  DC_HD bool shift_of_row() const { return by_rows && !diagonal; }
};

// What the passes are given: features, the first `count` numbers of every row, and the shared shifts.
template <class T>
struct Given {
  View<T> z, e, numbers = {};
  int64_t count = 0;
  T shift_z = 0, shift_e = 0;
};

// All of it in tiles, zero behind row n and where there is no number. One thread a row; blockIdx.y is the feature.
template <class T>
__global__ void pack_kernel(Given<T> given, Rows<T> rows, T* shifts) {
  const int64_t i = global_thread(), f = blockIdx.y, both = rows.d + rows.width;
  if (i < 2 && f == 0) shifts[i] = i == kShiftZ ? given.shift_z : given.shift_e;
  if (i >= rows.tiles() * kTile<T>) return;
  const View<T> from = f < rows.d ? given.z : f < both ? given.e : given.numbers;
  const int64_t column = f < rows.d ? f : f < both ? f - rows.d : f - both;
  const bool there = i < rows.n && f < both + given.count;
  rows.at(i / kTile<T>, f)[i % kTile<T>] =
      there ? from.data[i * from.row_stride + column * from.column_stride] : T(0);
}

// One block a feature.
template <class T>
__global__ void columns_kernel(Rows<T> rows, T* shifts) {
  const Column<T> column(rows, blockIdx.x);
  if (threadIdx.x == 0) shifts[blockIdx.x] = column.shift();
}

// One thread a row, blockIdx.y is kShiftZ or kShiftE: the shift from the least x or y, by the same arithmetic as the
// pair's own, so that the nearest has exactly p~ = 1. least: [split][tile][2][kTile].
template <class T>
__global__ void shifts_kernel(Rows<T> rows, Constants<T> c, const T* least, int64_t splits) {
  const int64_t i = global_thread(), tile = i / kTile<T>, lane = i % kTile<T>, which = blockIdx.y;
  if (tile >= rows.tiles()) return;
  T x = least[(tile * 2 + which) * kTile<T> + lane];
  for (int64_t split = 1; split < splits; ++split) {
    const T other = least[((split * rows.tiles() + tile) * 2 + which) * kTile<T> + lane];
    x = other < x ? other : x;
  }
  rows.of_row(tile, int(which))[lane] = Student<T>(x, which == kShiftZ ? c.power_a : c.power_b).log;
}

// One block: the largest shifts of all rows.
template <class T>
__global__ void shared_shifts_kernel(Rows<T> rows, Constants<T> c) {
  for (int which : {kShiftZ, kShiftE}) {
    double most = -__builtin_huge_val();
    for (int64_t i = threadIdx.x; i < rows.n; i += kReduceThreads)
      most = Most::of(most, rows.of_row(i / kTile<T>, which)[i % kTile<T>]);
    most = over_block<Most>(most);
    if (threadIdx.x == 0) c.shifts[which] = which == kShiftE && c.unit ? T(0) : T(most);
  }
}

// One thread a row: the sums of p~, q~ and p~ lq over splits, with the pair of the row and itself. "rows": its numbers,
// and its part of the loss in place of the sum of p~.
template <class T>
__global__ void finish_rows_kernel(Rows<T> rows, PairSums<T> sums, Constants<T> c) {
  const int64_t i = global_thread(), tile = i / kTile<T>, lane = i % kTile<T>;
  if (i >= rows.n) return;
  const double self = c.diagonal ? 1 : 0;
  const double p = sums.total(tile, 0, lane) + self, q = sums.total(tile, 1, lane) + self;
  const double cross = sums.total(tile, 2, lane), mean = cross / p;
  const auto keep = [&](int64_t feature, double value) { sums.at(0, tile, feature)[lane] = value; };
  const auto set = [&](int which, double value) { rows.of_row(tile, which)[lane] = T(value); };
  if (c.by_rows) {
    keep(0, log(q) - mean + (c.diagonal ? 0 : double(rows.of_row(tile, kShiftE)[lane])));
    set(kMean, c.diagonal ? mean / p : mean), set(kOverP, 1 / p), set(kOverQ, 1 / q);
  } else {
    keep(0, p), keep(1, q), keep(2, cross);
  }
}

// One thread a row, blockIdx.y is kShiftZ or kShiftE. out: (own rows, 2).
template <class T>
__global__ void own_shifts_kernel(Rows<T> own, T* out) {
  const int64_t i = global_thread(), which = blockIdx.y;
  if (i < own.n) out[i * 2 + which] = own.of_row(i / kTile<T>, int(which))[i % kTile<T>];
}

// One thread a row, blockIdx.y is one of the sums of p~, q~ and p~ lq: over splits, with the pair of the row and
// itself. out: (own rows, 3).
template <class T>
__global__ void own_sums_kernel(Rows<T> own, PairSums<T> sums, Constants<T> c, double* out) {
  const int64_t i = global_thread(), sum = blockIdx.y;
  if (i < own.n) out[i * 3 + sum] = sums.total(i / kTile<T>, sum, i % kTile<T>) + (c.diagonal && sum < 2 ? 1 : 0);
}

// One block: the loss; "global": the numbers of the rows, which are the same for all.
template <class T>
__global__ void finish_kernel(Rows<T> rows, PairSums<T> sums, Constants<T> c, T* loss) {
  double all[3];
  for (int f = 0; f < 3; ++f) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < rows.n; i += kReduceThreads) sum += sums.at(0, i / kTile<T>, f)[i % kTile<T>];
    all[f] = over_block<Sum>(sum);
  }
  const double p = all[0], q = all[1], mean = all[2] / p;
  if (threadIdx.x == 0) *loss = T(c.by_rows ? all[0] : log(q) + c.shifts[kShiftE] - mean);
  if (c.by_rows) return;
  for (int64_t i = threadIdx.x; i < rows.tiles() * kTile<T>; i += kReduceThreads) {
    const auto set = [&](int which, double value) { rows.of_row(i / kTile<T>, which)[i % kTile<T>] = T(value); };
    set(kMean, mean / p), set(kOverP, 1 / p), set(kOverQ, 1 / q);
  }
}

// One thread a number of the gradient: factor * grad * (total u - pulled) for features of u from `first` on, whose sums
// begin at `from` with the total. grad is 1 if it is null.
template <class T>
__global__ void row_gradient_kernel(Rows<T> rows, PairSums<T> sums, int64_t first, int64_t from, int64_t columns,
                                    double factor, const T* grad, T* out) {
  const int64_t at = global_thread(), i = at / columns, column = at % columns;
  if (i >= rows.n) return;
  const int64_t tile = i / kTile<T>, lane = i % kTile<T>;
  const double u = rows.at(tile, first + column)[lane];
  const double total = sums.total(tile, from, lane), pulled = sums.total(tile, from + 1 + column, lane);
  out[at] = T(factor * (grad ? double(*grad) : 1.0) * (total * u - pulled));
}

}  // namespace
}  // namespace dcaccel::t_similarity
