// Loads and stores of a vector of float from any number type and any address.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <type_traits>

#include "../common/half.h"
#include "../common/vec.h"

namespace dcaccel::residual_block::DCACCEL_ISA {

using namespace dcaccel::DCACCEL_ISA;
using V = Vec<float>;

template <class S>
DC_HD V load(const S* from) {
  V out;
  if constexpr (sizeof(S) == 4) {
    __builtin_memcpy(&out.v, from, sizeof out);
#if DCACCEL_LEVEL == 2
  } else if constexpr (std::is_same_v<S, Fp16>) {
    out.v = V::raw(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
  } else if constexpr (std::is_same_v<S, Bf16>) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    out.v = V::raw(_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
#endif
  } else {
    float lanes[V::size];
    for (int i = 0; i < V::size; ++i) lanes[i] = to_float(from[i]);
    __builtin_memcpy(&out.v, lanes, sizeof out);
  }
  return out;
}

template <class S>
DC_HD void store(V x, S* to) {
  if constexpr (sizeof(S) == 4) {
    __builtin_memcpy(to, &x.v, sizeof x);
#if DCACCEL_LEVEL == 2
  } else if constexpr (std::is_same_v<S, Fp16>) {
    const __m256i half = _mm512_cvtps_ph(__m512(x.v), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), half);
  } else if constexpr (std::is_same_v<S, Bf16>) {  // as Bf16::of
    const __m512i bits = __m512i(x.v), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __mmask16 nan = _mm512_cmp_ps_mask(__m512(x.v), __m512(x.v), _CMP_UNORD_Q);
    const __m512i rounded = _mm512_mask_mov_epi32(_mm512_srli_epi32(up, 16), nan, _mm512_set1_epi32(0x7fc0));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(rounded));
#endif
  } else {
    float lanes[V::size];
    S rounded[V::size];
    __builtin_memcpy(lanes, &x.v, sizeof x);
    for (int i = 0; i < V::size; ++i) rounded[i] = of_float<S>(lanes[i]);
    __builtin_memcpy(to, rounded, sizeof rounded);
  }
}

// to = the transpose of from, of some rows and columns; a row of either begins `stride` after the one before.
template <class S>
void turn(const S* from, int64_t rows, int64_t columns, int64_t from_stride, S* to, int64_t to_stride) {
  const int64_t whole_rows = rows / V::size * V::size, whole_columns = columns / V::size * V::size;
  for (int64_t c = 0; c < whole_columns; c += V::size)
    for (int64_t r = 0; r < whole_rows; r += V::size) {
      V block[V::size];
#pragma GCC unroll 16
      for (int i = 0; i < V::size; ++i) block[i] = load(from + (r + i) * from_stride + c);
      transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < V::size; ++i) store(block[i], to + (c + i) * to_stride + r);
    }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c)
      to[c * to_stride + r] = from[r * from_stride + c];
}

}  // namespace dcaccel::residual_block::DCACCEL_ISA
