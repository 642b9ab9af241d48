// center_sums on the CPU. Compiled once per instruction set for the pass; the rest of the file belongs to level 0.
// SPDX-License-Identifier: Apache-2.0
#include "../common/center_tiles.h"
#include "math.h"

namespace dcaccel::center_sums {

template <class T>
struct Pass {
  View<T> x;
  const int64_t* index;
  int64_t index_stride, d, k;
};

// Rows first..last, added to sums [k][padded d] and counts [k].
template <class T>
struct Kernels {
  void (*add)(const Pass<T>&, int64_t first, int64_t last, T* scratch, double* sums, int64_t* counts);
};

namespace DCACCEL_ISA {

using namespace dcaccel::DCACCEL_ISA;

template <class T>
void add(const Pass<T>& p, int64_t first, int64_t last, T* tile, double* sums, int64_t* counts) {
  const int64_t dp = padded<T>(p.d);
  for (; first < last; first += kRowTile) {
    const int64_t rows = smaller(kRowTile, last - first);
    load_tile(p.x, first, rows, p.d, tile);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t k = p.index[(first + r) * p.index_stride];
      if (!names_center(k, p.k)) continue;
      ++counts[k];
      for (int64_t f = 0; f < p.d; f += Vec<T>::size) add_to(sums + k * dp + f, Vec<T>::load(tile + r * dp + f));
    }
  }
}

Kernels<float> kernels_float() { return {add<float>}; }
Kernels<double> kernels_double() { return {add<double>}; }

}  // namespace DCACCEL_ISA
}  // namespace dcaccel::center_sums

#if DCACCEL_LEVEL == 0
#include <tuple>

#include "../common/centers.h"
#include "../common/levels.h"

namespace dcaccel::center_sums {

DC_ACTIVE_KERNELS()

namespace {

template <class T>
std::tuple<Tensor, Tensor> sums(const Tensor& x, const Tensor& index, int64_t k) {
  const int64_t n = x.size(0), d = x.size(1), dp = padded<T>(d), size = k * dp;
  const Tensor total = empty<double>({k, d}), found = empty<int64_t>({k});
  const Pass<T> pass{view<T>(x), static_cast<const int64_t*>(index.const_data_ptr()), n > 1 ? index.stride(0) : 1, d,
                     k};
  const Kernels<T> kernels = active_kernels<T>();
  const Blocks blocks(n, k);
  const int64_t count = std::max<int64_t>(1, blocks.count);
  const Scratch<double> sums(count * size);
  const Scratch<int64_t> counts(count * k);
  sums.zero(), counts.zero();
  for_blocks(blocks, [&](int64_t block) {
    const Scratch<T> tile(kRowTile * dp);
    kernels.add(pass, blocks.first(block), blocks.last(block), tile.get(), sums.get() + block * size,
                counts.get() + block * k);
  });
  const double* from = add_blocks(sums.get(), count, size);
  for (int64_t c = 0; c < k; ++c) {
    std::copy(from + c * dp, from + c * dp + d, data<double>(total) + c * d);
    data<int64_t>(found)[c] = 0;
    for (int64_t block = 0; block < count; ++block) data<int64_t>(found)[c] += counts[block * k + c];
  }
  return {total, found};
}

std::tuple<Tensor, Tensor> center_sums_cpu(Tensor x, Tensor index, int64_t k) {
  return x.scalar_type() == ScalarType::Float ? sums<float>(x, index, k) : sums<double>(x, index, k);
}

}  // namespace
}  // namespace dcaccel::center_sums

STABLE_TORCH_LIBRARY_IMPL(dcaccel, CPU, m) {
  m.impl("center_sums", TORCH_BOX(&dcaccel::center_sums::center_sums_cpu));
}

#endif  // DCACCEL_LEVEL == 0
