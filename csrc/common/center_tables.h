// Rows and centers as the kernels over all (row, center) pairs see them; shared by the host and every instruction set.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "hd.h"
#include "view.h"

namespace dcaccel {

// Rows handled together: their values for all centers stay in L1 or L2, and sums over them are the longest that are
// kept in T (more rows cost digits, fewer repeat the work of a tile).
constexpr int64_t kRowTile = 32;

// Tables are padded to 64 bytes, the widest vector, so that one packing serves every instruction set.
template <class T>
DC_HD constexpr int64_t padded(int64_t count) {
  constexpr int64_t lanes = 64 / sizeof(T);
  return (count + lanes - 1) / lanes * lanes;
}

// K centers of D features, each table padded with zeros. `start` is where the sum over features of a center begins; it
// is infinite behind the last center, which keeps the padding out of every minimum and every softmax.
template <class T>
struct Centers {
  int64_t k, d;
  const T *columns, *rows;              // [d][kp] and [kp][dp]
  const T *scale_columns, *scale_rows;  // the same of 1 / sigma and of 1 / sigma^2, or null
  const T* start;                       // [kp]

  DC_HD int64_t kp() const { return padded<T>(k); }
  DC_HD int64_t dp() const { return padded<T>(d); }
};

// Cuts scratch memory into pieces that start on a cache line.
template <class T>
struct Cutter {
  T* rest;
  DC_HD T* take(int64_t count) {
    T* const piece = rest;
    rest += padded<T>(count);
    return piece;
  }
};

}  // namespace dcaccel
