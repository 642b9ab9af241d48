// The kernels of wasserstein_similarity that go over rows, not over pairs: packing and centring before the loss pass,
// the closed forms of rows and clusters after it, gradients after the pull pass; own rows and what a process hands to
// the others. All O(n (z + k)); sums in double.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/cuda_pair_sums.h"
#include "cuda.h"
#include "math.h"
#include "rows.h"

namespace dcaccel::wasserstein_similarity {
namespace {

using namespace dcaccel::cuda;

// Sums of a cluster, as in math.h: s of gamma as it is, size with the clamp.
struct Cluster {
  double s, size, same, entropy;
};

// u = [mu, sigma] and gamma in tiles, zero behind row n. One thread a row; blockIdx.y is the feature.
template <class T>
__global__ void pack_kernel(Sizes sizes, View<T> mu, View<T> sigma, View<T> gamma, Rows<T> rows) {
  const int64_t i = global_thread(), f = blockIdx.y;
  if (i >= rows.tiles() * kTile<T>) return;
  const View<T> from = f < sizes.z ? mu : (f < rows.d ? sigma : gamma);
  const int64_t column = f < sizes.z ? f : (f < rows.d ? f - sizes.z : f - rows.d);
  const bool there = i < rows.n;
  rows.u(i / kTile<T>)[f * kTile<T> + i % kTile<T>] =
      there ? from.data[i * from.row_stride + column * from.column_stride] : T(0);
}

// One block a feature: the shift of a feature of u, s and size of a cluster.
template <class T>
__global__ void columns_kernel(Rows<T> rows, T* shifts, Cluster* clusters) {
  const int64_t f = blockIdx.x;
  const Column<T> column(rows, f);
  if (threadIdx.x > 0) return;
  const double sum = column.sum;
  if (f < rows.d)
    shifts[f] = column.shift();
  else
    clusters[f - rows.d] = {sum, sum < kSmallestCluster ? kSmallestCluster : sum, 0, 0};
}

// One thread a row. blockIdx.y 0: l_i for the sum over j of exp(q_ij), and share; 1 + k: R_ik. Both take the place of
// the sum of the first split, and both get the diagonal, which the pass left out.
template <class T>
__global__ void finish_rows_kernel(Rows<T> rows, PairSums<T> sums, const Cluster* clusters) {
  const int64_t i = global_thread(), feature = blockIdx.y, tile = i / kTile<T>, lane = i % kTile<T>;
  if (tile >= rows.tiles()) return;
  const T* gamma = rows.a(tile) + lane;
  const double sum = sums.total(tile, feature, lane);
  double* out = sums.at(0, tile, feature) + lane;
  if (feature > 0) {
    *out = sum + double(gamma[(feature - 1) * kTile<T>]);
    return;
  }
  const double z = sum + kExpOfOne;
  double r = 0;
  for (int64_t k = 0; k < rows.k; ++k) r += double(gamma[k * kTile<T>]) * (clusters[k].s / clusters[k].size);
  rows.share(tile)[lane] = T(r / z);
  *out = log(z);
}

// One block a cluster: the sums over its rows of gamma R and of gamma l.
template <class T>
__global__ void finish_clusters_kernel(Rows<T> rows, PairSums<T> sums, Cluster* clusters) {
  const int64_t k = blockIdx.x;
  double same = 0, entropy = 0;
  for (int64_t i = threadIdx.x; i < rows.n; i += kReduceThreads) {
    const int64_t tile = i / kTile<T>, lane = i % kTile<T>;
    const double gamma = rows.a(tile)[k * kTile<T> + lane];
    same += gamma * sums.at(0, tile, 1 + k)[lane], entropy += gamma * sums.at(0, tile, 0)[lane];
  }
  same = over_block<Sum>(same), entropy = over_block<Sum>(entropy);
  if (threadIdx.x == 0) clusters[k].same = same, clusters[k].entropy = entropy;
}

// One thread a row, blockIdx.y is the cluster: the slope, and a in place of gamma. The first thread adds up the loss.
template <class T>
__global__ void slopes_kernel(Rows<T> rows, PairSums<T> sums, const Cluster* clusters, double scale, T* loss) {
  const int64_t i = global_thread(), k = blockIdx.y, tile = i / kTile<T>, lane = i % kTile<T>;
  if (i == 0 && k == 0) {
    double sum = 0;
    for (int64_t c = 0; c < rows.k; ++c)
      sum += (clusters[c].s * clusters[c].entropy - clusters[c].same) / clusters[c].size;
    *loss = T(sum * scale);
  }
  if (tile >= rows.tiles()) return;
  const Cluster& own = clusters[k];
  const ClusterSlope slope(own.s, own.size, own.same, own.entropy);
  const double l = sums.at(0, tile, 0)[lane], r = sums.at(0, tile, 1 + k)[lane];
  rows.slope(tile)[k * kTile<T> + lane] = T(slope(l, r));
  T& a = rows.a(tile)[k * kTile<T> + lane];
  a = T(double(a) * sqrt(2 / own.size));
}

// One thread a row, blockIdx.y 0: the sum over j of exp(q_ij); 1 + k: R_ik. Both with the diagonal, which the pass left
// out. out: (own rows, 1 + k).
template <class T>
__global__ void own_sums_kernel(Rows<T> own, PairSums<T> sums, double* out) {
  const int64_t i = global_thread(), feature = blockIdx.y, tile = i / kTile<T>, lane = i % kTile<T>;
  if (i >= own.n) return;
  const double itself = feature == 0 ? kExpOfOne : double(own.a(tile)[(feature - 1) * kTile<T> + lane]);
  out[i * (1 + own.k) + feature] = sums.total(tile, feature, lane) + itself;
}

// One thread a row. blockIdx.y below k: a in place of gamma, from the sizes of the clusters; k: the share, zero behind
// row n.
template <class T>
__global__ void weights_kernel(Rows<T> rows, const double* share, const double* size) {
  const int64_t i = global_thread(), k = blockIdx.y, tile = i / kTile<T>, lane = i % kTile<T>;
  if (tile >= rows.tiles()) return;
  T& weight = rows.a(tile)[k * kTile<T> + lane];  // share lies behind a
  weight = k < rows.k ? T(double(weight) * sqrt(2 / size[k])) : i < rows.n ? T(share[i]) : T(0);
}

// One thread a number of the gradient: scale * grad * dloss/du / c, grad 1 if it is null. `first` is the feature of u
// that column 0 of the gradient belongs to, `from` the feature of the sums.
template <class T>
__global__ void row_gradient_kernel(Rows<T> rows, PairSums<T> sums, int64_t first, int64_t from, int64_t columns,
                                    double scale, const T* grad, T* out) {
  const int64_t at = global_thread(), i = at / columns, column = at % columns;
  if (i >= rows.n) return;
  const int64_t tile = i / kTile<T>, lane = i % kTile<T>;
  const double u = rows.u(tile)[(first + column) * kTile<T> + lane];
  const double total = sums.total(tile, 0, lane), pulled = sums.total(tile, 1 + from + column, lane);
  out[at] = T(2 * scale * (grad ? double(*grad) : 1.0) * (total * u - pulled));
}

// One thread a number of the gradient.
template <class T>
__global__ void gamma_gradient_kernel(Rows<T> rows, double scale, const T* grad, T* out) {
  const int64_t at = global_thread(), i = at / rows.k, k = at % rows.k;
  if (i < rows.n) out[at] = T(scale * double(*grad) * rows.slope(i / kTile<T>)[k * kTile<T> + i % kTile<T>]);
}

}  // namespace
}  // namespace dcaccel::wasserstein_similarity
