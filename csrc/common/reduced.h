// exp and log after the reduction of their argument, in float, for CUDA kernels.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "hd.h"

namespace dcaccel {

// exp(r) for |r| <= log(2) / 2; minimax for (exp(r) - 1 - r) / r^2: 3.3e-9 before rounding.
template <class A>
DC_HD A exp_reduced(A r) {
  A p(0.00138131450813f);
  p = fma(p, r, A(0.00836941883576f));
  p = fma(p, r, A(0.0416684567767f));
  p = fma(p, r, A(0.166665147914f));
  p = fma(p, r, A(0.499999930508f));
  return fma(p * r, r, r) + A(1.0f);
}

// n log 2 + log(1 + f) + lost for 1 + f in [sqrt(1/2), sqrt(2)] and a small lost; minimax for
// (log(1 + f) - f + f^2 / 2) / f^3: 5.8e-9 before rounding.
template <class A>
DC_HD A log_reduced(A f, A n, A lost) {
  A p(-0.0763450290965f);
  p = fma(p, f, A(0.127615773481f));
  p = fma(p, f, A(-0.131601804663f));
  p = fma(p, f, A(0.142017579983f));
  p = fma(p, f, A(-0.16623357535f));
  p = fma(p, f, A(0.200012268731f));
  p = fma(p, f, A(-0.250008210285f));
  p = fma(p, f, A(0.333333317078f));
  const A square = f * f;
  A y = fma(p * f, square, lost);
  y = fma(n, A(-2.12194440e-4f), y);
  y = fma(square, A(-0.5f), y) + f;
  return fma(n, A(0.693359375f), y);
}

}  // namespace dcaccel
