// wasserstein_similarity on CUDA: the two passes over all pairs, and the launches.
//
// A block owns a tile of rows and gathers over the columns, so every pair is computed twice, once for either row; in
// return nothing is scattered, and no sum depends on the order in which blocks run. Pairs i = j are left out, as on
// the CPU: their q is known exactly, and their S, the largest of all, belongs to a difference of zero.
// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "../common/cuda_pair_tiles.h"
#include "cuda_rows.h"

namespace dcaccel::wasserstein_similarity {
namespace {

// The features that a block contracts with: sums [from, from + count) of what PairSums holds, feature 0 left out.
struct Chunk {
  int64_t from;
  int count;
};
template <int F>
DC_DEVICE Chunk own_chunk(int64_t features) {
  const int64_t from = int64_t(blockIdx.z) * F;
  return {from, int(features - from < F ? features - from : F)};
}

// What both passes have in common: the place of a block, and its sums.
template <class T, int F>
struct Pass {
  Rows<T> rows, own;
  int64_t start;
  PairSums<T> out;
  int tile, begin, end;  // tiles are counted in 32 bits, rows in 64
  Chunk chunk;
  ColumnSums<T, F> sums;
  bool first = true;

  DC_DEVICE Pass(const Rows<T>& rows_, const Rows<T>& own_, int64_t start_, const PairSums<T>& out_)
      : rows(rows_),
        own(own_),
        start(start_),
        out(out_),
        tile(int(blockIdx.x)),
        begin(int(rows_.tiles() * blockIdx.y / gridDim.y)),
        end(int(rows_.tiles() * (blockIdx.y + 1) / gridDim.y)),
        chunk(own_chunk<F>(out_.features)) {
    sums.clear();
  }
  DC_DEVICE const T* paired_rows() const { return own.u(tile); }
  DC_DEVICE const T* paired_columns(int64_t j) const { return rows.u(j); }

  // After column tile j: registers are emptied now and then. Feature 0 belongs to the first chunk.
  DC_DEVICE void add_up(int j) {
    if ((j - begin) % kFlushTiles != kFlushTiles - 1 && j + 1 < end) return;
    sums.flush(out.at(blockIdx.y, tile, chunk.from), chunk.from > 0, 1 + chunk.count, first);
    first = false;
  }
};

// Sums of exp(q) and of q gamma.
template <class T, int F>
struct LossPass : Pass<T, F> {
  Block<T> d;  // 1 + squared distance

  using Pass<T, F>::Pass;
  DC_DEVICE void fetch_columns(int64_t j, T* to) const {
    fetch(this->rows.a(j) + this->chunk.from * kTile<T>, this->chunk.count, to);
  }
  DC_DEVICE void clear() { fill(d, T(1)); }
  DC_DEVICE void pair(const T* x, const T* y, int from, int to) { add_squared_distances(x, y, to - from, d); }

  template <bool Masked>
  DC_DEVICE void values(const Counts<T>& counts) {
#pragma unroll
    for (int r = 0; r < kRows<T>; ++r)
#pragma unroll
      for (int c = 0; c < kColumns<T>; ++c) {
        T q = similarity(d[r][c]), e = exp_unit(q);
        if (Masked && !counts(r, c)) q = T(0), e = T(0);
        this->sums.values[0][r] += e;
        d[r][c] = q;
      }
  }
  DC_DEVICE void finish(int j, const T* columns) {
    const Counts<T> counts(this->rows.n, this->start, this->tile, j);
    if (counts.all())
      values<false>(counts);
    else
      values<true>(counts);
    this->sums.contract(d, columns);
    this->add_up(j);
  }
};

// Sums of S and of S u, for the features of u from `first` on.
template <class T, int F>
struct PullPass : Pass<T, F> {
  int64_t first_feature;
  T share[kRows<T>];
  Block<T> d, twice_w;

  DC_DEVICE PullPass(const Rows<T>& rows, const Rows<T>& own, int64_t start, const PairSums<T>& out, int64_t first)
      : Pass<T, F>(rows, own, start, out), first_feature(first) {
    load_rows(own.share(this->tile), share);
  }
  DC_DEVICE void fetch_columns(int64_t j, T* to) const {
    fetch(this->rows.share(j), 1, to);
    fetch(this->rows.u(j) + (first_feature + this->chunk.from) * kTile<T>, this->chunk.count, to + kTile<T>);
  }
  DC_DEVICE void clear() { fill(d, T(1)), fill(twice_w, T(0)); }
  DC_DEVICE void pair(const T* x, const T* y, int from, int to) {  // u and a lie one behind the other
    const int border = int(this->rows.d), middle = to < border ? to : (from > border ? from : border);
    add_squared_distances(x, y, middle - from, d);
    add_products(x + (middle - from) * kTile<T>, y + (middle - from) * kTile<T>, to - middle, twice_w);
  }

  template <bool Masked>
  DC_DEVICE void values(const Counts<T>& counts, const T (&share_j)[kColumns<T>]) {
#pragma unroll
    for (int r = 0; r < kRows<T>; ++r)
#pragma unroll
      for (int c = 0; c < kColumns<T>; ++c) {
        const T q = similarity(d[r][c]);
        T s = pull(q, exp_unit(q), twice_w[r][c], share[r], share_j[c]);
        if (Masked && !counts(r, c)) s = T(0);
        this->sums.values[0][r] += s;
        d[r][c] = s;
      }
  }
  DC_DEVICE void finish(int j, const T* columns) {
    const Counts<T> counts(this->rows.n, this->start, this->tile, j);
    T share_j[kColumns<T>];
    load_columns(columns, share_j);
    if (counts.all())
      values<false>(counts, share_j);
    else
      values<true>(counts, share_j);
    this->sums.contract(d, columns + kTile<T>);
    this->add_up(j);
  }
};

// Grid: own tiles x splits of the columns x chunks of F features. The second bound is the number of blocks of a
// multiprocessor, and with it the registers of a thread; the pull pass holds another block of pairs, as much as 6 sums
// or so.
template <class T, int F>
__global__ void __launch_bounds__(kThreads, blocks_for(F))
    loss_kernel(Rows<T> rows, Rows<T> own, int64_t start, PairSums<T> out) {
  DC_SHARED(Buffers<T>, buffers, [1]);
  LossPass<T, F> pass(rows, own, start, out);
  sweep<T>(pass, pass.begin, pass.end, int(rows.d), buffers[0]);
}

template <class T, int F>
__global__ void __launch_bounds__(kThreads, blocks_for(F + 6))
    pull_kernel(Rows<T> rows, Rows<T> own, int64_t start, PairSums<T> out, int64_t first) {
  DC_SHARED(Buffers<T>, buffers, [1]);
  PullPass<T, F> pass(rows, own, start, out, first);
  sweep<T>(pass, pass.begin, pass.end, int(rows.d + rows.k), buffers[0]);
}

// Launches with the smallest register block that holds `features`; more than 20 take several chunks, each of which
// computes the distances anew.
template <class Launch>
void by_features(int64_t features, const Launch& launch) {
  if (features <= 4)
    launch.template operator()<4>();
  else if (features <= 10)
    launch.template operator()<10>();
  else
    launch.template operator()<20>();
}

template <class T>
dim3 pair_grid(const PairSums<T>& sums, int64_t f) {
  return dim3(unsigned(sums.tiles), unsigned(sums.splits), unsigned((sums.features + f - 1) / f));
}

template <class T>
Rows<T> rows_of(Sizes sizes, T* state) {
  return {{sizes.n, 2 * sizes.z + 2 * sizes.k + 1, state}, 2 * sizes.z, sizes.k};
}

// Of `own` rows against all.
template <class T>
PairSums<T> sums_of(int64_t own, int64_t n, int64_t features, double* values) {
  const int64_t own_tiles = (own + kTile<T> - 1) / kTile<T>, tiles = (n + kTile<T> - 1) / kTile<T>;
  return {values, own_tiles, features, column_splits(own_tiles, tiles)};
}

template <class T>
int64_t size_of(const PairSums<T>& sums) {
  return sums.splits * sums.tiles * (1 + sums.features) * kTile<T>;
}

template <class T>
int64_t sums_size(int64_t own, int64_t n, int64_t features) {
  return size_of(sums_of<T>(own, n, features, nullptr));
}

// The rows of all processes, then those of this one, without slopes; sums over pairs of so many features, and the
// shifts of features.
template <class T>
struct Shard {
  Rows<T> rows, own;
  PairSums<T> sums;
  T* shifts;

  Shard(Sizes s, Own o, int64_t features, double* memory)
      : rows{{s.n, 2 * s.z + s.k + 1, reinterpret_cast<T*>(memory)}, 2 * s.z, s.k},
        own{{o.count, rows.features, rows.at(rows.tiles(), 0)}, rows.d, rows.k},
        sums(sums_of<T>(o.count, s.n, features, reinterpret_cast<double*>(own.at(own.tiles(), 0)))),
        shifts(reinterpret_cast<T*>(sums.values + size_of(sums))) {}
  static int64_t scratch(Sizes s, Own o, int64_t features) {
    const int64_t tiles = (s.n + kTile<T> - 1) / kTile<T> + (o.count + kTile<T> - 1) / kTile<T>;
    const int64_t rows = tiles * kTile<T> * (2 * s.z + s.k + 1) * int64_t(sizeof(T)) / int64_t(sizeof(double));
    return rows + sums_size<T>(o.count, s.n, features) + 2 * s.z;
  }
};

// The first `features` of own rows from all.
template <class T>
void take(const Shard<T>& shard, int64_t start, int64_t features, CUstream_st* stream) {
  const dim3 grid(blocks(shard.own.tiles() * kTile<T>, kThreads), unsigned(features));
  DC_LAUNCH((take_rows_kernel<T>), grid, dim3(kThreads), 0, stream, shard.rows, start, shard.own);
}

// u, centred, and gamma in tiles. `clusters` may be null.
template <class T>
void pack(Sizes sizes, View<T> mu, View<T> sigma, View<T> gamma, const Rows<T>& rows, T* shifts, Cluster* clusters,
          CUstream_st* stream) {
  const unsigned row_blocks = blocks(rows.tiles() * kTile<T>, kThreads), k = unsigned(rows.k), d = unsigned(rows.d);
  DC_LAUNCH((pack_kernel<T>), dim3(row_blocks, d + k), dim3(kThreads), 0, stream, sizes, mu, sigma, gamma, rows);
  DC_LAUNCH((columns_kernel<T>), dim3(clusters ? d + k : d), dim3(kReduceThreads), 0, stream, rows, shifts, clusters);
  DC_LAUNCH((centre_kernel<T>), dim3(row_blocks, d), dim3(kThreads), 0, stream, rows, shifts);
}

// Sums of exp(q) and of q gamma of own rows.
template <class T>
void sum_pairs(const Rows<T>& rows, const Rows<T>& own, int64_t start, const PairSums<T>& sums, CUstream_st* stream) {
  by_features(sums.features, [&]<int F>() {
    DC_LAUNCH((loss_kernel<T, F>), pair_grid(sums, F), dim3(kThreads), 0, stream, rows, own, start, sums);
  });
}

// Sums of S and of S u of own rows, for the features of u from `first` on.
template <class T>
void pull_pairs(const Rows<T>& rows, const Rows<T>& own, int64_t start, const PairSums<T>& sums, int64_t first,
                CUstream_st* stream) {
  by_features(sums.features, [&]<int F>() {
    DC_LAUNCH((pull_kernel<T, F>), pair_grid(sums, F), dim3(kThreads), 0, stream, rows, own, start, sums, first);
  });
}

double scale_of(Sizes sizes) { return 1 / (double(sizes.n) * (sizes.mean_of_rows ? 1 : double(sizes.n))); }

}  // namespace

int64_t loss_scratch_cuda(Sizes sizes, bool single) {
  const int64_t sums =
      single ? sums_size<float>(sizes.n, sizes.n, sizes.k) : sums_size<double>(sizes.n, sizes.n, sizes.k);
  return sums + int64_t(sizeof(Cluster) / sizeof(double)) * sizes.k + 2 * sizes.z;
}

int64_t gradients_scratch_cuda(Sizes sizes, bool single, bool need_mu, bool need_sigma) {
  const int64_t features = (need_mu + need_sigma) * sizes.z;
  if (features == 0) return 0;
  return single ? sums_size<float>(sizes.n, sizes.n, features) : sums_size<double>(sizes.n, sizes.n, features);
}

template <class T>
int loss_cuda(Sizes sizes, View<T> mu, View<T> sigma, View<T> gamma, T* loss, T* state, double* scratch,
              CUstream_st* stream) {
  const Rows<T> rows = rows_of(sizes, state);
  const PairSums<T> sums = sums_of<T>(sizes.n, sizes.n, sizes.k, scratch);
  Cluster* clusters = reinterpret_cast<Cluster*>(scratch + size_of(sums));
  T* shifts = reinterpret_cast<T*>(clusters + sizes.k);
  const unsigned row_blocks = blocks(rows.tiles() * kTile<T>, kThreads), k = unsigned(rows.k);
  pack(sizes, mu, sigma, gamma, rows, shifts, clusters, stream);
  sum_pairs(rows, rows, 0, sums, stream);
  DC_LAUNCH((finish_rows_kernel<T>), dim3(row_blocks, 1 + k), dim3(kThreads), 0, stream, rows, sums, clusters);
  DC_LAUNCH((finish_clusters_kernel<T>), dim3(k), dim3(kReduceThreads), 0, stream, rows, sums, clusters);
  DC_LAUNCH((slopes_kernel<T>), dim3(row_blocks, k), dim3(kThreads), 0, stream, rows, sums, clusters, scale_of(sizes),
            loss);
  return int(cudaGetLastError());
}

template <class T>
int gradients_cuda(Sizes sizes, const T* state, const T* grad, T* g_mu, T* g_sigma, T* g_gamma, double* scratch,
                   CUstream_st* stream) {
  const Rows<T> rows = rows_of(sizes, const_cast<T*>(state));  // nothing is written to it
  const int64_t n = sizes.n, z = sizes.z, k = sizes.k;
  const double scale = scale_of(sizes);
  if (g_mu || g_sigma) {
    const int64_t first = g_mu ? 0 : z;
    const PairSums<T> sums = sums_of<T>(n, n, (g_mu && g_sigma ? 2 : 1) * z, scratch);
    pull_pairs(rows, rows, 0, sums, first, stream);
    const dim3 grid(blocks(n * z, kThreads));
    for (int64_t half : {int64_t(0), z})
      if (T* out = half == 0 ? g_mu : g_sigma)
        DC_LAUNCH((row_gradient_kernel<T>), grid, dim3(kThreads), 0, stream, rows, sums, half, half - first, z, scale,
                  grad, out);
  }
  if (g_gamma) {
    DC_LAUNCH((gamma_gradient_kernel<T>), dim3(blocks(n * k, kThreads)), dim3(kThreads), 0, stream, rows, scale, grad,
              g_gamma);
  }
  return int(cudaGetLastError());
}

int64_t own_sums_scratch_cuda(Sizes s, Own own, bool single) {
  return single ? Shard<float>::scratch(s, own, s.k) : Shard<double>::scratch(s, own, s.k);
}

int64_t own_pull_scratch_cuda(Sizes s, Own own, bool single) {
  return single ? Shard<float>::scratch(s, own, 2 * s.z) : Shard<double>::scratch(s, own, 2 * s.z);
}

template <class T>
int own_sums_cuda(Sizes sizes, Own own, View<T> mu, View<T> sigma, View<T> gamma, double* out, double* scratch,
                  CUstream_st* stream) {
  const Shard<T> shard(sizes, own, sizes.k, scratch);
  const dim3 each(blocks(own.count, kThreads), unsigned(1 + sizes.k));
  pack<T>(sizes, mu, sigma, gamma, shard.rows, shard.shifts, nullptr, stream);
  take(shard, own.start, shard.rows.d + shard.rows.k, stream);
  sum_pairs(shard.rows, shard.own, own.start, shard.sums, stream);
  DC_LAUNCH((own_sums_kernel<T>), each, dim3(kThreads), 0, stream, shard.own, shard.sums, out);
  return int(cudaGetLastError());
}

template <class T>
int own_pull_cuda(Sizes sizes, Own own, View<T> mu, View<T> sigma, View<T> gamma, const double* share,
                  const double* size, T* out, double* scratch, CUstream_st* stream) {
  const int64_t d = 2 * sizes.z;
  const Shard<T> shard(sizes, own, d, scratch);
  const dim3 all(blocks(shard.rows.tiles() * kTile<T>, kThreads), unsigned(sizes.k + 1));
  pack<T>(sizes, mu, sigma, gamma, shard.rows, shard.shifts, nullptr, stream);
  DC_LAUNCH((weights_kernel<T>), all, dim3(kThreads), 0, stream, shard.rows, share, size);
  take(shard, own.start, shard.rows.features, stream);
  pull_pairs(shard.rows, shard.own, own.start, shard.sums, 0, stream);
  DC_LAUNCH((row_gradient_kernel<T>), dim3(blocks(own.count * d, kThreads)), dim3(kThreads), 0, stream, shard.own,
            shard.sums, 0, 0, d, 1.0, static_cast<const T*>(nullptr), out);
  return int(cudaGetLastError());
}

template int loss_cuda<float>(Sizes, View<float>, View<float>, View<float>, float*, float*, double*,
                              CUstream_st*);
template int loss_cuda<double>(Sizes, View<double>, View<double>, View<double>, double*, double*, double*,
                               CUstream_st*);
template int gradients_cuda<float>(Sizes, const float*, const float*, float*, float*, float*, double*, CUstream_st*);
template int gradients_cuda<double>(Sizes, const double*, const double*, double*, double*, double*, double*,
                                    CUstream_st*);
template int own_sums_cuda<float>(Sizes, Own, View<float>, View<float>, View<float>, double*, double*, CUstream_st*);
template int own_sums_cuda<double>(Sizes, Own, View<double>, View<double>, View<double>, double*, double*,
                                   CUstream_st*);
template int own_pull_cuda<float>(Sizes, Own, View<float>, View<float>, View<float>, const double*, const double*,
                                  float*, double*, CUstream_st*);
template int own_pull_cuda<double>(Sizes, Own, View<double>, View<double>, View<double>, const double*, const double*,
                                   double*, double*, CUstream_st*);

}  // namespace dcaccel::wasserstein_similarity
