// nearest_center on the CPU. Compiled once per instruction set for the pass; the rest of the file belongs to level 0.
// SPDX-License-Identifier: Apache-2.0
#include "../common/center_tiles.h"
#include "math.h"

namespace dcaccel::nearest_center {

template <class T>
struct Search {
  View<T> x;
  Centers<T> centers;  // sums start at 0
  int64_t* index;
  T* distance;

  DC_HD static int64_t scratch(int64_t d) { return kRowTile * (padded<T>(d) + 2 * padded<T>(1) + 2); }
};

template <class T>
struct Kernels {
  void (*search)(const Search<T>&, int64_t first, int64_t last, T* scratch);
};

namespace DCACCEL_ISA {

using namespace dcaccel::DCACCEL_ISA;

// The best lane of every row of a tile, by distance, then by index.
template <class T>
void best_lane(const T* distances, const T* indices, T* distance, T* index) {
  constexpr int lanes = Vec<T>::size;
  for (int64_t first = 0; first < kRowTile; first += lanes) {
    Vec<T> d[lanes], k[lanes];
#pragma GCC unroll 16
    for (int r = 0; r < lanes; ++r) {
      d[r] = Vec<T>::load(distances + (first + r) * lanes);
      k[r] = Vec<T>::load(indices + (first + r) * lanes);
    }
    transpose(d), transpose(k);
    for (int lane = 1; lane < lanes; ++lane) {
      const auto takes = (d[lane].v < d[0].v) | ((d[lane].v == d[0].v) & (k[lane].v < k[0].v));  // better()
      d[0] = select(takes, d[lane], d[0]), k[0] = select(takes, k[lane], k[0]);
    }
    d[0].store(distance + first), k[0].store(index + first);
  }
}

// The squared distance to center 0, for a row that has no smallest.
template <class T>
T first_distance(const Centers<T>& c, const T* x) {
  T sum = 0;
  for (int64_t f = 0; f < c.d; ++f) sum += (x[f] - c.rows[f]) * (x[f] - c.rows[f]);
  return sum;
}

template <class T>
void search(const Search<T>& p, int64_t first, int64_t last, T* scratch) {
  constexpr int lanes = Vec<T>::size;
  const T infinite = T(__builtin_inff());
  Cutter<T> cut{scratch};
  T *x = cut.take(kRowTile * p.centers.dp()), *distances = cut.take(kRowTile * padded<T>(1));
  T *indices = cut.take(kRowTile * padded<T>(1)), *distance = cut.take(kRowTile), *index = cut.take(kRowTile);
  for (; first < last; first += kRowTile) {
    const int64_t rows = smaller(kRowTile, last - first);
    load_tile(p.x, first, rows, p.centers.d, x);
    for_distances<T, false>(p.centers, x, rows, [&]<int V>(int64_t row, int64_t v0, Vec<T>(&values)[V]) {
      Vec<T> best(infinite), number;
      if (v0 > 0) best = Vec<T>::load(distances + row * lanes), number = Vec<T>::load(indices + row * lanes);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const auto takes = values[v].v < best.v;
        best = select(takes, values[v], best);
        number = select(takes, lane_numbers<T>() + Vec<T>(T((v0 + v) * lanes)), number);
      }
      best.store(distances + row * lanes), number.store(indices + row * lanes);
    });
    best_lane(distances, indices, distance, index);
    for (int64_t r = 0; r < rows; ++r) {
      const bool none = distance[r] == infinite;
      p.index[first + r] = none ? 0 : int64_t(index[r]);
      p.distance[first + r] = none ? first_distance(p.centers, x + r * p.centers.dp()) : distance[r];
    }
  }
}

Kernels<float> kernels_float() { return {search<float>}; }
Kernels<double> kernels_double() { return {search<double>}; }

}  // namespace DCACCEL_ISA
}  // namespace dcaccel::nearest_center

#if DCACCEL_LEVEL == 0
#include <tuple>

#include "../common/centers.h"
#include "../common/levels.h"

namespace dcaccel::nearest_center {

DC_ACTIVE_KERNELS()

namespace {

template <class T>
std::tuple<Tensor, Tensor> nearest(const Tensor& x, const Tensor& centers) {
  const int64_t n = x.size(0);
  const Tensor index = empty<int64_t>({n}), distance = empty<T>({n});
  const PackedCenters<T> packed(centers, T(0), false);
  const Search<T> pass{view<T>(x), packed.table(), data<int64_t>(index), data<T>(distance)};
  const Kernels<T> kernels = active_kernels<T>();
  const Blocks blocks(n, 1);
  for_blocks(blocks, [&](int64_t block) {
    const Scratch<T> scratch(Search<T>::scratch(x.size(1)));
    kernels.search(pass, blocks.first(block), blocks.last(block), scratch.get());
  });
  return {index, distance};
}

std::tuple<Tensor, Tensor> nearest_center_cpu(Tensor x, Tensor centers) {
  return x.scalar_type() == ScalarType::Float ? nearest<float>(x, centers) : nearest<double>(x, centers);
}

}  // namespace
}  // namespace dcaccel::nearest_center

STABLE_TORCH_LIBRARY_IMPL(dcaccel, CPU, m) {
  m.impl("nearest_center", TORCH_BOX(&dcaccel::nearest_center::nearest_center_cpu));
}

#endif  // DCACCEL_LEVEL == 0
