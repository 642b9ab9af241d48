// Products of matrices of words in registers, and how words are stored, for one instruction set.
//
// Words are one float, or `N` = 2 bfloat16 that follow each other in the sum: two channels of a tile in a convolution,
// two tiles in a weight's gradient. CPUs that multiply pairs do so for gradients of bfloat16. Rounding the
// transforms adds some 0.4 % to a gradient's error; forward it would put three times as many results of relu on the
// wrong side of zero, which costs gradients much more, so there products stay float.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "lanes.h"

namespace dcaccel::residual_block {

constexpr int64_t kPanel = 32;  // channels; two vectors of AVX-512

namespace DCACCEL_ISA {

constexpr int kVectors = kPanel / V::size;
// Rows of a product in registers: with their kVectors columns 16 sums of 32 registers, or 8 of 16.
constexpr int kRows = DCACCEL_LEVEL == 2 ? 8 : DCACCEL_LEVEL == 1 ? 2 : 1;

// sum + left * right, a word of `left` for all lanes.
template <int N>
DC_HD V multiply_add(const float* left, V right, V sum) {
#if DCACCEL_LEVEL == 2
  if constexpr (N == 2) {
    int32_t word;
    __builtin_memcpy(&word, left, 4);
    return V::of(V::raw(_mm512_dpbf16_ps(__m512(sum.v), __m512bh(_mm512_set1_epi32(word)), __m512bh(right.v))));
  }
#endif
  return fma(V(*left), right, sum);
}

// Stores x as the numbers `odd` (0 or 1) of words; the even ones clear the others and come first.
template <int N>
DC_HD void store_words(V x, float* to, int64_t odd) {
#if DCACCEL_LEVEL == 2
  if constexpr (N == 2) {
    const __m512i bits = _mm512_cvtepu16_epi32(__m256i(_mm512_cvtneps_pbh(__m512(x.v))));
    const __m512i both = odd ? _mm512_or_si512(_mm512_slli_epi32(bits, 16), _mm512_loadu_si512(to)) : bits;
    return _mm512_storeu_si512(to, both);
  }
#endif
  store(x, to);
}

// Stores x as consecutive numbers, the first one `at`.
template <int N>
DC_HD void store_numbers(V x, float* to, int64_t at) {
#if DCACCEL_LEVEL == 2
  if constexpr (N == 2) {
    const __m256i bits = __m256i(_mm512_cvtneps_pbh(__m512(x.v)));
    return _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + at / 2), bits);
  }
#endif
  store(x, to + at);
}

// c[r] (+)= sum_k a(r, k) b[k] for Rows rows of a panel; a(r, k) at k * AK + r * AR of panels of `depth` words k each,
// `a_panel` apart. b and c have rows of kPanel words.
template <int N, int Rows, int AR, int AK, bool Add>
DC_HD void product(const float* a, int64_t a_panel, const float* b, int64_t panels, int64_t depth, float* c) {
  V sum[Rows][kVectors];
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Add ? load(c + r * kPanel + v * V::size) : V(0);
  for (int64_t p = 0; p < panels; ++p, a += a_panel) {
    const float* ak = a;
    for (int64_t k = 0; k < depth; ++k, ak += AK, b += kPanel) {
      V column[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) column[v] = load(b + v * V::size);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sum[r][v] = multiply_add<N>(ak + r * AR, column[v], sum[r][v]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < kVectors; ++v) store(sum[r][v], c + r * kPanel + v * V::size);
}

}  // namespace DCACCEL_ISA
}  // namespace dcaccel::residual_block
