// t_similarity on CUDA: the launches, for all rows at once and for those that a process owns.
// SPDX-License-Identifier: Apache-2.0
#include "cuda_passes.h"

namespace dcaccel::t_similarity {
namespace {

template <class T>
Rows<T> rows_of(Sizes s, T* state) {
  return {{s.n, s.d + s.width + kOfRow, state}, s.d, s.width};
}

// Of `own` rows against all.
template <class T>
PairSums<T> sums_of(int64_t own, int64_t n, int64_t features, double* values) {
  const int64_t own_tiles = (own + kTile<T> - 1) / kTile<T>, tiles = (n + kTile<T> - 1) / kTile<T>;
  return {values, own_tiles, features - 1, column_splits(own_tiles, tiles)};
}

template <class T>
int64_t size_of(const PairSums<T>& sums) {
  return sums.splits * sums.tiles * (1 + sums.features) * kTile<T>;
}

int64_t size_of_sums(Sizes s, int64_t features, bool single) {
  return single ? size_of(sums_of<float>(s.n, s.n, features, nullptr))
                : size_of(sums_of<double>(s.n, s.n, features, nullptr));
}

// What is given in tiles, z and e centred.
template <class T>
void pack(const Given<T>& given, const Rows<T>& rows, T* shifts, T* centres, CUstream_st* stream) {
  const unsigned row_blocks = blocks(rows.tiles() * kTile<T>, kThreads), features = unsigned(rows.d + rows.width);
  DC_LAUNCH((pack_kernel<T>), dim3(row_blocks, features + kOfRow), dim3(kThreads), 0, stream, given, rows, shifts);
  DC_LAUNCH((columns_kernel<T>), dim3(features), dim3(kReduceThreads), 0, stream, rows, centres);
  DC_LAUNCH((centre_kernel<T>), dim3(row_blocks, features), dim3(kThreads), 0, stream, rows, centres);
}

// Sums of p~, q~ and p~ lq of own rows.
template <class T>
void sum_pairs(const Rows<T>& rows, const Rows<T>& own, int64_t start, const Constants<T>& c, const PairSums<T>& sums,
               CUstream_st* stream) {
  const dim3 pairs(unsigned(sums.tiles), unsigned(sums.splits)), block(kThreads);
  if (c.unit) {
    DC_LAUNCH((loss_kernel<T, true>), pairs, block, 0, stream, rows, own, start, c, sums);
  } else {
    DC_LAUNCH((loss_kernel<T, false>), pairs, block, 0, stream, rows, own, start, c, sums);
  }
}

// Shifts of own rows, from the nearest. `least`: 2 numbers a row and split.
template <class T>
void find_shifts(const Rows<T>& rows, const Rows<T>& own, int64_t start, const Constants<T>& c, int64_t splits,
                 T* least, CUstream_st* stream) {
  const dim3 pairs(unsigned(own.tiles()), unsigned(splits)), each(blocks(own.tiles() * kTile<T>, kThreads), 2);
  DC_LAUNCH((nearest_kernel<T>), pairs, dim3(kThreads), 0, stream, rows, own, start, c, least);
  DC_LAUNCH((shifts_kernel<T>), each, dim3(kThreads), 0, stream, own, c, least, splits);
}

// The smallest of the register blocks that serves: chunks of 10 features, or of 25.
template <class Launch>
void by_features(int64_t features, const Launch& launch) {
  features <= 10 ? launch.template operator()<10>() : launch.template operator()<25>();
}

// Sums of S and of S u of own rows.
template <class T>
void pull_pairs(const Rows<T>& rows, const Rows<T>& own, int64_t start, const Constants<T>& c, const PairSums<T>& sums,
                Sides sides, CUstream_st* stream) {
  by_features(sides.d > sides.width ? sides.d : sides.width, [&]<int F>() {
    const int64_t chunks = (sides.d + F - 1) / F + (sides.width + F - 1) / F;
    const dim3 grid(unsigned(sums.tiles), unsigned(sums.splits), unsigned(chunks)), block(kThreads);
    if (c.shift_of_row()) {
      DC_LAUNCH((pull_kernel<T, F, true>), grid, block, 0, stream, rows, own, start, c, sums, sides);
    } else {
      DC_LAUNCH((pull_kernel<T, F, false>), grid, block, 0, stream, rows, own, start, c, sums, sides);
    }
  });
}

// Gradients of own rows from the sums; `grad` may be null, which is 1.
template <class T>
void write_gradients(const Rows<T>& own, const PairSums<T>& sums, Sides sides, Options options, const T* grad, T* g_z,
                     T* g_e, CUstream_st* stream) {
  const auto write = [&](int64_t first, int64_t from, int64_t columns, double dof, T* out) {
    DC_LAUNCH((row_gradient_kernel<T>), dim3(blocks(own.n * columns, kThreads)), dim3(kThreads), 0, stream, own, sums,
              first, from, columns, (dof + 1) / dof, grad, out);
  };
  if (g_z) write(0, 0, own.d, options.dof_z, g_z);
  if (g_e) write(own.d, sides.first_of_e(), own.width, options.dof_e, g_e);
}

// The rows of all processes, then those of this one, sums over pairs of so many features, the shared shifts, and the
// shifts of features.
template <class T>
struct Shard {
  Rows<T> rows, own;
  PairSums<T> sums;
  Constants<T> c;

  Shard(Sizes s, Options options, Own o, int64_t features, double* memory)
      : rows(rows_of(s, reinterpret_cast<T*>(memory))),
        own(rows_of({o.count, s.d, s.width}, rows.at(rows.tiles(), 0))),
        sums(sums_of<T>(o.count, s.n, features, reinterpret_cast<double*>(own.at(own.tiles(), 0)))),
        c(options, reinterpret_cast<T*>(sums.values + size_of(sums))) {}
  static int64_t scratch(Sizes s, Own o, int64_t features) {
    const int64_t tiles = (s.n + kTile<T> - 1) / kTile<T> + (o.count + kTile<T> - 1) / kTile<T>;
    const int64_t rows = tiles * kTile<T> * (s.d + s.width + kOfRow) * int64_t(sizeof(T)) / int64_t(sizeof(double));
    return rows + size_of(sums_of<T>(o.count, s.n, features, nullptr)) + 2 + s.d + s.width;
  }
};

// All rows from what is given, and the own ones from them.
template <class T>
void pack(const Shard<T>& shard, int64_t start, const Given<T>& given, CUstream_st* stream) {
  const dim3 grid(blocks(shard.own.tiles() * kTile<T>, kThreads), unsigned(shard.own.features));
  pack(given, shard.rows, shard.c.shifts, shard.c.shifts + 2, stream);
  DC_LAUNCH((take_rows_kernel<T>), grid, dim3(kThreads), 0, stream, shard.rows, start, shard.own);
}

}  // namespace

// The sums of the loss, or what the shifts need before; and the shifts of the features.
int64_t loss_scratch_cuda(Sizes s, bool single) { return size_of_sums(s, 3, single) + s.d + s.width; }

int64_t gradients_scratch_cuda(Sizes s, bool single, bool need_z, bool need_e) {
  const Sides sides{need_z * s.d, need_e * s.width};
  return sides.features() ? size_of_sums(s, sides.features(), single) : 0;
}

template <class T>
int loss_cuda(Sizes s, Options options, View<T> z, View<T> e, T* loss, T* state, double* scratch, CUstream_st* stream) {
  const Rows<T> rows = rows_of(s, state);
  const Constants<T> c(options, state + state_size(s.n, s.d, s.width) - 2);
  const PairSums<T> sums = sums_of<T>(s.n, s.n, 3, scratch);
  const dim3 one(kReduceThreads);
  pack({z, e}, rows, c.shifts, reinterpret_cast<T*>(scratch + size_of(sums)), stream);
  if (!options.diagonal) {
    find_shifts(rows, rows, 0, c, sums.splits, reinterpret_cast<T*>(scratch), stream);
    DC_LAUNCH((shared_shifts_kernel<T>), dim3(1), one, 0, stream, rows, c);
  }
  sum_pairs(rows, rows, 0, c, sums, stream);
  DC_LAUNCH((finish_rows_kernel<T>), dim3(blocks(s.n, kThreads)), dim3(kThreads), 0, stream, rows, sums, c);
  DC_LAUNCH((finish_kernel<T>), dim3(1), one, 0, stream, rows, sums, c, loss);
  return int(cudaGetLastError());
}

template <class T>
int gradients_cuda(Sizes s, Options options, const T* state, const T* grad, T* g_z, T* g_e, double* scratch,
                   CUstream_st* stream) {
  const Sides sides{g_z ? s.d : 0, g_e ? s.width : 0};
  if (!sides.features()) return 0;
  T* const kept = const_cast<T*>(state);  // nothing is written to it
  const Rows<T> rows = rows_of(s, kept);
  const PairSums<T> sums = sums_of<T>(s.n, s.n, sides.features(), scratch);
  pull_pairs(rows, rows, 0, Constants<T>(options, kept + state_size(s.n, s.d, s.width) - 2), sums, sides, stream);
  write_gradients(rows, sums, sides, options, grad, g_z, g_e, stream);
  return int(cudaGetLastError());
}

int64_t own_sums_scratch_cuda(Sizes s, Own own, bool single) {
  return single ? Shard<float>::scratch(s, own, 3) : Shard<double>::scratch(s, own, 3);
}

int64_t own_pull_scratch_cuda(Sizes s, Own own, bool single) {
  const int64_t features = 2 + s.d + s.width;
  return single ? Shard<float>::scratch(s, own, features) : Shard<double>::scratch(s, own, features);
}

template <class T>
int own_nearest_cuda(Sizes s, Options options, Own own, View<T> z, View<T> e, T* out, double* scratch,
                     CUstream_st* stream) {
  const Shard<T> shard(s, options, own, 3, scratch);
  pack(shard, own.start, {z, e}, stream);
  find_shifts(shard.rows, shard.own, own.start, shard.c, shard.sums.splits, reinterpret_cast<T*>(shard.sums.values),
              stream);
  DC_LAUNCH((own_shifts_kernel<T>), dim3(blocks(own.count, kThreads), 2), dim3(kThreads), 0, stream, shard.own, out);
  return int(cudaGetLastError());
}

template <class T>
int own_sums_cuda(Sizes s, Options options, Own own, View<T> z, View<T> e, View<T> numbers, double shift_z,
                  double shift_e, double* out, double* scratch, CUstream_st* stream) {
  const Shard<T> shard(s, options, own, 3, scratch);
  pack(shard, own.start, {z, e, numbers, 2, T(shift_z), T(shift_e)}, stream);
  sum_pairs(shard.rows, shard.own, own.start, shard.c, shard.sums, stream);
  DC_LAUNCH((own_sums_kernel<T>), dim3(blocks(own.count, kThreads), 3), dim3(kThreads), 0, stream, shard.own,
            shard.sums, shard.c, out);
  return int(cudaGetLastError());
}

template <class T>
int own_pull_cuda(Sizes s, Options options, Own own, View<T> z, View<T> e, View<T> numbers, double shift_z,
                  double shift_e, T* g_z, T* g_e, double* scratch, CUstream_st* stream) {
  const Sides sides{s.d, s.width};
  const Shard<T> shard(s, options, own, sides.features(), scratch);
  pack(shard, own.start, {z, e, numbers, kOfRow, T(shift_z), T(shift_e)}, stream);
  pull_pairs(shard.rows, shard.own, own.start, shard.c, shard.sums, sides, stream);
  write_gradients<T>(shard.own, shard.sums, sides, options, nullptr, g_z, g_e, stream);
  return int(cudaGetLastError());
}

template int loss_cuda<float>(Sizes, Options, View<float>, View<float>, float*, float*, double*, CUstream_st*);
template int loss_cuda<double>(Sizes, Options, View<double>, View<double>, double*, double*, double*, CUstream_st*);
template int gradients_cuda<float>(Sizes, Options, const float*, const float*, float*, float*, double*, CUstream_st*);
template int gradients_cuda<double>(Sizes, Options, const double*, const double*, double*, double*, double*,
                                    CUstream_st*);
template int own_nearest_cuda<float>(Sizes, Options, Own, View<float>, View<float>, float*, double*,
                                     CUstream_st*);
template int own_sums_cuda<float>(Sizes, Options, Own, View<float>, View<float>, View<float>, double, double,
                                  double*, double*, CUstream_st*);
template int own_pull_cuda<float>(Sizes, Options, Own, View<float>, View<float>, View<float>, double, double,
                                  float*, float*, double*, CUstream_st*);
template int own_nearest_cuda<double>(Sizes, Options, Own, View<double>, View<double>, double*, double*,
                                      CUstream_st*);
template int own_sums_cuda<double>(Sizes, Options, Own, View<double>, View<double>, View<double>, double, double,
                                   double*, double*, CUstream_st*);
template int own_pull_cuda<double>(Sizes, Options, Own, View<double>, View<double>, View<double>, double, double,
                                   double*, double*, double*, CUstream_st*);

}  // namespace dcaccel::t_similarity
