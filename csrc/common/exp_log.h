// exp, log and log1p of vectors. NaN stays NaN. tests/ops/test_exp_log.py bounds the errors on every instruction set.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "elementary.h"
#include "vec.h"

namespace dcaccel::DCACCEL_ISA {

// What differs between float and double. Bits are added as unsigned `words`: lanes out of range, which are replaced or not
// used afterwards, may overflow. A number of `shift` size has its integer part in its last bits, so that adding
// and taking it away rounds, and its bits, read as an integer, count.
template <class T>
struct Exponent;
template <>
struct Exponent<float> {
  static constexpr float shift = 12582912.0f, ln2_high = 0.693359375f, ln2_low = -2.12194440055e-4f;
  static constexpr float lowest = -86.0f, highest = 88.0f;  // of exp, where the power of two is a normal number
  typedef unsigned words __attribute__((vector_size(DCACCEL_VECTOR_BYTES)));
  static constexpr int bits = 23, shift_bits = 0x4b400000, root_half_bits = 0x3f3504f3;
};
template <>
struct Exponent<double> {
  static constexpr double shift = 6755399441055744.0;
  static constexpr double ln2_high = 0.6931471805582987, ln2_low = 1.6465949582897081281e-12;
  static constexpr double lowest = -707.0, highest = 709.0;
  typedef unsigned long long words __attribute__((vector_size(DCACCEL_VECTOR_BYTES)));
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
  using Words = typename E::words;
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
  V out = V::of(typename V::raw(Words(y.v) + (Words(shifted.v) << E::bits)));
  out = select(x.v < V(E::lowest).v, V(), out);
  out = select(x.v > V(E::highest).v, V(T(__builtin_inff())), out);
  return select(x.v == x.v, out, x);
}

// log(x) + lost * inverse, for x >= 1; infinity stays. x = 2^e m with m in [sqrt(1/2), sqrt 2); log m = 2 atanh(s) with
// s = (m - 1) / (m + 1), = 2 s + s^3 R(s^2), R minimax (relative error of log m before rounding: 2.8e-9 and 4.5e-18).
template <class T>
DC_HD Vec<T> log(Vec<T> x, Vec<T> lost = Vec<T>(), Vec<T> inverse = Vec<T>()) {
  using V = Vec<T>;
  using E = Exponent<T>;
  using Words = typename E::words;
  const Words e = Words(typename V::mask(Words(x.v) - E::root_half_bits) >> E::bits);  // the sign goes along
  const V m = V::of(typename V::raw(Words(x.v) - (e << E::bits)));
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
  const V log_m = fma(s * t, r, fma(lost, inverse, s + s));
  return select(x.v < V(T(__builtin_inff())).v, fma(n, V(E::ln2_high), fma(n, V(E::ln2_low), log_m)), x);
}

#if DCACCEL_LEVEL == 2
// float has instructions here that split and join numbers and look up tables: half the work of the above.
template <>
DC_HD Vec<float> exp(Vec<float> x) {
  using V = Vec<float>;
  const __m512 in = _mm512_min_ps(_mm512_set1_ps(200), _mm512_max_ps(_mm512_set1_ps(-200), __m512(x.v)));  // NaN stays
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(in, _mm512_set1_ps(1.44269504f)), 0);
  const V negative = V() - V::of(typename V::raw(n));
  const V r = fma(negative, V(Exponent<float>::ln2_low), fma(negative, V(Exponent<float>::ln2_high), V::of(V::raw(in))));
  constexpr float c[] = {1.0f, 1.0f, 0.5000000027f, 0.1666657697f, 0.04166637513f, 0.008363181235f, 0.001394112413f};
  return V::of(typename V::raw(_mm512_scalef_ps(__m512(polynomial(c, r).v), n)));
}

// x = 2^n m with m in [1, 2); log m = log c + log(m / c) with c from the first five bits of m, c = 1 beside 1.
// log(1 + f) = f (1 + f P(f)), P minimax on [-1/66, 1/32] (relative error 8e-9 before rounding).
alignas(64) constexpr float kOneOver[32] = {
    1.0f, 0.955078125f, 0.927734375f, 0.9013671875f, 0.876953125f, 0.853515625f, 0.8310546875f, 0.81005859375f,
    0.7900390625f, 0.77099609375f, 0.7529296875f, 0.73583984375f, 0.71923828125f, 0.703125f, 0.68798828125f,
    0.673828125f, 0.65966796875f, 0.646484375f, 0.6337890625f, 0.62158203125f, 0.609375f, 0.59814453125f,
    0.5869140625f, 0.57666015625f, 0.56640625f, 0.556640625f, 0.546875f, 0.53759765625f, 0.52880859375f, 0.5205078125f,
    0.51220703125f, 0.50390625f};
alignas(64) constexpr float kLogs[32] = {
    0, 0.0459621356f, 0.075009821f, 0.103842571f, 0.131301737f, 0.15839143f, 0.185059677f, 0.210648696f, 0.235672889f,
    0.260071972f, 0.283783432f, 0.306742788f, 0.32956257f, 0.352220594f, 0.373983474f, 0.394780208f, 0.416018648f,
    0.43620625f, 0.456039089f, 0.475487388f, 0.495321437f, 0.513922863f, 0.532876871f, 0.55050217f, 0.568443702f,
    0.585835445f, 0.603535022f, 0.620644849f, 0.637128739f, 0.652950381f, 0.669026378f, 0.68536504f};

DC_HD __m512 look_up(const float (&table)[32], __m512i index) {
  return _mm512_permutex2var_ps(_mm512_load_ps(table), index, _mm512_load_ps(table + 16));
}

template <>
DC_HD Vec<float> log(Vec<float> x, Vec<float> lost, Vec<float> inverse) {
  using V = Vec<float>;
  const __m512 in = __m512(x.v), m = _mm512_getmant_ps(in, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
  const __m512i index = _mm512_srli_epi32(_mm512_castps_si512(m), 18);
  const V f = V::of(V::raw(_mm512_fmsub_ps(m, look_up(kOneOver, index), _mm512_set1_ps(1.0f))));
  const V log_c = fma(lost, inverse, V::of(V::raw(look_up(kLogs, index))));
  constexpr float c[] = {1.0f, -0.50000122f, 0.3333597f, -0.24373867f};
  return fma(V::of(V::raw(_mm512_getexp_ps(in))), V(0.693147181f), fma(f, polynomial(c, f), log_c));
}
#endif

// log(1 + x) for x >= 0, given 1 / (1 + x), without losing the digits of a small x: the rounding of 1 + x is made good.
// Infinity counts as 1e37 (1e300 in double).
template <class T>
DC_HD Vec<T> log1p_positive(Vec<T> x, Vec<T> inverse) {
  using V = Vec<T>;
  const V most(T(sizeof(T) == 4 ? 1e37 : 1e300));
  x = least(most, x);
  const V u = x + V(T(1));
  return log(u, x - (u - V(T(1))), inverse);
}

// The same for any x >= 0; infinity stays.
template <class T>
DC_HD Vec<T> log1p(Vec<T> x) {
  return select(x < Vec<T>(T(__builtin_inff())), log1p_positive(x, reciprocal(x + Vec<T>(T(1)))), x);
}

}  // namespace dcaccel::DCACCEL_ISA
