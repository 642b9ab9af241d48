// Formulas of nearest_center, one source for every kernel. Plain C++: no torch, no loops over rows.
//
//   index_i = the first k with the smallest d_ik = |x_i - c_k|^2          distance_i = d_ik
//
// A distance that is NaN or infinite is never the smallest; if all are, the answer is index 0 with its distance.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/hd.h"

namespace dcaccel::nearest_center {

// Whether candidate b is to be preferred to a, for candidates in any order.
template <class A, class Index>
DC_HD bool better(A distance_b, Index index_b, A distance_a, Index index_a) {
  return distance_b < distance_a || (distance_b == distance_a && index_b < index_a);
}

}  // namespace dcaccel::nearest_center
