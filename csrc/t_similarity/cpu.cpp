// t_similarity on the CPU: packing, the closed forms of rows in double, registration.
// Compiled once per instruction set for the passes; the rest of the file belongs to level 0.
// SPDX-License-Identifier: Apache-2.0
#include "passes.h"

#if DCACCEL_LEVEL == 0
#include <cmath>
#include <limits>
#include <tuple>

#include "../common/levels.h"
#include "../common/packed_rows.h"

namespace dcaccel::t_similarity {

DC_ACTIVE_KERNELS()

namespace {

// Degrees of freedom and conventions of a call.
struct Options {
  double dof_z, dof_e;
  bool by_rows, diagonal;

  Shift shift() const {
    if (by_rows && !diagonal) return Shift::rows;
    return dof_e == 1 ? Shift::unit : Shift::shared;
  }
};

template <class T>
struct State {
  Rows<T> rows;
  T* shifts;

  State(const Tensor& state, int64_t n, int64_t d, int64_t width)
      : rows{{n, d + width + kOfRow, data<T>(state)}, d, width},
        shifts(data<T>(state) + state_size(n, d, width) - 2) {}
};

template <class T>
Pass<T> pass_over(const State<T>& state, const Options& options, double* sums, int64_t features) {
  return {state.rows, state.rows, block_tiles(state.rows.tiles()), 0, sums, features,
          T(1 / options.dof_z), T((options.dof_z + 1) / 2), T(1 / options.dof_e), T((options.dof_e + 1) / 2),
          state.shifts[0], state.shifts[1]};
}

// body(tile, lane) for every row.
template <class T, class Body>
void for_rows(const Rows<T>& rows, const Body& body) {
  for (int64_t tile = 0; tile < rows.tiles(); ++tile)
    for (int64_t lane = 0; lane < count_of<T>(rows.n, tile); ++lane) body(tile, lane);
}

// Without the diagonal: shifts from the nearest rows, of every row and the largest of all.
template <class T>
void find_shifts(const State<T>& state, const Options& options) {
  const Rows<T>& rows = state.rows;
  for (int64_t tile = 0; tile < rows.tiles(); ++tile)
    std::fill_n(rows.of_row(tile, kShiftZ), 2 * kTile<T>, std::numeric_limits<T>::infinity());
  Pass<T> pass = pass_over<T>(state, options, nullptr, 0);
  parallel(rows.tiles(), active_kernels<T>().nearest, &pass);
  parallel(rows.tiles(), active_kernels<T>().shifts, &pass);
  for (int which : {kShiftZ, kShiftE}) {
    T most = -std::numeric_limits<T>::infinity();
    for_rows(rows, [&](int64_t tile, int64_t lane) { most = std::max(most, rows.of_row(tile, which)[lane]); });
    state.shifts[which] = which == kShiftE && options.shift() == Shift::unit ? T(0) : most;
  }
}

struct Sums {
  double p, q, cross;
};

// From the sums of the pass: the loss, and the numbers of every row for the gradients.
template <class T>
double finish(const Pass<T>& pass, const Options& options) {
  const Rows<T>& rows = pass.rows;
  const double self = options.diagonal ? 1 : 0;
  Sums all{};
  double loss = 0;
  for_rows(rows, [&](int64_t tile, int64_t lane) {
    const Sums row{pass.sum(tile, 0)[lane] + self, pass.sum(tile, 1)[lane] + self, pass.sum(tile, 2)[lane]};
    all.p += row.p, all.q += row.q, all.cross += row.cross;
    if (!options.by_rows) return;
    const double mean = row.cross / row.p;
    const auto set = [&](int which, double value) { rows.of_row(tile, which)[lane] = T(value); };
    loss += std::log(row.q) - mean + (options.diagonal ? 0 : rows.of_row(tile, kShiftE)[lane]);
    set(kMean, options.diagonal ? mean / row.p : mean), set(kOverP, 1 / row.p), set(kOverQ, 1 / row.q);
  });
  if (options.by_rows) return loss;
  const double mean = all.cross / all.p;
  for (int64_t tile = 0; tile < rows.tiles(); ++tile) {
    std::fill_n(rows.of_row(tile, kMean), kTile<T>, T(mean / all.p));
    std::fill_n(rows.of_row(tile, kOverP), kTile<T>, T(1 / all.p));
    std::fill_n(rows.of_row(tile, kOverQ), kTile<T>, T(1 / all.q));
  }
  return std::log(all.q) + pass.shift_e - mean;
}

template <class T>
std::tuple<Tensor, Tensor> loss(const Tensor& z_, const Tensor& e_, const Options& options) {
  const Matrix<T> z(z_), e(e_);
  const Tensor out = empty<T>({}), kept = empty<T>({state_size(z.rows, z.columns, e.columns)});
  const State<T> state(kept, z.rows, z.columns, e.columns);
  const Rows<T>& rows = state.rows;
  for_tiles(rows.tiles(), [&](int64_t tile) {
    pack(z, tile, rows.z(tile)), pack(e, tile, rows.e(tile));
    std::fill_n(rows.of_row(tile, 0), kOfRow * kTile<T>, T(0));
  });
  centre(rows, rows.d + rows.width);
  state.shifts[0] = state.shifts[1] = T(0);
  if (!options.diagonal) find_shifts(state, options);
  const Scratch<double> sums(rows.tiles() * kTile<T> * 3);
  sums.zero();
  Pass<T> pass = pass_over(state, options, sums.get(), 3);
  const int64_t blocks = (rows.tiles() + pass.block_tiles - 1) / pass.block_tiles;
  tournament(blocks, active_kernels<T>().loss[int(options.shift())], &pass);
  *data<T>(out) = T(finish(pass, options));
  return {out, kept};
}

// factor (total u - pulled) of the features from `from` on.
template <class T>
void write_gradient(const Pass<T>& pass, int64_t from, int64_t columns, int64_t total, double factor, T* out) {
  const auto gradient = active_kernels<T>().gradient;
  for_tiles(pass.own.tiles(), [&](int64_t tile) {
    unpack(tile, pass.own.n, columns, out, [&](int64_t c, T* to) {
      gradient(pass.own.at(tile, from + c), pass.sum(tile, total), pass.sum(tile, total + 1 + c), factor, to);
    });
  });
}

template <class T>
std::tuple<Tensor, Tensor> gradients(const Tensor& z, const Tensor& e, const Tensor& kept, const Tensor& grad,
                                     const Options& options, bool need_z, bool need_e) {
  const int64_t n = z.size(0), d = z.size(1), width = e.size(1);
  const State<T> state(kept, n, d, width);
  const Rows<T>& rows = state.rows;
  const Tensor g_z = empty<T>({need_z * n, d}), g_e = empty<T>({need_e * n, width});
  const int64_t features = need_z * (1 + d) + need_e * (1 + width);
  const Scratch<double> sums(rows.tiles() * kTile<T> * features);
  sums.zero();
  Pass<T> pass = pass_over(state, options, sums.get(), features);
  pass.pull_z = need_z, pass.pull_e = need_e;
  const int64_t blocks = (rows.tiles() + pass.block_tiles - 1) / pass.block_tiles;
  tournament(blocks, active_kernels<T>().pull[int(options.shift())], &pass);
  const double factor = *static_cast<const T*>(grad.const_data_ptr());
  if (need_z) write_gradient(pass, 0, d, 0, factor * (options.dof_z + 1) / options.dof_z, data<T>(g_z));
  if (need_e) {
    const double scale = factor * (options.dof_e + 1) / options.dof_e;
    write_gradient(pass, d, width, need_z ? 1 + d : 0, scale, data<T>(g_e));
  }
  return {g_z, g_e};
}

std::tuple<Tensor, Tensor> t_similarity_cpu(Tensor z, Tensor e, double dof_z, double dof_e, bool rows, bool diagonal) {
  expect_pairs(z, e);
  const Options options{dof_z, dof_e, rows, diagonal};
  return z.scalar_type() == ScalarType::Float ? loss<float>(z, e, options) : loss<double>(z, e, options);
}

std::tuple<Tensor, Tensor> t_similarity_bwd_cpu(Tensor z, Tensor e, Tensor state, Tensor grad, double dof_z,
                                                double dof_e, bool rows, bool diagonal, bool need_z, bool need_e) {
  expect_pairs(z, e);
  expect_kept(z, state, state_size(z.size(0), z.size(1), e.size(1)), grad);
  const auto run = z.scalar_type() == ScalarType::Float ? gradients<float> : gradients<double>;
  return run(z, e, state, grad, {dof_z, dof_e, rows, diagonal}, need_z, need_e);
}

// The rows of all processes with their numbers (N, up to kOfRow), and from `start` on the `count` rows of this one.
template <class T>
struct Shard {
  int64_t start;
  Scratch<T> memory;
  Rows<T> rows, own;

  Shard(const Tensor& z_, const Tensor& e_, const Tensor& numbers_, int64_t start_, int64_t count)
      : start(start_), memory(floats(z_, e_, count)),
        rows{{z_.size(0), z_.size(1) + e_.size(1) + kOfRow, memory.get()}, z_.size(1), e_.size(1)},
        own{{count, rows.features, rows.at(rows.tiles(), 0)}, rows.d, rows.width} {
    const Matrix<T> z(z_), e(e_), numbers(numbers_);
    for_tiles(rows.tiles(), [&](int64_t tile) {
      pack(z, tile, rows.z(tile)), pack(e, tile, rows.e(tile));
      std::fill_n(rows.of_row(tile, 0), kOfRow * kTile<T>, T(0));
      pack(numbers, tile, rows.of_row(tile, 0));
    });
    centre(rows, rows.d + rows.width);
    take_rows(rows, start, own);
  }
  static int64_t floats(const Tensor& z, const Tensor& e, int64_t count) {
    const int64_t tiles = (z.size(0) + kTile<T> - 1) / kTile<T> + (count + kTile<T> - 1) / kTile<T>;
    return tiles * kTile<T> * (z.size(1) + e.size(1) + kOfRow);
  }
  Pass<T> pass(const Options& options, double shift_z, double shift_e, double* sums, int64_t features) const {
    return {rows, own, 0, start, sums, features, T(1 / options.dof_z), T((options.dof_z + 1) / 2), T(1 / options.dof_e),
            T((options.dof_e + 1) / 2), T(shift_z), T(shift_e)};
  }
};

// lp and lq of the nearest other row, for the own rows.
template <class T>
Tensor own_nearest(const Tensor& z, const Tensor& e, const Options& options, int64_t start, int64_t count) {
  const Shard<T> shard(z, e, empty<T>({z.size(0), 0}), start, count);
  for (int64_t tile = 0; tile < shard.own.tiles(); ++tile)
    std::fill_n(shard.own.of_row(tile, kShiftZ), 2 * kTile<T>, std::numeric_limits<T>::infinity());
  Pass<T> pass = shard.pass(options, 0, 0, nullptr, 0);
  parallel(shard.own.tiles(), active_kernels<T>().nearest, &pass);
  parallel(shard.own.tiles(), active_kernels<T>().shifts, &pass);
  const Tensor out = empty<T>({count, 2});
  for_rows(shard.own, [&](int64_t tile, int64_t lane) {
    T* to = data<T>(out) + (tile * kTile<T> + lane) * 2;
    for (int which : {kShiftZ, kShiftE}) to[which] = shard.own.of_row(tile, which)[lane];
  });
  return out;
}

// P, Q and X of the own rows, relative to their shifts, which are the first two numbers of every row.
template <class T>
Tensor own_sums(const Tensor& z, const Tensor& e, const Tensor& numbers, const Options& options, double shift_z,
                double shift_e, int64_t start, int64_t count) {
  const Shard<T> shard(z, e, numbers, start, count);
  const Scratch<double> sums(shard.own.tiles() * kTile<T> * 3);
  sums.zero();
  Pass<T> pass = shard.pass(options, shift_z, shift_e, sums.get(), 3);
  parallel(shard.own.tiles(), active_kernels<T>().own_loss[int(options.shift())], &pass);
  const Tensor out = empty<double>({count, 3});
  for_rows(shard.own, [&](int64_t tile, int64_t lane) {
    double* to = data<double>(out) + (tile * kTile<T> + lane) * 3;
    for (int s = 0; s < 3; ++s) to[s] = pass.sum(tile, s)[lane] + (options.diagonal && s < 2 ? 1 : 0);
  });
  return out;
}

// dloss/dz and dloss/de of the own rows.
template <class T>
std::tuple<Tensor, Tensor> own_pull(const Tensor& z, const Tensor& e, const Tensor& numbers, const Options& options,
                                    double shift_z, double shift_e, int64_t start, int64_t count) {
  const Shard<T> shard(z, e, numbers, start, count);
  const int64_t d = z.size(1), width = e.size(1), features = 2 + d + width;
  const Scratch<double> sums(shard.own.tiles() * kTile<T> * features);
  sums.zero();
  Pass<T> pass = shard.pass(options, shift_z, shift_e, sums.get(), features);
  pass.pull_z = pass.pull_e = true;
  parallel(shard.own.tiles(), active_kernels<T>().own_pull[int(options.shift())], &pass);
  const Tensor g_z = empty<T>({count, d}), g_e = empty<T>({count, width});
  write_gradient(pass, 0, d, 0, (options.dof_z + 1) / options.dof_z, data<T>(g_z));
  write_gradient(pass, d, width, 1 + d, (options.dof_e + 1) / options.dof_e, data<T>(g_e));
  return {g_z, g_e};
}

void expect_shard(const Tensor& z, const Tensor& e, int64_t start, int64_t count) {
  expect_pairs(z, e);
  expect(start >= 0 && count >= 1 && start + count <= z.size(0));
}

void expect_numbers(const Tensor& z, const Tensor& numbers, int64_t most) {
  expect(numbers.dim() == 2 && numbers.size(0) == z.size(0) && numbers.size(1) == most);
  expect(numbers.scalar_type() == z.scalar_type());
}

Tensor own_nearest_cpu(Tensor z, Tensor e, double dof_z, double dof_e, bool rows, int64_t start, int64_t count) {
  expect_shard(z, e, start, count);
  const auto run = z.scalar_type() == ScalarType::Float ? own_nearest<float> : own_nearest<double>;
  return run(z, e, {dof_z, dof_e, rows, false}, start, count);
}

Tensor own_sums_cpu(Tensor z, Tensor e, Tensor numbers, double dof_z, double dof_e, bool rows, bool diagonal,
                    double shift_z, double shift_e, int64_t start, int64_t count) {
  expect_shard(z, e, start, count), expect_numbers(z, numbers, 2);
  const auto run = z.scalar_type() == ScalarType::Float ? own_sums<float> : own_sums<double>;
  return run(z, e, numbers, {dof_z, dof_e, rows, diagonal}, shift_z, shift_e, start, count);
}

std::tuple<Tensor, Tensor> own_pull_cpu(Tensor z, Tensor e, Tensor numbers, double dof_z, double dof_e, bool rows,
                                        bool diagonal, double shift_z, double shift_e, int64_t start, int64_t count) {
  expect_shard(z, e, start, count), expect_numbers(z, numbers, kOfRow);
  const auto run = z.scalar_type() == ScalarType::Float ? own_pull<float> : own_pull<double>;
  return run(z, e, numbers, {dof_z, dof_e, rows, diagonal}, shift_z, shift_e, start, count);
}

}  // namespace
}  // namespace dcaccel::t_similarity

STABLE_TORCH_LIBRARY_IMPL(dcaccel, CPU, m) {
  m.impl("t_similarity", TORCH_BOX(&dcaccel::t_similarity::t_similarity_cpu));
  m.impl("t_similarity_bwd", TORCH_BOX(&dcaccel::t_similarity::t_similarity_bwd_cpu));
  m.impl("t_similarity_own_nearest", TORCH_BOX(&dcaccel::t_similarity::own_nearest_cpu));
  m.impl("t_similarity_own_sums", TORCH_BOX(&dcaccel::t_similarity::own_sums_cpu));
  m.impl("t_similarity_own_pull", TORCH_BOX(&dcaccel::t_similarity::own_pull_cpu));
}

#endif  // DCACCEL_LEVEL == 0
