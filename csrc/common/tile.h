// How rows are packed for the pair kernels; shared by the host part and by every instruction set.
//
// A matrix (N, F) becomes tiles of kTile<T> rows, each tile stored feature by feature, zero behind row N: element
// (i, f) lies at (i / tile * F + f) * tile + i % tile. Rows are then contiguous for vectors and a feature of one row is
// a broadcast load.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

namespace dcaccel {

// A tile of S and its transpose must stay in 32 KiB of L1 together with the features of both sides: 64 rows of float
// are 16 KiB, 32 rows of double 8 KiB.
template <class T>
constexpr int64_t kTile = sizeof(T) == 4 ? 64 : 32;

}  // namespace dcaccel
