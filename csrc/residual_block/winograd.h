// Convolutions of square tiles, for one instruction set: transform, multiply, transform back with the tail fused in.
//
// Pixels are stored channels last, channels a multiple of kPanel. Between the transforms lie `points`^2 matrices of
// tiles x channels, in panels: element (point, tile t, channel c) of T tiles at ((point * panels + c / 32) * T + t) * 32
// + c % 32. Both operands of every product are then read in the order in which they lie, in words of one number or two
// (product.h).
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "math.h"
#include "product.h"

namespace dcaccel::residual_block {

struct Images {
  int64_t h, w, panels;  // panels: channels / kPanel

  DC_HD int64_t channels() const { return panels * kPanel; }
  DC_HD int64_t tile_rows() const { return (h + 1) / 2; }
  DC_HD int64_t row_tiles() const { return (w + 1) / 2; }
};

// A range of panels, or of tile rows counted through all images.
struct Range {
  int64_t begin, end;

  DC_HD int64_t count() const { return end - begin; }
};

// Weights as the products want them, of the outputs in `outs`, a range of panels: element (point, in, out) at
// ((point * outs + out / 32) * channels + in) * 32 + out % 32, counted from the first out. `turned` gives the weights
// of the gradient: taps in reverse order, in and out exchanged. An item is a panel of outs and one of ins.
template <class S>
struct FilterTask {
  Images images;
  const S* weight;
  int64_t out_stride, in_stride, row_stride, column_stride;
  bool turned;
  Range outs;
  float* to;
};

// y = tail(conv(x)) in the channels of `outs`; x, y and `other` are images.
struct ConvTask {
  Images images;
  const void* x;
  const float* filter;
  Range outs;
  const void* bias;
  const void* other;  // what the tail reads besides: the skip, the result of the inner relu, or a gradient
  void* y;
};

// du += the gradient of the transformed weights from some tile rows, for a block of them: element (point, out, in) at
// ((point * ins + in / 32) * out channels + out) * 32 + in % 32, from the first. sums += the gradient of the bias.
struct WeightTask {
  Images images;
  const void* x;
  const void* grad;
  Range rows, ins, outs;
  float *v, *d;  // room for the transforms
  float* du;     // null: not wanted
  double* sums;  // of all channels; null: not wanted
};

template <class S>
struct TapsTask {
  Images images;
  Range ins, outs;
  const float* du;
  int64_t parts;  // that du has, one after the other
  S* to;
  int64_t out_stride, in_stride, row_stride, column_stride;
};

// g = grad [result > 0] for some numbers.
template <class S>
struct MaskTask {
  const S *grad, *result;
  S* to;
  int64_t count;
};

template <class S>
struct Kernels {
  void (*filter)(const FilterTask<S>&, int64_t item);
  // Of a range of tile rows; scratch: points^2 * its tiles * (channels + those of outs) floats.
  void (*hidden)(const ConvTask&, Range, float* scratch);  // y = relu(conv(x) + bias)
  void (*out)(const ConvTask&, Range, float* scratch);     // y = relu(other + conv(x) + bias)
  void (*behind)(const ConvTask&, Range, float* scratch);  // y = conv(x) [other > 0]
  void (*add)(const ConvTask&, Range, float* scratch);     // y = conv(x) + other
  void (*correlate)(const WeightTask&);
  void (*taps)(const TapsTask<S>&, int64_t in);
  void (*mask)(const MaskTask<S>&);
  void (*turn)(const S* from, int64_t rows, int64_t columns, int64_t from_stride, S* to, int64_t to_stride);
  int64_t points;
  int64_t numbers;  // in a word
};

namespace DCACCEL_ISA {

// Calls body(tile, image, y, x) for the tiles of a range, y and x the corner of a tile's two by two results.
template <class Body>
DC_HD void for_tiles(const Images& images, Range rows, const Body& body) {
  int64_t tile = 0;
  for (int64_t row = rows.begin; row < rows.end; ++row)
    for (int64_t x = 0; x < images.w; x += 2)
      body(tile++, row / images.tile_rows(), row % images.tile_rows() * 2, x);
}

// The pixels of a square of Size; null outside of the image.
template <int Size, class S>
DC_HD void square(const Images& images, S* image0, int64_t image, int64_t y, int64_t x, S* (&at)[Size][Size]) {
  for (int i = 0; i < Size; ++i)
    for (int j = 0; j < Size; ++j) {
      const bool inside = y + i >= 0 && y + i < images.h && x + j >= 0 && x + j < images.w;
      at[i][j] = inside ? image0 + ((image * images.h + y + i) * images.w + x + j) * images.channels() : nullptr;
    }
}

// v = B^T d B of the tiles of a range and of a range of panels, or A g A^T with `Spread`. `to` has T tiles; with
// `Tiles` words are of tiles and T is a multiple of N.
template <class Form, bool Spread, int N, bool Tiles, class S>
DC_HD void transform_in(const Images& images, const S* from, Range rows, Range panels, int64_t T, float* to) {
  constexpr int size = Spread ? 2 : Form::pixels, points = Form::points, shift = Spread ? 0 : Form::outside;
  const int64_t apart = panels.count() * T * kPanel / N;
  for_tiles(images, rows, [&](int64_t tile, int64_t image, int64_t y, int64_t x) {
    const S* at[size][size];
    square<size>(images, from, image, y - shift, x - shift, at);
    for (int64_t c = panels.begin * kPanel; c < panels.end * kPanel; c += V::size) {
      V d[size][size], v[points][points];
#pragma GCC unroll 4
      for (int i = 0; i < size; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < size; ++j) d[i][j] = at[i][j] ? load(at[i][j] + c) : V(0);
      both_ways<size, points>(d, v, [](const auto& a, auto& b) DC_INLINE {
        if constexpr (Spread) Form::spread(a, b);
        else Form::input(a, b);
      });
      const int64_t panel = c / kPanel - panels.begin;
      float* out = to + (panel * T / N + (Tiles ? tile / N : 0)) * kPanel;
#pragma GCC unroll 4
      for (int i = 0; i < points; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < points; ++j, out += apart) {
          if constexpr (Tiles) store_words<N>(v[i][j], out + c % kPanel, tile % N);
          else store_numbers<N>(v[i][j], out, tile * kPanel + c % kPanel);
        }
    }
  });
}

// tail(pixel pointers' offset, channel, value) for the results A^T m A of the tiles of a range.
template <class Form, class Tail>
DC_HD void transform_out(const Images& images, const float* from, Range rows, Range panels, int64_t T,
                         const Tail& tail) {
  constexpr int points = Form::points;
  const int64_t apart = panels.count() * T * kPanel;
  for_tiles(images, rows, [&](int64_t tile, int64_t image, int64_t y, int64_t x) {
    const int height = y + 1 < images.h ? 2 : 1, width = x + 1 < images.w ? 2 : 1;
    const int64_t corner = ((image * images.h + y) * images.w + x) * images.channels();
    for (int64_t c = panels.begin * kPanel; c < panels.end * kPanel; c += V::size) {
      const float* in = from + ((c / kPanel - panels.begin) * T + tile) * kPanel + c % kPanel;
      V m[points][points], out[2][2];
#pragma GCC unroll 4
      for (int i = 0; i < points; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < points; ++j) m[i][j] = load(in + (i * points + j) * apart);
      both_ways<points, 2>(m, out, [](const auto& a, auto& b) DC_INLINE { Form::output(a, b); });
      for (int i = 0; i < height; ++i)
        for (int j = 0; j < width; ++j) tail(corner + (i * images.w + j) * images.channels() + c, c, out[i][j]);
    }
  });
}

// The convolution of a range of tile rows; `tail` as above.
template <class Form, int N, class S, class Tail>
DC_HD void convolve(const ConvTask& task, Range rows, float* scratch, const Tail& tail) {
  constexpr int products = Form::points * Form::points, depth = kPanel / N;
  const Images& images = task.images;
  const int64_t T = rows.count() * images.row_tiles(), panels = images.panels, c = images.channels();
  const int64_t outs = task.outs.count();
  float *v = scratch, *m = scratch + products * T * c / N;
  transform_in<Form, false, N, false>(images, static_cast<const S*>(task.x), rows, {0, panels}, T, v);
  for (int64_t point = 0; point < products; ++point)
    for (int64_t p = 0; p < outs; ++p) {
      const float *a = v + point * T * c / N, *b = task.filter + (point * outs + p) * c * depth;
      float* to = m + (point * outs + p) * T * kPanel;
      int64_t t = 0;
      for (; t + kRows <= T; t += kRows)
        product<N, kRows, depth, 1, false>(a + t * depth, T * depth, b, panels, depth, to + t * kPanel);
      for (; t < T; ++t)
        product<N, 1, depth, 1, false>(a + t * depth, T * depth, b, panels, depth, to + t * kPanel);
    }
  transform_out<Form>(images, m, rows, task.outs, T, tail);
}

template <class Form, class S, int N>
void hidden(const ConvTask& task, Range rows, float* scratch) {
  const S* bias = static_cast<const S*>(task.bias);
  S* y = static_cast<S*>(task.y);
  convolve<Form, N, S>(task, rows, scratch, [=](int64_t at, int64_t c, V value) DC_INLINE {
    store(relu(value + load(bias + c)), y + at);
  });
}

template <class Form, class S, int N>
void out(const ConvTask& task, Range rows, float* scratch) {
  const S *bias = static_cast<const S*>(task.bias), *skip = static_cast<const S*>(task.other);
  S* y = static_cast<S*>(task.y);
  convolve<Form, N, S>(task, rows, scratch, [=](int64_t at, int64_t c, V value) DC_INLINE {
    store(relu(load(skip + at) + (value + load(bias + c))), y + at);
  });
}

template <class Form, class S, int N>
void behind(const ConvTask& task, Range rows, float* scratch) {
  const S* result = static_cast<const S*>(task.other);
  S* y = static_cast<S*>(task.y);
  convolve<Form, N, S>(task, rows, scratch, [=](int64_t at, int64_t, V value) DC_INLINE {
    store(passed(value, load(result + at)), y + at);
  });
}

template <class Form, class S, int N>
void add(const ConvTask& task, Range rows, float* scratch) {
  const S* g = static_cast<const S*>(task.other);
  S* y = static_cast<S*>(task.y);
  convolve<Form, N, S>(task, rows, scratch, [=](int64_t at, int64_t, V value) DC_INLINE {
    store(value + load(g + at), y + at);
  });
}

template <class Form, class S, int N>
void filter(const FilterTask<S>& task, int64_t item) {
  constexpr int points = Form::points;
  const int64_t channels = task.images.channels(), panels = task.images.panels;
  const int64_t panel = item / panels, first_k = item % panels * kPanel;
  const int64_t lane_stride = task.turned ? task.in_stride : task.out_stride;
  const int64_t k_stride = task.turned ? task.out_stride : task.in_stride;
  const S* first = task.weight + (task.outs.begin + panel) * kPanel * lane_stride;
  for (int64_t k = first_k; k < first_k + kPanel; ++k)
    for (int64_t lane = 0; lane < kPanel; lane += V::size) {
      float taps[3][3][V::size];
      const S* from = first + k * k_stride + lane * lane_stride;
      for (int l = 0; l < V::size; ++l, from += lane_stride)
        for (int i = 0; i < 3; ++i)
          for (int j = 0; j < 3; ++j) {
            const float tap = to_float(from[i * task.row_stride + j * task.column_stride]);
            (task.turned ? taps[2 - i][2 - j] : taps[i][j])[l] = tap;
          }
      V w[3][3], u[points][points];
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) w[i][j] = load(taps[i][j]);
      both_ways<3, points>(w, u, [](const auto& a, auto& b) DC_INLINE { Form::filter(a, b); });
      for (int i = 0; i < points; ++i)
        for (int j = 0; j < points; ++j) {
          const int64_t row = ((i * points + j) * task.outs.count() + panel) * channels + k;
          store_words<N>(u[i][j], task.to + row / N * kPanel + lane, k % N);
        }
    }
}

// sums += the gradients of some tile rows in the channels of `outs`.
template <class S>
void sum_pixels(const WeightTask& task) {
  const Images& images = task.images;
  for (int64_t c = task.outs.begin * kPanel; c < task.outs.end * kPanel; c += V::size) {
    V sum;
    for_tiles(images, task.rows, [&](int64_t, int64_t image, int64_t y, int64_t x) {
      const S* at[2][2];
      square<2>(images, static_cast<const S*>(task.grad), image, y, x, at);
      for (int i = 0; i < 4; ++i)
        if (at[i / 2][i % 2]) sum += load(at[i / 2][i % 2] + c);
    });
    float lanes[V::size];
    store(sum, lanes);
    for (int l = 0; l < V::size; ++l) task.sums[c + l] += lanes[l];
  }
}

template <class Form, class S, int N>
void correlate(const WeightTask& task) {
  constexpr int64_t products = Form::points * Form::points;
  const int64_t tiles = task.rows.count() * task.images.row_tiles(), T = (tiles + N - 1) / N * N;
  const int64_t ins = task.ins.count(), outs = task.outs.count(), depth = T / N;
  if (task.sums) sum_pixels<S>(task);
  if (!task.du) return;
  transform_in<Form, false, N, true>(task.images, static_cast<const S*>(task.x), task.rows, task.ins, T, task.v);
  transform_in<Form, true, N, true>(task.images, static_cast<const S*>(task.grad), task.rows, task.outs, T, task.d);
  for (int64_t point = 0; point < products; ++point)
    for (int64_t out = 0; out < outs; ++out)
      for (int64_t in = 0; in < ins; ++in) {
        const float* d = task.d + (point * outs + out) * depth * kPanel;
        const float* v = task.v + (point * ins + in) * depth * kPanel;
        float* to = task.du + ((point * ins + in) * outs + out) * kPanel * kPanel;
        for (int64_t r = 0; r < kPanel; r += kRows)
          product<N, kRows, 1, kPanel, true>(d + r, 0, v, 1, depth, to + r * kPanel);
      }
}

// For the panel `in` of ins.
template <class Form, class S>
void taps(const TapsTask<S>& task, int64_t in) {
  constexpr int points = Form::points;
  const int64_t ins = task.ins.count(), outs = task.outs.count() * kPanel;
  for (int64_t o = 0; o < outs; ++o)
    for (int64_t lane = 0; lane < kPanel; lane += V::size) {
      V u[points][points], w[3][3];
      for (int64_t part = 0; part < task.parts; ++part)
        for (int i = 0; i < points; ++i)
          for (int j = 0; j < points; ++j) {
            const int64_t point = part * points * points + i * points + j;
            u[i][j] += load(task.du + ((point * ins + in) * outs + o) * kPanel + lane);
          }
      both_ways<points, 3>(u, w, [](const auto& a, auto& b) DC_INLINE { Form::taps(a, b); });
      float lanes[9][V::size];
      for (int i = 0; i < 9; ++i) store(w[i / 3][i % 3], lanes[i]);
      S* to = task.to + (task.outs.begin * kPanel + o) * task.out_stride +
              ((task.ins.begin + in) * kPanel + lane) * task.in_stride;
      for (int l = 0; l < V::size; ++l, to += task.in_stride)
        for (int i = 0; i < 9; ++i)
          to[i / 3 * task.row_stride + i % 3 * task.column_stride] = of_float<S>(lanes[i][l]);
    }
}

template <class S>
void mask(const MaskTask<S>& task) {
  for (int64_t i = 0; i < task.count; i += V::size)
    store(passed(load(task.grad + i), load(task.result + i)), task.to + i);
}

template <class Form, class S, int N>
Kernels<S> kernels() {
  return {filter<Form, S, N>,    hidden<Form, S, N>, out<Form, S, N>, behind<Form, S, N>, add<Form, S, N>,
          correlate<Form, S, N>, taps<Form, S>,      mask<S>,         turn<S>,            Form::points,
          N};
}

// Called by the host part through this name, one for each level; `alone`: images of 2 x 2 pixels at most; `pairs`:
// products of bfloat16 where the CPU has them.
template <class S, int N = 1>
Kernels<S> kernels(bool alone) {
  return alone ? kernels<Alone, S, N>() : kernels<Overlapping, S, N>();
}
Kernels<float> kernels_float(bool alone) { return kernels<float>(alone); }
Kernels<Bf16> kernels_bf16(bool alone, [[maybe_unused]] bool pairs) {
#if DCACCEL_LEVEL == 2
  if (pairs && __builtin_cpu_supports("avx512bf16")) return kernels<Bf16, 2>(alone);
#endif
  return kernels<Bf16>(alone);
}
Kernels<Fp16> kernels_fp16(bool alone) { return kernels<Fp16>(alone); }

}  // namespace DCACCEL_ISA
}  // namespace dcaccel::residual_block
