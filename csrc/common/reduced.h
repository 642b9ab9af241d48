// exp and log after the reduction of their argument, in float, for CUDA kernels.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "hd.h"

namespace dcaccel {

constexpr float kLogOfTwo = 0.693147182f;  // off by 3e-9 of itself, a twentieth of what rounding to float may be

// exp(r) for |r| <= log(2) / 2; minimax for (exp(r) - 1 - r) / r^2: 3.3e-9 before rounding.
template <class A>
DC_HD A exp_reduced(A r) {
  A p(0.00138131450813f);
  p = fma(p, r, A(0.00836941883576f));
  p = fma(p, r, A(0.0416684567767f));
  p = fma(p, r, A(0.166665147914f));
  p = fma(p, r, A(0.499999930508f));
  return fma(fma(p, r, A(1.0f)), r, A(1.0f));
}

// n log 2 + log(1 + f) for 1 + f in [sqrt(1/2), sqrt(2)], given 2^23 n; minimax for
// (log(1 + f) - f + f^2 / 2) / f^3: 5.8e-9 before rounding.
template <class A>
DC_HD A log_reduced(A f, A power) {
  A p(-0.0763450290965f);
  p = fma(p, f, A(0.127615773481f));
  p = fma(p, f, A(-0.131601804663f));
  p = fma(p, f, A(0.142017579983f));
  p = fma(p, f, A(-0.16623357535f));
  p = fma(p, f, A(0.200012268731f));
  p = fma(p, f, A(-0.250008210285f));
  p = fma(p, f, A(0.333333317078f));
  return fma(power, A(kLogOfTwo / 8388608.0f), fma(fma(p, f, A(-0.5f)), f * f, f));
}

}  // namespace dcaccel
