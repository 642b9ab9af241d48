// Formulas of center_sums, one source for every kernel. Plain C++: no torch, no loops over rows.
//
//   sums_kf = sum_{i: index_i = k} x_if in double          counts_k = how many i there are
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "../common/hd.h"

namespace dcaccel::center_sums {

// Whether an index names a center. Rows whose index does not are left out; the caller finds them by the counts.
DC_HD bool names_center(int64_t index, int64_t k) { return index >= 0 && index < k; }

}  // namespace dcaccel::center_sums
