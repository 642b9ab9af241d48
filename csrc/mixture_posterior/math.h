// Formulas of mixture_posterior, one source for every kernel. Plain C++: no torch, no loops over rows.
//
//   l_ik     = a_k - (1/2) sum_f ((z_if - m_kf) e_kf)^2,    a_k = log w_k - (1/2) sum_f v_kf,    e = exp(-v / 2)
//   log r_ik = l_ik - log sum_l exp(l_il)
//
// z rows, log w log-weights up to a constant, m means, v log-variances; the largest l_ik of a row is subtracted first.
//
//   S_ik         = dloss/dl_ik = g_ik - r_ik sum_l g_il,                        g = dloss/dlog r
//   dloss/dz_if  = -sum_k S_ik (z_if - m_kf) e_kf^2          dloss/dlog w_k = sum_i S_ik
//   dloss/dm_kf  = e_kf^2 sum_i S_ik (z_if - m_kf)
//   dloss/dv_kf  = (1/2) sum_i S_ik ((z_if - m_kf)^2 e_kf^2 - 1)
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/elementary.h"

namespace dcaccel::mixture_posterior {

// e from v.
template <class A>
DC_HD A scale(A log_variance) {
  return exp(A(-0.5) * log_variance);
}

// -2 a: the sum of squares begins here, so that l is -1/2 times it.
template <class A>
DC_HD A start(A log_weight, A sum_of_log_variances) {
  return sum_of_log_variances - A(2) * log_weight;
}

template <class A>
DC_HD A score(A sum_of_squares) {
  return sum_of_squares * A(-0.5);
}

// S, from the sum of g over the clusters.
template <class A>
DC_HD A slope(A g, A log_r, A sum_g) {
  return g - exp(log_r) * sum_g;
}

}  // namespace dcaccel::mixture_posterior
