// The half-precision types as kernels see them: stored in 16 bits, computed in float. Plain integer arithmetic.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "hd.h"

namespace dcaccel {

DC_HD float float_of_bits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
DC_HD uint32_t bits_of_float(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

// 8 bits of exponent, as in float.
struct Bf16 {
  uint16_t bits;

  DC_HD float to_float() const { return float_of_bits(uint32_t(bits) << 16); }
  static DC_HD Bf16 of(float x) {  // to nearest, ties to even
    const uint32_t b = bits_of_float(x), rounded = (b + 0x7fffu + ((b >> 16) & 1)) >> 16;
    return {uint16_t((b & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded)};
  }
};

// IEEE binary16.
struct Fp16 {
  uint16_t bits;

  DC_HD float to_float() const {
    const uint32_t sign = uint32_t(bits & 0x8000u) << 16, rest = uint32_t(bits & 0x7fffu) << 13;
    const uint32_t value = bits_of_float(float_of_bits(rest) * 0x1p112f);  // subnormal numbers come out right
    return float_of_bits(sign | (rest >= 0x0f800000u ? rest | 0x7f800000u : value));
  }
  static DC_HD Fp16 of(float x) {  // to nearest, ties to even
    const uint32_t b = bits_of_float(x), sign = (b >> 16) & 0x8000u, size = b & 0x7fffffffu;
    const uint32_t special = size > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t small = bits_of_float(float_of_bits(size) + 0.5f) - 0x3f000000u;  // the sum rounds it
    const uint32_t normal = (size + 0xc8000fffu + ((size >> 13) & 1)) >> 13;
    return {uint16_t(sign | (size >= 0x47800000u ? special : size < 0x38800000u ? small : normal))};
  }
};

DC_HD float to_float(float x) { return x; }
DC_HD double to_float(double x) { return x; }
DC_HD float to_float(Bf16 x) { return x.to_float(); }
DC_HD float to_float(Fp16 x) { return x.to_float(); }

template <class S, class A>
DC_HD S of_float(A x) {
  if constexpr (sizeof(S) >= 4) return x;
  else return S::of(x);
}

// The type in which numbers of a type are computed with.
template <class S>
struct Compute {
  using type = float;
};
template <>
struct Compute<double> {
  using type = double;
};

}  // namespace dcaccel
