// A vector of T as wide as the instruction set, on the compiler's vector extensions: the formulas of math.h run on
// Vec<T> as they run on T.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <utility>

#include "hd.h"
#include "isa.h"
#if DCACCEL_LEVEL > 0
#include <immintrin.h>
#endif

namespace dcaccel::DCACCEL_ISA {

template <class T>
struct Vec {
  using lane = T;
  static constexpr int size = DCACCEL_VECTOR_BYTES / sizeof(T);
  typedef T raw __attribute__((vector_size(DCACCEL_VECTOR_BYTES), may_alias));
  using mask = decltype(raw{} < raw{});
  raw v;

  DC_HD Vec() : v{} {}
  DC_HD Vec(T x) : v(x - raw{}) {}  // x - 0, unlike x + 0, folds to a plain broadcast
  static DC_HD Vec of(raw x) {
    Vec out;
    out.v = x;
    return out;
  }
  static DC_HD Vec load(const T* p) { return of(*reinterpret_cast<const raw*>(p)); }
  DC_HD void store(T* p) const { *reinterpret_cast<raw*>(p) = v; }
  friend DC_HD Vec operator+(Vec a, Vec b) { return of(a.v + b.v); }
  friend DC_HD Vec operator-(Vec a, Vec b) { return of(a.v - b.v); }
  friend DC_HD Vec operator*(Vec a, Vec b) { return of(a.v * b.v); }
  DC_HD Vec& operator+=(Vec b) { return v += b.v, *this; }
  friend DC_HD Vec fma(Vec a, Vec b, Vec c) { return of(a.v * b.v + c.v); }
  friend DC_HD mask operator<(Vec a, Vec b) { return a.v < b.v; }
  friend DC_HD mask operator<=(Vec a, Vec b) { return a.v <= b.v; }
  friend DC_HD Vec select(mask m, Vec a, Vec b) { return of(m ? a.v : b.v); }
};

// The smaller one; NaN where x is.
template <class T>
DC_HD Vec<T> least(Vec<T> limit, Vec<T> x) {
  return select(limit < x, limit, x);
}

template <class T>
DC_HD Vec<T> reciprocal(Vec<T> x) {
  return Vec<T>::of(Vec<T>(T(1)).v / x.v);
}

#if DCACCEL_LEVEL == 2
template <>
DC_HD Vec<float> least(Vec<float> limit, Vec<float> x) {  // vminps returns its second operand when one is NaN
  return Vec<float>::of(_mm512_min_ps(__m512(limit.v), __m512(x.v)));
}

// vrcp14 and one Newton step: half an ulp, and it leaves the divider alone. The clamp keeps 0 * inf out of the step.
template <>
DC_HD Vec<float> reciprocal(Vec<float> x) {
  const __m512 d = __m512(least(Vec<float>(1e37f), x).v);
  const __m512 y = _mm512_rcp14_ps(d);
  const __m512 e = _mm512_fnmadd_ps(d, y, _mm512_set1_ps(1.0f));
  return Vec<float>::of(_mm512_fmadd_ps(y, e, y));
}
#endif

// Lane numbers 0, 1, 2 … as T, exact for every width there is.
template <class T>
DC_HD Vec<T> lane_numbers() {
  return []<int... I>(std::integer_sequence<int, I...>) {
    return Vec<T>::of(typename Vec<T>::raw{T(I)...});
  }(std::make_integer_sequence<int, Vec<T>::size>());
}

// out[0..size) += x, in double. The intrinsics are for GCC, which splits a converting vector into quarters.
template <class T>
DC_HD void add_to(double* out, Vec<T> x) {
  if constexpr (sizeof(T) == 8) {
    (Vec<T>::load(out) + x).store(out);
  } else {
#if DCACCEL_LEVEL == 2
    const __m512 v = __m512(x.v);
    const __m256 low = _mm512_castps512_ps256(v), high = _mm512_extractf32x8_ps(v, 1);
    _mm512_store_pd(out, _mm512_add_pd(_mm512_load_pd(out), _mm512_cvtps_pd(low)));
    _mm512_store_pd(out + 8, _mm512_add_pd(_mm512_load_pd(out + 8), _mm512_cvtps_pd(high)));
#elif DCACCEL_LEVEL == 1
    const __m256 v = __m256(x.v);
    const __m128 low = _mm256_castps256_ps128(v), high = _mm256_extractf128_ps(v, 1);
    _mm256_store_pd(out, _mm256_add_pd(_mm256_load_pd(out), _mm256_cvtps_pd(low)));
    _mm256_store_pd(out + 4, _mm256_add_pd(_mm256_load_pd(out + 4), _mm256_cvtps_pd(high)));
#else
    alignas(DCACCEL_VECTOR_BYTES) T lanes[Vec<T>::size];
    x.store(lanes);
    for (int i = 0; i < Vec<T>::size; ++i) out[i] += lanes[i];
#endif
  }
}

// As many numbers as a vector of double holds.
template <class T>
DC_HD Vec<double> widen(const T* p) {
  if constexpr (sizeof(T) == 8) {
    return Vec<double>::load(p);
  } else {
#if DCACCEL_LEVEL == 2
    return Vec<double>::of(Vec<double>::raw(_mm512_cvtps_pd(_mm256_load_ps(p))));
#elif DCACCEL_LEVEL == 1
    return Vec<double>::of(Vec<double>::raw(_mm256_cvtps_pd(_mm_load_ps(p))));
#else
    return Vec<double>::of(Vec<double>::raw{p[0], p[1]});
#endif
  }
}

// The sum over lanes.
DC_HD double total(Vec<double> x) {
  double sum = 0;
  for (int i = 0; i < Vec<double>::size; ++i) sum += x.v[i];
  return sum;
}

// The two shuffles a transpose is made of: interleave groups of `Width` elements within 128-bit chunks (low or high
// half), and collect the even or the odd chunks of two vectors. Both are one instruction on x86.
template <class T, int Width, int High, int... I>
DC_HD typename Vec<T>::raw unpack(typename Vec<T>::raw a, typename Vec<T>::raw b, std::integer_sequence<int, I...>) {
  constexpr int chunk = 16 / sizeof(T), n = Vec<T>::size;
  constexpr auto from = [](int i) {
    const int in = i % chunk, group = in / Width;
    return i - in + High * (chunk / 2) + (group / 2) * Width + in % Width + (group % 2) * n;
  };
  return __builtin_shufflevector(a, b, from(I)...);
}

template <class T, int Odd, int... I>
DC_HD typename Vec<T>::raw every_other_chunk(typename Vec<T>::raw a, typename Vec<T>::raw b,
                                             std::integer_sequence<int, I...>) {
  constexpr int chunk = 16 / sizeof(T);
  return __builtin_shufflevector(a, b, ((I / chunk * 2 + Odd) * chunk + I % chunk)...);
}

// Transposes a square block held in registers: first within 128-bit chunks, then the chunks.
template <class T>
DC_HD void transpose(Vec<T> (&r)[Vec<T>::size]) {
  constexpr int n = Vec<T>::size, chunk = 16 / sizeof(T), chunks = n / chunk;
  constexpr auto all = std::make_integer_sequence<int, n>();
  using raw = typename Vec<T>::raw;
#pragma GCC unroll 16
  for (int g = 0; g < n; g += chunk) {
    if constexpr (chunk == 2) {
      const raw a = r[g].v, b = r[g + 1].v;
      r[g].v = unpack<T, 1, 0>(a, b, all), r[g + 1].v = unpack<T, 1, 1>(a, b, all);
    } else {
      const raw a = unpack<T, 1, 0>(r[g].v, r[g + 1].v, all), b = unpack<T, 1, 1>(r[g].v, r[g + 1].v, all);
      const raw c = unpack<T, 1, 0>(r[g + 2].v, r[g + 3].v, all), d = unpack<T, 1, 1>(r[g + 2].v, r[g + 3].v, all);
      r[g].v = unpack<T, 2, 0>(a, c, all), r[g + 1].v = unpack<T, 2, 1>(a, c, all);
      r[g + 2].v = unpack<T, 2, 0>(b, d, all), r[g + 3].v = unpack<T, 2, 1>(b, d, all);
    }
  }
#pragma GCC unroll 4
  for (int e = 0; e < chunk; ++e) {
    if constexpr (chunks == 2) {
      const raw a = r[e].v, b = r[e + chunk].v;
      r[e].v = every_other_chunk<T, 0>(a, b, all), r[e + chunk].v = every_other_chunk<T, 1>(a, b, all);
    } else if constexpr (chunks == 4) {
      const raw a = r[e].v, b = r[e + chunk].v, c = r[e + 2 * chunk].v, d = r[e + 3 * chunk].v;
      const raw even_ab = every_other_chunk<T, 0>(a, b, all), odd_ab = every_other_chunk<T, 1>(a, b, all);
      const raw even_cd = every_other_chunk<T, 0>(c, d, all), odd_cd = every_other_chunk<T, 1>(c, d, all);
      r[e].v = every_other_chunk<T, 0>(even_ab, even_cd, all);
      r[e + chunk].v = every_other_chunk<T, 0>(odd_ab, odd_cd, all);
      r[e + 2 * chunk].v = every_other_chunk<T, 1>(even_ab, even_cd, all);
      r[e + 3 * chunk].v = every_other_chunk<T, 1>(odd_ab, odd_cd, all);
    }
  }
}

}  // namespace dcaccel::DCACCEL_ISA
