// exp and log1p on the ranges that Student-t similarities need, for Vec<float>; Vec<double> goes lane by lane through libm.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "reduced.h"
#include "vec.h"

namespace dcaccel::DCACCEL_ISA {

typedef int32_t Ints __attribute__((vector_size(DCACCEL_VECTOR_BYTES), may_alias));

// exp(x) for x <= 0, relative error below 1e-7; below -87 it stays at the smallest normal number.
DC_HD Vec<float> exp_negative(Vec<float> x) {
  using V = Vec<float>;
  const V low(-87.0f), magic(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, left in the low bits
  x = select(x.v < low.v, low, x);
  const V shifted = fma(x, V(1.44269504f), magic), n = shifted - magic;
  V r = fma(n, V(-0.693359375f), x);  // log 2 in two parts, the first exact in nine bits
  r = fma(n, V(2.12194440e-4f), r);
  const Ints power = ((Ints)shifted.v << 23) + (127 << 23);
  return exp_reduced(r) * V::of((V::raw)power);
}

// log(1 + x) for x >= 0, relative error below 2e-7, given 1 / (1 + x); infinity counts as 1e38.
DC_HD Vec<float> log1p_positive(Vec<float> x, Vec<float> reciprocal_of_one_plus_x) {
  using V = Vec<float>;
  x = select(x.v > V(1e38f).v, V(1e38f), x);
  const V u = x + V(1.0f), lost = (x - (u - V(1.0f))) * reciprocal_of_one_plus_x;  // what rounding 1 + x has cut off
  const Ints bits = (Ints)u.v, exponent = (bits - 0x3f3504f3) >> 23;             // of u / sqrt(1/2)
  const V f = V::of((V::raw)(bits - (exponent << 23))) - V(1.0f);
  const V n = V::of(__builtin_convertvector(exponent, typename V::raw));
  return log_reduced(f, n, lost);
}

DC_HD Vec<double> exp_negative(Vec<double> x) {
  for (int i = 0; i < Vec<double>::size; ++i) x.v[i] = __builtin_exp(x.v[i]);
  return x;
}
DC_HD Vec<double> log1p_positive(Vec<double> x, Vec<double>) {
  for (int i = 0; i < Vec<double>::size; ++i) x.v[i] = __builtin_log1p(x.v[i] > 1e300 ? 1e300 : x.v[i]);
  return x;
}

}  // namespace dcaccel::DCACCEL_ISA
