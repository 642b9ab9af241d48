// Formulas of wasserstein_similarity, one source for every kernel. Plain C++: no torch, no loops over rows.
//
//   u_i  = [mu_i, sigma_i]                  d_ij = |u_i - u_j|^2               q_ij = 1 / (1 + d_ij)
//   s_k  = sum_i gamma_ik                   n_k  = max(s_k, 1e-8)              w_ij = sum_k gamma_ik gamma_jk / n_k
//   Z_i  = sum_j exp(q_ij)                  l_i  = log Z_i                     R_ik = sum_j q_ij gamma_jk
//   r_i  = sum_j w_ij = sum_k gamma_ik s_k / n_k                               Q_k  = sum_i gamma_ik R_ik
//
//   loss = c (sum_i r_i l_i - sum_k Q_k / n_k),                                c = 1/N^2 or 1/N
//
//   S_ij        = dloss/dd_ij + dloss/dd_ji = c q_ij^2 (2 w_ij - exp(q_ij) (r_i / Z_i + r_j / Z_j))
//   dloss/du_i  = 2 sum_j S_ij (u_i - u_j)
//   dloss/dg_mk = c (l_m s_k / n_k - 2 R_mk / n_k + [s_k >= 1e-8] Q_k / n_k^2 + [s_k < 1e-8] sum_i gamma_ik l_i / n_k)
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/hd.h"

namespace dcaccel::wasserstein_similarity {

constexpr double kSmallestCluster = 1e-8;                // n_k is clamped here, as in the reference
constexpr double kExpOfOne = 2.71828182845904523536;     // exp(q_ii): the diagonal is added exactly, not computed

// q from 1 + d.
template <class A>
DC_HD A similarity(A one_plus_d) {
  return reciprocal(one_plus_d);
}

// exp on [0, 1] only, the range of q, so a short polynomial around 1/2 serves (minimax of the relative error:
// 2.4e-8 in float, 4.8e-18 in double, before rounding).
template <class A>
DC_HD A exp_unit(A q) {
  const A x = q - A(0.5);
  if constexpr (sizeof(typename Lane<A>::type) == 4) {
    A p = A(0.00227206163945f);
    p = fma(p, x, A(0.0138808692116f));
    p = fma(p, x, A(0.0687078051438f));
    p = fma(p, x, A(0.274769577705f));
    p = fma(p, x, A(0.82435946911f));
    p = fma(p, x, A(1.64872179029f));
    return fma(p, x, A(1.64872128751f));
  } else {
    A p = A(3.426661258890943897e-9);
    p = fma(p, x, A(4.151766773827785637e-8));
    p = fma(p, x, A(4.5436154075131967951e-7));
    p = fma(p, x, A(4.5433677113951863196e-6));
    p = fma(p, x, A(4.0890898819196757363e-5));
    p = fma(p, x, A(3.2712724604192013434e-4));
    p = fma(p, x, A(2.2898906545273334543e-3));
    p = fma(p, x, A(1.3739343921798773607e-2));
    p = fma(p, x, A(6.8696719612458682302e-2));
    p = fma(p, x, A(0.27478687845004283437));
    p = fma(p, x, A(0.82436063535006508471));
    p = fma(p, x, A(1.6487212707001279607));
    return fma(p, x, A(1.6487212707001281433));
  }
}

// S_ij / c from twice w_ij and the two r / Z.
template <class A>
DC_HD A pull(A q, A exp_q, A twice_w, A share_i, A share_j) {
  return q * q * (twice_w - exp_q * (share_i + share_j));
}

// What is the same for all rows of a cluster: dloss/dg_mk / c = at_log l_m - at_r R_mk + rest.
struct ClusterSlope {
  double at_log, at_r, rest;

  // `same_cluster` is Q_k, `entropy` is sum_i gamma_ik l_i.
  DC_HD ClusterSlope(double s, double n, double same_cluster, double entropy)
      : at_log(s / n), at_r(2.0 / n), rest(s < kSmallestCluster ? entropy / n : same_cluster / (n * n)) {}
  DC_HD double operator()(double l, double r) const { return at_log * l - at_r * r + rest; }
};

}  // namespace dcaccel::wasserstein_similarity
