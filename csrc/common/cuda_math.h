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
  constexpr float magic = 12583039.0f;  // 1.5 * 2^23 + 127: adding it rounds; the low bits are an exponent of 2 then
  x = at_least(x, -87.0f);
  const float shifted = fma(x, 1.44269504f, magic), n = shifted - magic;
  const float r = fma(n, -kLogOfTwo, x);
  return exp_reduced(r) * float_of_bits(bits_of_float(shifted) << 23);
}

// log(1 + x) for x >= 0; infinity counts as 1e38. The second argument, 1 / (1 + x), is for the CPU's form (exp_log.h).
DC_HD float log1p_positive(float x, float) {
  x = at_most(x, 1e38f);
  const uint32_t power = (bits_of_float(x + 1.0f) - 0x3f3504f3u) & 0xff800000u;  // 2^23 n: 2^n (1 + f) = 1 + x
  const float scale = float_of_bits(0x3f800000u - power);                        // 2^-n
  return log_reduced(fma(x, scale, scale - 1.0f), float(int32_t(power)));        // 1 + x itself has lost digits
}

DC_HD double exp_negative(double x) { return exp(x); }
DC_HD double log1p_positive(double x, double) { return log1p(x > 1e300 ? 1e300 : x); }

}  // namespace dcaccel
