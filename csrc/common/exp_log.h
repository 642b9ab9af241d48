// exp, log and log1p of vectors. Largest errors found on any instruction set, in units in the last place: exp 1.05
// (float, 2 million numbers between the limits) and 1.0 (double, 40,000), log 0.57 (the integers to 3000). NaN stays
// NaN. tests/ops/test_exp_log.py bounds them.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "elementary.h"
#include "vec.h"

namespace dcaccel::DCACCEL_ISA {

// What differs between float and double. A number of `shift` size has its integer part in its last bits, so that adding
// and taking it away rounds, and its bits, read as an integer, count.
template <class T>
struct Exponent;
template <>
struct Exponent<float> {
  static constexpr float shift = 12582912.0f, ln2_high = 0.693359375f, ln2_low = -2.12194440055e-4f;
  static constexpr float lowest = -86.0f, highest = 88.0f;  // of exp, where the power of two is a normal number
  static constexpr int bits = 23, shift_bits = 0x4b400000, root_half_bits = 0x3f3504f3;
};
template <>
struct Exponent<double> {
  static constexpr double shift = 6755399441055744.0;
  static constexpr double ln2_high = 0.6931471805582987, ln2_low = 1.6465949582897081281e-12;
  static constexpr double lowest = -707.0, highest = 709.0;
  static constexpr long long bits = 52, shift_bits = 0x4338000000000000, root_half_bits = 0x3fe6a09e667f3bcd;
};

// The coefficients are in ascending order; the loop is unrolled.
template <class T, int N>
DC_HD Vec<T> polynomial(const T (&coefficients)[N], Vec<T> x) {
  Vec<T> p(coefficients[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) p = fma(p, x, Vec<T>(coefficients[i]));
  return p;
}

// 0 below Exponent::lowest, infinite above Exponent::highest. x = n ln 2 + r; e^r = 1 + r + r^2 P(r), P minimax on
// |r| <= ln 2 / 2 (error of e^r before rounding: 1.1e-8 in float, 1.8e-17 in double).
template <class T>
DC_HD Vec<T> exp(Vec<T> x) {
  using V = Vec<T>;
  using E = Exponent<T>;
  using Bits = typename V::mask;
  const V shifted = fma(x, V(T(1.442695040888963407)), V(E::shift)), n = shifted - V(E::shift);
  const V r = fma(n, V(-E::ln2_low), fma(n, V(-E::ln2_high), x));
  V p;
  if constexpr (sizeof(T) == 4) {
    constexpr float c[] = {0.5000000027f, 0.1666657697f, 0.04166637513f, 0.008363181235f, 0.001394112413f};
    p = polynomial(c, r);
  } else {
    constexpr double c[] = {0.50000000000000010223,   0.16666666666666674529,   0.041666666666624123852,
                            0.0083333333333222087606, 0.0013888888917215383774, 0.00019841269886586277474,
                            2.4801521293745645704e-5, 2.7557242342237328091e-6, 2.76200893617774943e-7,
                            2.5110047746466712056e-8};
    p = polynomial(c, r);
  }
  const V y = fma(r * r, p, r) + V(T(1));
  V out = V::of(typename V::raw(Bits(y.v) + (Bits(shifted.v) << E::bits)));
  out = select(x.v < V(E::lowest).v, V(), out);
  out = select(x.v > V(E::highest).v, V(T(__builtin_inff())), out);
  return select(x.v == x.v, out, x);
}

// For normal x > 0; infinity stays. x = 2^e m with m in [sqrt(1/2), sqrt 2); log m = 2 atanh(s) with
// s = (m - 1) / (m + 1), = 2 s + s^3 R(s^2), R minimax (relative error of log m before rounding: 2.8e-9 and 4.5e-18).
template <class T>
DC_HD Vec<T> log(Vec<T> x) {
  using V = Vec<T>;
  using E = Exponent<T>;
  using Bits = typename V::mask;
  const Bits e = (Bits(x.v) - E::root_half_bits) >> E::bits;
  const V m = V::of(typename V::raw(Bits(x.v) - (e << E::bits)));
  const V n = V::of(typename V::raw(e + E::shift_bits)) - V(E::shift);
  const V s = V::of((m - V(T(1))).v / (m + V(T(1))).v), t = s * s;
  V r;
  if constexpr (sizeof(T) == 4) {
    constexpr float c[] = {0.6666668528f, 0.3998871427f, 0.2958225504f};
    r = polynomial(c, t);
  } else {
    constexpr double c[] = {0.66666666666666697313, 0.39999999999898382381, 0.28571428626427427448,
                            0.22222211068255811539, 0.18182893551853724106, 0.15331585912281792871,
                            0.14618008980788831881};
    r = polynomial(c, t);
  }
  const V log_m = fma(s * t, r, s + s);
  return select(x.v < V(T(__builtin_inff())).v, fma(n, V(E::ln2_high), fma(n, V(E::ln2_low), log_m)), x);
}

// log(1 + x) for x >= 0, without losing the digits of a small x: the rounding of 1 + x is made good.
template <class T>
DC_HD Vec<T> log1p(Vec<T> x) {
  using V = Vec<T>;
  const V u = x + V(T(1)), lost = x - (u - V(T(1)));
  return select(x.v < V(T(__builtin_inff())).v, log(u) + V::of(lost.v / u.v), x);
}

}  // namespace dcaccel::DCACCEL_ISA
