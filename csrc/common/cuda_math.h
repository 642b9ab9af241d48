// exp and log1p on the ranges that Student-t similarities need. The device's approximate instructions
// would not do: a power of 50 makes of every error of a logarithm a fifty times larger one of the similarity.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "cuda_compat.h"
#include "elementary.h"
#include "half.h"
#include "reduced.h"

namespace dcaccel {

// exp(x) for x <= 0; below -87 it stays at the smallest normal number.
DC_HD float exp_negative(float x) {
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, left in the low bits
  x = x < -87.0f ? -87.0f : x;
  const float shifted = fma(x, 1.44269504f, magic), n = shifted - magic;
  const float r = fma(n, 2.12194440e-4f, fma(n, -0.693359375f, x));
  return exp_reduced(r) * float_of_bits((bits_of_float(shifted) << 23) + (127u << 23));
}

// log(1 + x) for x >= 0, given 1 / (1 + x), which brings back a NaN that the minimum loses; infinity counts as 1e38.
DC_HD float log1p_positive(float x, float reciprocal_of_one_plus_x) {
  constexpr float magic = 12582912.0f;
  x = DC_ELEMENTARY(fmin, f)(x, 1e38f);
  const float u = x + 1.0f, lost = (x - (u - 1.0f)) * reciprocal_of_one_plus_x;  // what rounding 1 + x has cut off
  const uint32_t bits = bits_of_float(u), exponent = (bits - 0x3f3504f3u) >> 23;  // of u / sqrt(1/2), not negative
  const float f = float_of_bits(bits - (exponent << 23)) - 1.0f;
  return log_reduced(f, float_of_bits(exponent + 0x4b400000u) - magic, lost);
}

DC_HD double exp_negative(double x) { return exp(x); }
DC_HD double log1p_positive(double x, double) { return log1p(x > 1e300 ? 1e300 : x); }

}  // namespace dcaccel
