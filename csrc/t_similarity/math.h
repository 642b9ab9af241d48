// Formulas of t_similarity, one source for every kernel. Plain C++: no torch, no loops over rows.
//
//   x_ij = |z_i - z_j|^2 / a     lp_ij = -(a+1)/2 log(1 + x_ij)     p~_ij = exp(lp_ij)     P_i = sum_j p~_ij
//   y_ij = |e_i - e_j|^2 / b     lq_ij = -(b+1)/2 log(1 + y_ij)     q~_ij = exp(lq_ij)     Q_i = sum_j q~_ij
//   X_i  = sum_j p~_ij lq_ij     m_i = X_i / P_i, the mean of lq under p
//
//   "rows":    loss = sum_i (log Q_i - m_i)
//   "global":  the same formula for one "row" of all pairs: P = sum_i P_i, Q, X; loss = log Q - X / P. P_i, Q_i and m_i
//              below are then P, Q and X / P for every i.
//
//   S^e_ij = (b+1)/b 1/(1+y) [p~ (1/P_i + 1/P_j) - q~ (1/Q_i + 1/Q_j)]         dloss/de_i = sum_j S^e_ij (e_i - e_j)
//   S^z_ij = (a+1)/a 1/(1+x) p~ [(lq - m_i) / P_i + (lq - m_j) / P_j]          dloss/dz_i = sum_j S^z_ij (z_i - z_j)
//
// p~ spans many orders of magnitude when a is large. Where the largest of a sum is not known to be one (the pair i = j, if
// it takes part), sums are taken relative to it: exp(lp - M), with M_i over the pairs of a row ("rows") or M over all.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/hd.h"

namespace dcaccel::t_similarity {

// 1 / (1 + x) and lp of a pair, from x.
template <class A>
struct Student {
  A inverse, log;

  DC_HD Student(A x, A power) : inverse(reciprocal(x + A(1))), log(A(0) - power * log1p_positive(x, inverse)) {}
};

// S^e / ((b+1)/b) and S^z / ((a+1)/a) where p~ and q~ are the same seen from i and from j; arguments are sums over i and j of
// 1/P, 1/Q and m/P.
template <class A>
DC_HD A pull_e(A inverse_y, A p, A q, A one_over_p, A one_over_q) {
  return inverse_y * (p * one_over_p - q * one_over_q);
}
template <class A>
DC_HD A pull_z(A inverse_x, A p, A lq, A one_over_p, A m_over_p) {
  return inverse_x * p * (lq * one_over_p - m_over_p);
}

// The same from the probabilities p_i = p~/P_i, p_j = p~/P_j, q_i, q_j.
template <class A>
DC_HD A pull_e_of_rows(A inverse_y, A p_i, A p_j, A q_i, A q_j) {
  return inverse_y * ((p_i + p_j) - (q_i + q_j));
}
template <class A>
DC_HD A pull_z_of_rows(A inverse_x, A p_i, A p_j, A lq, A m_i, A m_j) {
  return inverse_x * (p_i * (lq - m_i) + p_j * (lq - m_j));
}

}  // namespace dcaccel::t_similarity
