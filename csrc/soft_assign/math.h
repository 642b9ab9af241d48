// Formulas of soft_assign, one source for every kernel. Plain C++: no torch, no loops over rows.
//
//   d_ik = |z_i - c_k|^2          w_ik = (1 + d_ik / v)^(-(v + 1) / 2)          q_ik = w_ik / sum_l w_il
//
// v, the degrees of freedom, is one in most methods and then w_ik = 1 / (1 + d_ik). Otherwise all weights of a row are
// divided by that of its nearest center m, so that they cannot all underflow, and the logarithm is taken of a number
// near one for the centers that matter, whose rounding would otherwise be multiplied by the exponent:
//
//   log(w_ik / w_im) = -(v + 1) / 2 log(1 + (d_ik - d_im) / (v + d_im))
//
//   S_ik       = 2 dloss/dd_ik = -(v + 1) q_ik (g_ik - h_i) / (v + d_ik),       h_i = sum_l q_il g_il,  g = dloss/dq
//   dloss/dz_i = sum_k S_ik (z_i - c_k)                                 dloss/dc_k = -sum_i S_ik (z_i - c_k)
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/elementary.h"

namespace dcaccel::soft_assign {

// w for v = 1.
template <class A>
DC_HD A weight(A one_plus_d) {
  return reciprocal(one_plus_d);
}

// log(w_ik / w_im), from 1 / (v + d_im) and the constant -(v + 1) / 2.
template <class A>
DC_HD A score(A d, A nearest, A inverse, A power) {
  return power * log1p((d - nearest) * inverse);
}

// S, from the constant -(v + 1).
template <class A>
DC_HD A slope(A q, A g, A h, A dof_plus_d, A factor) {
  return factor * q * (g - h) * reciprocal(dof_plus_d);
}

}  // namespace dcaccel::soft_assign
