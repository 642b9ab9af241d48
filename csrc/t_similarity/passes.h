// The passes of t_similarity over pairs of rows, for one instruction set; cpu.cpp packs their inputs and finishes their
// sums. See common/pair_sweep.h for how pairs are visited; pairs i = j are left out and known exactly.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/pair_sweep.h"
#include "../common/exp_log.h"
#include "math.h"
#include "rows.h"

namespace dcaccel::t_similarity {

// How p~ and q~ are kept in range: `unit`, q~ = 1 / (1 + y) as it is (b = 1, no shift); `shared`, one shift for all pairs;
// `rows`, one for each row, so that a pair has two values.
enum class Shift { unit, shared, rows };

template <class T>
struct Pass {
  Rows<T> rows, own;  // own: all rows, or those from `start` on that a process owns; sums are packed like own
  int64_t block_tiles, start;
  double* sums;  // `features` a row
  int64_t features;
  T inverse_a, power_a, inverse_b, power_b;  // 1/a, (a+1)/2
  T shift_z = 0, shift_e = 0;
  bool pull_z = true, pull_e = true;

  DC_HD double* sum(int64_t tile, int64_t feature) const { return sums + (tile * features + feature) * kTile<T>; }
};

template <class T>
struct Kernels {
  PlayFn loss[3], pull[3];  // by Shift
  SweepFn nearest, shifts, own_loss[3], own_pull[3];
  GradientFn<T> gradient;
};

namespace DCACCEL_ISA {

using namespace dcaccel::DCACCEL_ISA;

// x (or y) of a register block of pairs. A power of 50 makes of every error of x a fifty times larger one of p~, so a sum is
// not longer than kRun features before it is put aside.
constexpr int64_t kRun = 32;

template <class T, int V>
DC_HD void distances(const T* x, const T* y, int64_t features, T inverse_dof, Vec<T> (&out)[kRows][V]) {
  for (int64_t from = 0; from < features; from += kRun) {
    Vec<T> run[kRows][V];
    add_squared_distances<T>(x + from * kTile<T>, y + from * kTile<T>, features - from < kRun ? features - from : kRun, run);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) out[r][v] = from ? out[r][v] + run[r][v] : run[r][v];
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) out[r][v] = out[r][v] * Vec<T>(inverse_dof);
}

// x[r][v] = f(x[r][v], r, v) for a register block. What is done to a pair goes by short steps over the whole block: chains of
// sixty instructions would leave no room in a processor's window for a second one beside them.
template <class T, int V, class F>
DC_HD void each(Vec<T> (&x)[kRows][V], const F& f) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) x[r][v] = f(x[r][v], r, v);
}

template <class T>
struct Pulls {
  Vec<T> z, e;
};

// The numbers of rows and columns of a group of vectors.
template <class T, Shift S>
struct OfRows {
  const Pass<T>& p;
  const T* rows;
  const T* columns;

  OfRows(const Pass<T>& pass, const TilePair<T>& t, int64_t v0)
      : p(pass), rows(pass.rows.of_row(t.i, 0)), columns(pass.own.of_row(t.j, 0) + v0 * Vec<T>::size) {}
  DC_HD Vec<T> row(int which, int64_t r) const { return Vec<T>(rows[which * kTile<T> + r]); }
  DC_HD Vec<T> column(int which, int v) const { return Vec<T>::load(columns + which * kTile<T> + v * Vec<T>::size); }
  DC_HD Vec<T> both(int which, int64_t r, int v) const { return row(which, r) + column(which, v); }

  // S^z and S^e without their constant factors; `of_z` is p~, or lp where every row has its shift.
  DC_HD Pulls<T> pull(Vec<T> inverse_x, Vec<T> of_z, Vec<T> inverse_y, Vec<T> lq, int64_t r, int v) const {
    if constexpr (S == Shift::rows) {
      const auto share = [](Vec<T> log, Vec<T> shift, Vec<T> over) { return exp(log - shift) * over; };
      const Vec<T> p_i = share(of_z, row(kShiftZ, r), row(kOverP, r));
      const Vec<T> p_j = share(of_z, column(kShiftZ, v), column(kOverP, v));
      const Vec<T> q_i = share(lq, row(kShiftE, r), row(kOverQ, r));
      const Vec<T> q_j = share(lq, column(kShiftE, v), column(kOverQ, v));
      return {pull_z_of_rows(inverse_x, p_i, p_j, lq, row(kMean, r), column(kMean, v)),
              pull_e_of_rows(inverse_y, p_i, p_j, q_i, q_j)};
    } else {
      const Vec<T> over_p = both(kOverP, r, v), q = S == Shift::unit ? inverse_y : exp(lq - Vec<T>(p.shift_e));
      return {pull_z(inverse_x, of_z, lq, over_p, both(kMean, r, v)),
              pull_e(inverse_y, of_z, q, over_p, both(kOverQ, r, v))};
    }
  }
};

// What a pair adds to the sums of one of its rows: p~, q~ and p~ lq, relative to that row's shifts.
template <class T>
struct Terms {
  Vec<T> p, q, cross;

  DC_HD Terms(Vec<T> p_, Vec<T> q_, Vec<T> lq) : p(p_), q(q_), cross(p_ * lq) {}
  DC_HD void add_to(Vec<T>* sums, int64_t stride) const {
    sums[0] += p, sums[stride] += q, sums[2 * stride] += cross;
  }
  DC_HD void keep(typename Vec<T>::mask counts) {
    p = select(counts, p, Vec<T>()), q = select(counts, q, Vec<T>()), cross = select(counts, cross, Vec<T>());
  }
};

// The terms of a tile, summed over columns into sums and over rows into row_sums, for each row a vector of partial sums.
template <class T, Shift S, bool Masked, int V>
void loss_values(const Pass<T>& p, const TilePair<T>& t, int64_t v0, Strip strip, T* row_sums) {
  constexpr int lanes = Vec<T>::size;
  const T *z = p.rows.z(t.i), *e = p.rows.e(t.i), *zc = p.own.z(t.j) + v0 * lanes, *ec = p.own.e(t.j) + v0 * lanes;
  const int64_t diagonal = t.mirrored ? strip.begin / lanes : -1;  // a block whose rows and columns are the same
  const OfRows<T, S> of(p, t, v0);
  constexpr bool own_shift = S == Shift::rows;
  Vec<T> column_sum[3][V];
  for (int64_t row = strip.begin; row < strip.end; row += kRows) {
    if (row % kStrip == 0 && row > strip.begin)
      for (int s = 0; s < 3; ++s) flush(column_sum[s], p.sum(t.j, s) + v0 * lanes);
    Vec<T> x[kRows][V], y[kRows][V], q[kRows][V];
    distances<T>(z + row, zc, p.rows.d, p.inverse_a, x);
    each(x, [&](Vec<T> d, int, int) { return Student<Vec<T>>(d, p.power_a).log; });
    if constexpr (!own_shift) each(x, [&](Vec<T> log, int, int) { return exp(log - Vec<T>(p.shift_z)); });
    distances<T>(e + row, ec, p.rows.width, p.inverse_b, y);
    each(y, [&](Vec<T> d, int r, int v) {
      const Student<Vec<T>> similar(d, p.power_b);
      q[r][v] = similar.inverse;
      return similar.log;
    });
    if constexpr (S == Shift::shared)
      each(q, [&](Vec<T>, int r, int v) { return exp(y[r][v] - Vec<T>(p.shift_e)); });
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      Vec<T> row_sum[3];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        const auto seen_from = [&](Vec<T> shift_z, Vec<T> shift_e) {
          return Terms<T>(exp(x[r][v] - shift_z), exp(y[r][v] - shift_e), y[r][v]);
        };
        Terms<T> here(x[r][v], q[r][v], y[r][v]);
        if constexpr (own_shift) here = seen_from(of.column(kShiftZ, v), of.column(kShiftE, v));
        if constexpr (Masked) here.keep(t.counts(row + r, (v0 + v) * lanes));
        here.add_to(&column_sum[0][v], V);
        if (Masked && v == 0 && v0 == diagonal) continue;
        if constexpr (own_shift) {
          here = seen_from(of.row(kShiftZ, row + r), of.row(kShiftE, row + r));
          if constexpr (Masked) here.keep(t.counts(row + r, (v0 + v) * lanes));
        }
        here.add_to(row_sum, 1);
      }
#pragma GCC unroll 3
      for (int s = 0; s < 3; ++s) {
        T* sums = row_sums + (s * kTile<T> + row + r) * lanes;
        if (v0 > 0 && v0 != diagonal) row_sum[s] += Vec<T>::load(sums);
        row_sum[s].store(sums);
      }
    }
  }
  for (int s = 0; s < 3; ++s) flush(column_sum[s], p.sum(t.j, s) + v0 * lanes);
}

template <class T, Shift S>
void loss_tile(const Pass<T>& p, const TilePair<T>& t) {
  alignas(64) T row_sums[3 * kTile<T> * Vec<T>::size];
  if (t.rows < kTile<T>) __builtin_memset(row_sums, 0, sizeof row_sums);
  by_columns<T>(t, [&]<bool Masked, int V>(int64_t v0, Strip strip) {
    loss_values<T, S, Masked, V>(p, t, v0, strip, row_sums);
  });
  for (int s = 0; s < 3 && !t.one_sided; ++s) add_lane_sums(row_sums + s * kTile<T> * Vec<T>::size, p.sum(t.i, s));
}

// The least x and y of every column's row, in place of the shifts.
template <class T, bool Masked, int V>
void least_values(const Pass<T>& p, const TilePair<T>& t, int64_t v0, Strip strip) {
  constexpr int lanes = Vec<T>::size;
  const T* from[] = {p.rows.z(t.i), p.rows.e(t.i)};
  const T* to[] = {p.own.z(t.j) + v0 * lanes, p.own.e(t.j) + v0 * lanes};
  for (int which = 0; which < 2; ++which) {
    T* const place = p.own.of_row(t.j, which) + v0 * lanes;
    for (int64_t row = strip.begin; row < strip.end; row += kRows) {
      Vec<T> x[kRows][V];
      distances<T>(from[which] + row, to[which], which ? p.rows.width : p.rows.d, which ? p.inverse_b : p.inverse_a, x);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        Vec<T> least = Vec<T>::load(place + v * lanes);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          auto nearer = x[r][v].v < least.v;
          if constexpr (Masked) nearer &= t.counts(row + r, (v0 + v) * lanes);
          least = select(nearer, x[r][v], least);
        }
        least.store(place + v * lanes);
      }
    }
  }
}

template <class T>
void least_tile(const Pass<T>& p, const TilePair<T>& t) {
  by_columns<T>(t, [&]<bool Masked, int V>(int64_t v0, Strip strip) { least_values<T, Masked, V>(p, t, v0, strip); });
}

// Shifts from the least x and y of a row: by the same arithmetic as the pair's own, so that the nearest has exactly p~ = 1.
template <class T>
void shifts_of_tile(void* pass, int64_t tile) {
  const Pass<T>& p = *static_cast<const Pass<T>*>(pass);
  for (int which : {kShiftZ, kShiftE})
    for (int64_t lane = 0; lane < kTile<T>; lane += Vec<T>::size) {
      T* const place = p.own.of_row(tile, which) + lane;
      Student<Vec<T>>(Vec<T>::load(place), which == kShiftZ ? p.power_a : p.power_b).log.store(place);
    }
}

// S^z and S^e of a tile.
template <class T, Shift S, bool Masked, int V>
void pull_values(const Pass<T>& p, const TilePair<T>& t, int64_t v0, Strip strip, T* z_tile, T* e_tile) {
  constexpr int lanes = Vec<T>::size;
  const T *z = p.rows.z(t.i), *e = p.rows.e(t.i), *zc = p.own.z(t.j) + v0 * lanes, *ec = p.own.e(t.j) + v0 * lanes;
  const OfRows<T, S> of(p, t, v0);
  for (int64_t row = strip.begin; row < strip.end; row += kRows) {
    Vec<T> x[kRows][V], y[kRows][V], inverse_y[kRows][V];
    T *z_out = z_tile + row * kTile<T> + v0 * lanes, *e_out = e_tile + row * kTile<T> + v0 * lanes;
    distances<T>(z + row, zc, p.rows.d, p.inverse_a, x);
    each(x, [&](Vec<T> d, int r, int v) {
      const Student<Vec<T>> similar(d, p.power_a);
      similar.inverse.store(z_out + r * kTile<T> + v * lanes);
      return similar.log;
    });
    each(x, [&](Vec<T> log, int r, int v) {
      if constexpr (S != Shift::rows) log = exp(log - Vec<T>(p.shift_z));
      log.store(e_out + r * kTile<T> + v * lanes);
      return log;
    });
    distances<T>(e + row, ec, p.rows.width, p.inverse_b, y);
    each(y, [&](Vec<T> d, int r, int v) {
      const Student<Vec<T>> similar(d, p.power_b);
      inverse_y[r][v] = similar.inverse;
      return similar.log;
    });
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        const int64_t at = r * kTile<T> + v * lanes;
        auto [s_z, s_e] = of.pull(Vec<T>::load(z_out + at), Vec<T>::load(e_out + at), inverse_y[r][v], y[r][v], row + r, v);
        if constexpr (Masked) {
          const auto counts = t.counts(row + r, (v0 + v) * lanes);
          s_z = select(counts, s_z, Vec<T>()), s_e = select(counts, s_e, Vec<T>());
        }
        s_z.store(z_out + at), s_e.store(e_out + at);
      }
  }
}

// total += sum_j S_ij and pulled += sum_j S_ij u_j for the `count` features from `from` on; total is followed by pulled.
template <class T>
void contract_sides(const Pass<T>& p, const TilePair<T>& t, T* s, T* turned, int64_t from, int64_t count, int64_t total) {
  if (t.mirrored) transpose_tile<T, true>(s, t.vecs, s, nullptr);
  add_column_sums(s, t.rows, t.vecs, p.sum(t.j, total));
  contract(s, p.rows.at(t.i, from), count, t.rows, t.vecs, p.sum(t.j, total + 1));
  if (t.mirrored || t.one_sided) return;  // columns have seen every row
  transpose_tile<T, false>(s, t.vecs, turned, p.sum(t.i, total));
  contract(turned, p.own.at(t.j, from), count, t.columns, kTileVecs<T>, p.sum(t.i, total + 1));
}

template <class T, Shift S>
void pull_tile(const Pass<T>& p, const TilePair<T>& t) {
  alignas(64) T z[kTile<T> * kTile<T>], e[kTile<T> * kTile<T>], turned[kTile<T> * kTile<T>];
  by_columns<T>(t, [&]<bool Masked, int V>(int64_t v0, Strip strip) {
    pull_values<T, S, Masked, V>(p, t, v0, strip, z, e);
  });
  if (p.pull_z) contract_sides(p, t, z, turned, 0, p.rows.d, 0);
  if (p.pull_e) contract_sides(p, t, e, turned, p.rows.d, p.rows.width, p.pull_z ? 1 + p.rows.d : 0);
}

template <class T>
Kernels<T> kernels() {
  using P = Pass<T>;
  constexpr Shift unit = Shift::unit, shared = Shift::shared, rows = Shift::rows;
  return {{play<P, T, loss_tile<T, unit>>, play<P, T, loss_tile<T, shared>>, play<P, T, loss_tile<T, rows>>},
          {play<P, T, pull_tile<T, unit>>, play<P, T, pull_tile<T, shared>>, play<P, T, pull_tile<T, rows>>},
          sweep<P, T, least_tile<T>>,
          shifts_of_tile<T>,
          {sweep<P, T, loss_tile<T, unit>>, sweep<P, T, loss_tile<T, shared>>, sweep<P, T, loss_tile<T, rows>>},
          {sweep<P, T, pull_tile<T, unit>>, sweep<P, T, pull_tile<T, shared>>, sweep<P, T, pull_tile<T, rows>>},
          gradient_of_tile<T>};
}

// Called by the host part through these two names, one pair for each level.
Kernels<float> kernels_float() { return kernels<float>(); }
Kernels<double> kernels_double() { return kernels<double>(); }

}  // namespace DCACCEL_ISA
}  // namespace dcaccel::t_similarity
