// What the host does for every kernel over rows and centers: packing, blocks of rows, sums of blocks. Host part only.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>

#include "center_tables.h"
#include "tensor.h"
#include "threads.h"

namespace dcaccel {

template <class T>
View<T> view(const Tensor& t) {
  return {static_cast<const T*>(t.const_data_ptr()), t.size(0) > 1 ? t.stride(0) : t.size(1), t.stride(1)};
}

// Centers packed as tables; with `Scaled`, room for their scales.
template <class T>
class PackedCenters {
 public:
  PackedCenters(const Tensor& centers, T start_of_sums, bool scaled)
      : k_(centers.size(0)), d_(centers.size(1)), kp_(padded<T>(k_)), dp_(padded<T>(d_)),
        memory_((scaled ? 2 : 1) * (d_ * kp_ + kp_ * dp_) + kp_) {
    memory_.zero();
    Cutter<T> cut{memory_.get()};
    start = cut.take(kp_);
    columns_ = cut.take(d_ * kp_), rows_ = cut.take(kp_ * dp_);
    if (scaled) scale_columns = cut.take(d_ * kp_), scale_rows = cut.take(kp_ * dp_);
    const View<T> from = view<T>(centers);
    for (int64_t c = 0; c < k_; ++c)
      for (int64_t f = 0; f < d_; ++f)
        columns_[f * kp_ + c] = rows_[c * dp_ + f] = from.data[c * from.row_stride + f * from.column_stride];
    std::fill(start, start + k_, start_of_sums);
    std::fill(start + k_, start + kp_, T(__builtin_inff()));
  }
  Centers<T> table() const { return {k_, d_, columns_, rows_, scale_columns, scale_rows, start}; }

  T *start = nullptr, *scale_columns = nullptr, *scale_rows = nullptr;

 private:
  int64_t k_, d_, kp_, dp_;
  Scratch<T> memory_;
  T *columns_ = nullptr, *rows_ = nullptr;
};

// Rows first..last of a block. Every block sums on its own and the sums are added in order, so their number depends on
// the sizes alone, or results would depend on the number of threads. A block has at least four times K rows, so that
// the sums of all blocks together are smaller than the rows.
struct Blocks {
  int64_t n, rows, count;

  Blocks(int64_t n_, int64_t k) : n(n_) {
    const int64_t least = std::max({int64_t(256), 4 * k, (n + 127) / 128});
    rows = (least + kRowTile - 1) / kRowTile * kRowTile;
    count = (n + rows - 1) / rows;
  }
  int64_t first(int64_t block) const { return block * rows; }
  int64_t last(int64_t block) const { return std::min(n, (block + 1) * rows); }
};

// body(block) for all blocks, in parallel.
template <class Body>
void for_blocks(const Blocks& blocks, const Body& body) {
  parallel(blocks.count, [](void* p, int64_t i) { (*static_cast<const Body*>(p))(i); }, const_cast<Body*>(&body));
}

// Sums of blocks, `size` each, added in order into those of the first, which are returned.
inline double* add_blocks(double* sums, int64_t count, int64_t size) {
  for (int64_t block = 1; block < count; ++block)
    for (int64_t i = 0; i < size; ++i) sums[i] += sums[block * size + i];
  return sums;
}

}  // namespace dcaccel
