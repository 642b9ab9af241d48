// Formulas of residual_block, one source for every kernel. Plain C++: no torch, no loops over pixels.
//
//   h   = relu(conv(x, W1) + b1)                          out = relu(x + conv(h, W2) + b2)
//   g   = grad [out > 0]                                  what passes the outer relu: also the gradient of the skip
//   g_h = conv'(g, W2) [h > 0]                            conv' is the convolution with W turned and transposed
//   dx  = g + conv'(g_h, W1)                              dW2 = corr(h, g), dW1 = corr(x, g_h)
//   db2 = sum of g over rows and pixels                   db1 = sum of g_h
//
// Neither pre-activation is needed: relu keeps what is positive, so the sign of its result tells the sign of its input.
// A NaN passes through both directions, as it does in torch.
//
// The convolutions of square tiles are computed with fewer products (Winograd, 1980): in one dimension
//   y = A^T ((G w) * (B^T d))                             d the pixels a tile reads, w three taps, y two results
// and in two dimensions the same for rows, then columns. All three matrices have few and small entries, so the result
// is as accurate as a direct sum within a small factor. Their transposes give the gradients:
//   dw = G^T ((A g) * (B^T d))                            corr of a tile, g its two results' gradients
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "../common/hd.h"

namespace dcaccel::residual_block {

// relu, and its gradient from its result.
template <class A>
DC_HD A relu(A x) {
  return select(x < A(0), A(0), x);
}
template <class A>
DC_HD A passed(A grad, A result) {
  return select(result <= A(0), A(0), grad);
}

// F(2, 3): tiles of 4 pixels at a distance of 2, the first one pixel outside of the image; 4 products for 6.
struct Overlapping {
  static constexpr int pixels = 4, points = 4, outside = 1;

  template <class A>
  static DC_HD void input(const A (&d)[4], A (&v)[4]) {  // B^T d
    v[0] = d[0] - d[2], v[1] = d[1] + d[2], v[2] = d[2] - d[1], v[3] = d[1] - d[3];
  }
  template <class A>
  static DC_HD void filter(const A (&w)[3], A (&u)[4]) {  // G w
    const A even = A(0.5f) * (w[0] + w[2]), odd = A(0.5f) * w[1];
    u[0] = w[0], u[1] = even + odd, u[2] = even - odd, u[3] = w[2];
  }
  template <class A>
  static DC_HD void output(const A (&m)[4], A (&y)[2]) {  // A^T m
    y[0] = m[0] + m[1] + m[2], y[1] = m[1] - m[2] - m[3];
  }
  template <class A>
  static DC_HD void spread(const A (&g)[2], A (&m)[4]) {  // A g
    m[0] = g[0], m[1] = g[0] + g[1], m[2] = g[0] - g[1], m[3] = A(0) - g[1];
  }
  template <class A>
  static DC_HD void taps(const A (&u)[4], A (&w)[3]) {  // G^T u
    const A even = A(0.5f) * (u[1] + u[2]);
    w[0] = u[0] + even, w[1] = A(0.5f) * (u[1] - u[2]), w[2] = even + u[3];
  }
};

// Images of at most 2 pixels: what lies outside is zero, and 3 products do for the 4 that are left of 6.
//   y0 = w1 (d0 + d1) + (w2 - w1) d1               y1 = w1 (d0 + d1) + (w0 - w1) d0
struct Alone {
  static constexpr int pixels = 2, points = 3, outside = 0;

  template <class A>
  static DC_HD void input(const A (&d)[2], A (&v)[3]) {
    v[0] = d[0] + d[1], v[1] = d[1], v[2] = d[0];
  }
  template <class A>
  static DC_HD void filter(const A (&w)[3], A (&u)[3]) {
    u[0] = w[1], u[1] = w[2] - w[1], u[2] = w[0] - w[1];
  }
  template <class A>
  static DC_HD void output(const A (&m)[3], A (&y)[2]) {
    y[0] = m[0] + m[1], y[1] = m[0] + m[2];
  }
  template <class A>
  static DC_HD void spread(const A (&g)[2], A (&m)[3]) {
    m[0] = g[0] + g[1], m[1] = g[0], m[2] = g[1];
  }
  template <class A>
  static DC_HD void taps(const A (&u)[3], A (&w)[3]) {
    w[0] = u[2], w[1] = u[0] - u[1] - u[2], w[2] = u[1];
  }
};

// A one-dimensional transform `Step` (From numbers to To) applied to the rows, then to the columns, of a square.
template <int From, int To, class A, class Step>
DC_HD void both_ways(const A (&from)[From][From], A (&to)[To][To], const Step& step) {
  A half[From][To];
  DC_UNROLL
  for (int i = 0; i < From; ++i) step(from[i], half[i]);
  DC_UNROLL
  for (int j = 0; j < To; ++j) {
    A column[From], out[To];
    DC_UNROLL
    for (int i = 0; i < From; ++i) column[i] = half[i][j];
    step(column, out);
    DC_UNROLL
    for (int i = 0; i < To; ++i) to[i][j] = out[i];
  }
}

}  // namespace dcaccel::residual_block
