// The order of the passes of residual_block with our own convolutions, and their scratch. Host part only.
//
// A step holds x, hidden, out and their gradients. What it holds besides is bounded: transformed weights of a group of
// channels, transformed tiles of a few images for every thread and, where weights are large, one tensor of images.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <atomic>
#include <optional>
#include <vector>

#include "../common/tensor.h"
#include "../common/threads.h"
#include "winograd.h"

namespace dcaccel::residual_block {

// body(item) for all items, in parallel.
template <class Body>
void each(int64_t items, const Body& body) {
  parallel(items, [](void* p, int64_t item) { (*static_cast<const Body*>(p))(item); }, const_cast<Body*>(&body));
}

int64_t pieces(int64_t count, int64_t step) { return (count + step - 1) / step; }

// Floats of the transformed weights and of a thread's transformed tiles: both stay in L2.
constexpr int64_t kFilterRoom = 300000, kTileRoom = 65536;
// A thread's block of a weight's gradient, in panels, and its tiles at once.
constexpr int64_t kBlockIns = 4, kBlockOuts = 2, kBlockTiles = 16;

// Sums of the weights' gradients that are added up side by side, so that threads need not wait for each other: some for
// every thread, or as many as take half the memory of one tensor of images, `numbers` floats, or none.
int64_t parts_of(int64_t numbers, int64_t weights) {
  const int64_t threads = torch::stable::get_num_threads(), room = numbers / (4 * weights);
  return room < threads ? 0 : std::min(4 * threads, room);
}

template <class S>
class Block {
 public:
  Block(const Tensor& x, const Kernels<S>& kernels)
      : count_(x.size(0)), planes_(x.stride(1) != 1), images_{x.size(2), x.size(3), x.size(1) / kPanel},
        kernels_(kernels), products_(kernels.points * kernels.points) {}

  void forward(const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2,
               const Tensor& hidden, const Tensor& out) const {
    S* const inner = data<S>(hidden);
    convolve(kernels_.hidden, {read(x), planes_}, w1, false, read(b1), nullptr, {inner, false});
    convolve(kernels_.out, {inner, false}, w2, false, read(b2), read(x), {data<S>(out), planes_});
  }

  struct Wanted {
    std::optional<Tensor> x, w1, b1, w2, b2;
  };

  void backward(const Tensor& x, const Tensor& hidden, const Tensor& out, const Tensor& w1, const Tensor& w2,
                const Tensor& grad, const Wanted& to) const {
    const Given given{read(x), read(hidden), read(out), read(grad)};
    const int64_t parts = parts_of(numbers(), products_ * channels() * channels());
    if (parts) by_parts(given, w1, w2, parts, to);
    else by_blocks(given, w1, w2, to);
  }

 private:
  struct Given {
    const S *x, *hidden, *out, *grad;
  };
  template <class T>
  struct Source {  // images; `planes`: contiguous, else channels last
    T* at;
    bool planes;
  };

  // Small weights: every part of the batch by one thread, which also sums its part of the weights' gradients. First
  // those of the second layer, then all below, so that the sums are not there at the same time.
  void by_parts(const Given& given, const Tensor& w1, const Tensor& w2, int64_t parts, const Wanted& to) const {
    if (to.w2 || to.b2)
      sum_parts(parts, to.w2, to.b2, [&](int64_t at, int64_t count, WeightTask& task, S* g, S*) {
        masked(given, at, count, g, task.v);
        task.x = given.hidden + at, task.grad = g;
      });
    if (!to.x && !to.w1 && !to.b1) return;
    const Tensor u2 = prepared(w2, true, all()), u1 = prepared(w1, true, to.x ? all() : Range{0, 0});
    sum_parts(parts, to.w1, to.b1, [&](int64_t at, int64_t count, WeightTask& task, S* g, S* g_hidden) {
      masked(given, at, count, g, task.v);
      in_rows(count, tiles(), [&](Range rows) {
        kernels_.behind({images_, g, data<float>(u2), all(), nullptr, given.hidden + at, g_hidden}, rows, task.v);
      });
      if (to.x) {
        S* const y = planes_ ? g : data<S>(*to.x) + at;  // over g: a result needs it at its own place only
        in_rows(count, tiles(), [&](Range rows) {
          kernels_.add({images_, g_hidden, data<float>(u1), all(), nullptr, g, y}, rows, task.v);
        });
        if (planes_) turn_out(g, count, all(), data<S>(*to.x) + at);
      }
      if (planes_ && to.w1) turn_in(given.x + at, count, all(), g);
      task.x = planes_ ? g : given.x + at, task.grad = g_hidden;
    });
  }

  // The sums over all images; fill(first number, images, task, two spares) says of what.
  template <class Fill>
  void sum_parts(int64_t parts, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                 const Fill& fill) const {
    const int64_t c = channels(), size = products_ * c * c, step = item_images(tiles());
    const Tensor du = empty<float>({weight ? parts * size : 0});
    if (weight) std::memset(data<float>(du), 0, parts * size * sizeof(float));
    std::vector<double> sums(bias ? parts * c : 0);
    const int64_t products = room_of(tiles(), images_.panels), half = products / kernels_.numbers;
    const int64_t room = half + std::max(products, image()), spare = step * image();
    const int64_t each_part = pieces(pieces(count_, step), parts) * step;
    with_scratch(pieces(count_, each_part), room + floats(2 * spare), [&](int64_t part, float* scratch) {
      WeightTask task{images_, nullptr, nullptr, {}, all(), all(), scratch, scratch + half,
                      weight ? data<float>(du) + part * size : nullptr, bias ? sums.data() + part * c : nullptr};
      const int64_t end = std::min(count_, (part + 1) * each_part);
      for (int64_t first = part * each_part; first < end; first += step) {
        const int64_t count = std::min(step, end - first);
        S* const g = reinterpret_cast<S*>(scratch + room);
        fill(first * image(), count, task, g, g + spare);
        in_rows(count, tiles(), [&](Range rows) { task.rows = rows, kernels_.correlate(task); });
      }
    });
    each(weight ? images_.panels : 0,
         [&](int64_t in) { kernels_.taps(taps_of(*weight, all(), all(), parts, data<float>(du)), in); });
    if (bias) write_bias(*bias, sums);
  }

  // Large weights: one pass after the other, over all images.
  void by_blocks(const Given& given, const Tensor& w1, const Tensor& w2, const Wanted& to) const {
    const Tensor own = empty<float>({to.x ? 0 : floats(numbers())});
    S* const g = to.x ? data<S>(*to.x) : reinterpret_cast<S*>(data<float>(own));  // in the layout of x
    constexpr int64_t step = 16384;
    each(pieces(numbers(), step), [&](int64_t i) {
      const int64_t at = i * step;
      kernels_.mask({given.grad + at, given.out + at, g + at, std::min(step, numbers() - at)});
    });
    correlate({given.hidden, false}, {g, planes_}, to.w2, to.b2);
    if (!to.x && !to.w1 && !to.b1) return;
    const Tensor below = empty<float>({floats(numbers())});
    S* const g_hidden = reinterpret_cast<S*>(data<float>(below));
    convolve(kernels_.behind, {g, planes_}, w2, true, nullptr, given.hidden, {g_hidden, false});
    correlate({given.x, planes_}, {g_hidden, false}, to.w1, to.b1);
    if (to.x) convolve(kernels_.add, {g_hidden, false}, w1, true, nullptr, g, {g, planes_});
  }

  // One convolution of all images, for a group of its results' channels after the other. `other` has the layout of y.
  void convolve(void (*run)(const ConvTask&, Range, float*), Source<const S> x, const Tensor& weight, bool turned,
                const S* bias, const S* other, Source<S> y) const {
    const int64_t group = std::clamp<int64_t>(kFilterRoom / (products_ * channels() * kPanel), 1, images_.panels);
    const int64_t step = item_images(tiles());
    const int64_t room = room_of(tiles(), images_.panels) / kernels_.numbers + room_of(tiles(), group);
    for (int64_t begin = 0; begin < images_.panels; begin += group) {
      const Range outs{begin, std::min(images_.panels, begin + group)};
      const Tensor u = prepared(weight, turned, outs);
      with_scratch(pieces(count_, step), room + planes_ * floats(step * image()), [&](int64_t item, float* scratch) {
        const int64_t at = item * step * image(), count = std::min(step, count_ - item * step);
        ConvTask task{images_, x.at + at, data<float>(u), outs, bias, other ? other + at : nullptr, y.at + at};
        S* const own = reinterpret_cast<S*>(scratch + room);
        if (x.planes) turn_in(x.at + at, count, all(), own), task.x = own;
        if (y.planes) turn_in(other + at, count, outs, own), task.other = task.y = own;
        in_rows(count, tiles(), [&](Range rows) { run(task, rows, scratch); });
        if (y.planes) turn_out(own, count, outs, y.at + at);
      });
    }
  }

  // The gradients of a weight and a bias from all images, a block of the weight by one thread.
  void correlate(Source<const S> x, Source<const S> grad, const std::optional<Tensor>& weight,
                 const std::optional<Tensor>& bias) const {
    if (!weight && !bias) return;
    const int64_t panels = images_.panels, down = pieces(panels, kBlockOuts), across = pieces(panels, kBlockIns);
    const int64_t step = item_images(kBlockTiles), in_room = room_of(kBlockTiles, kBlockIns) / kernels_.numbers;
    const int64_t room = in_room + room_of(kBlockTiles, kBlockOuts) / kernels_.numbers;
    const int64_t size = products_ * kBlockIns * kBlockOuts * kPanel * kPanel;
    std::vector<double> sums(channels());
    with_scratch(down * across, room + size + planes_ * floats(step * image()), [&](int64_t item, float* scratch) {
      const Range outs = block_of(item / across, kBlockOuts), ins = block_of(item % across, kBlockIns);
      if (!weight && ins.begin) return;
      float* const du = scratch + room;
      S* const own = reinterpret_cast<S*>(du + size);
      std::memset(du, 0, size * sizeof(float));
      for (int64_t first = 0; first < count_; first += step) {
        const int64_t at = first * image(), count = std::min(step, count_ - first);
        WeightTask task{images_, x.at + at, grad.at + at, {}, ins, outs, scratch, scratch + in_room,
                        weight ? du : nullptr, bias && !ins.begin ? sums.data() : nullptr};
        if (x.planes) turn_in(x.at + at, count, ins, own), task.x = own;
        if (grad.planes) turn_in(grad.at + at, count, outs, own), task.grad = own;
        in_rows(count, kBlockTiles, [&](Range rows) { task.rows = rows, kernels_.correlate(task); });
      }
      for (int64_t in = 0; weight && in < ins.count(); ++in) kernels_.taps(taps_of(*weight, ins, outs, 1, du), in);
    });
    if (bias) write_bias(*bias, sums);
  }

  static const S* read(const Tensor& t) { return static_cast<const S*>(t.const_data_ptr()); }

  Tensor prepared(const Tensor& w, bool turned, Range outs) const {
    const Tensor u = empty<float>({products_ * channels() * outs.count() * kPanel / kernels_.numbers});
    const FilterTask<S> task{images_, read(w), w.stride(0), w.stride(1), w.stride(2), w.stride(3), turned, outs,
                             data<float>(u)};
    each(outs.count() * images_.panels, [&](int64_t item) { kernels_.filter(task, item); });
    return u;
  }
  TapsTask<S> taps_of(const Tensor& w, Range ins, Range outs, int64_t parts, const float* du) const {
    return {images_, ins, outs, du, parts, data<S>(w), w.stride(0), w.stride(1), w.stride(2), w.stride(3)};
  }
  void write_bias(const Tensor& bias, const std::vector<double>& sums) const {
    for (int64_t i = 0; i < channels(); ++i) {
      double sum = 0;
      for (std::size_t part = i; part < sums.size(); part += channels()) sum += sums[part];
      data<S>(bias)[i] = of_float<S>(float(sum));
    }
  }

  // g of some images, channels last; `scratch` has room for one image.
  void masked(const Given& given, int64_t at, int64_t count, S* g, float* scratch) const {
    if (!planes_) return kernels_.mask({given.grad + at, given.out + at, g, count * image()});
    S* const one = reinterpret_cast<S*>(scratch);
    for (int64_t i = 0; i < count; ++i) {
      kernels_.mask({given.grad + at + i * image(), given.out + at + i * image(), one, image()});
      turn_in(one, 1, all(), g + i * image());
    }
  }

  int64_t channels() const { return images_.channels(); }
  int64_t pixels() const { return images_.h * images_.w; }
  int64_t image() const { return pixels() * channels(); }
  int64_t numbers() const { return count_ * image(); }
  static int64_t floats(int64_t numbers) { return (numbers * int64_t(sizeof(S)) + 3) / 4; }  // in whose memory they fit
  Range all() const { return {0, images_.panels}; }
  Range block_of(int64_t i, int64_t step) const { return {i * step, std::min(images_.panels, (i + 1) * step)}; }

  // Tiles that a thread transforms at once: enough of them for weights that come from afar at every use.
  int64_t tiles() const { return std::clamp<int64_t>(kTileRoom / (products_ * channels()), 16, 64); }
  int64_t rows_of(int64_t tiles) const { return std::max<int64_t>(1, tiles / images_.row_tiles()); }
  int64_t item_images(int64_t tiles) const { return std::max<int64_t>(1, rows_of(tiles) / images_.tile_rows()); }
  // Floats for about so many transformed tiles.
  int64_t room_of(int64_t tiles, int64_t panels) const {
    return products_ * (pieces(rows_of(tiles) * images_.row_tiles(), 2) * 2) * panels * kPanel;
  }
  // body(a range of tile rows) for those of some images.
  template <class Body>
  void in_rows(int64_t count, int64_t tiles, const Body& body) const {
    const int64_t rows = count * images_.tile_rows(), step = rows_of(tiles);
    for (int64_t row = 0; row < rows; row += step) body(Range{row, std::min(rows, row + step)});
  }

  // Channels of images from the layout of x to channels last, and back.
  void turn_in(const S* from, int64_t count, Range panels, S* to) const {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t first = panels.begin * kPanel, plane = i * image() + first * pixels();
      kernels_.turn(from + plane, panels.count() * kPanel, pixels(), pixels(), to + i * image() + first, channels());
    }
  }
  void turn_out(const S* from, int64_t count, Range panels, S* to) const {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t first = panels.begin * kPanel, plane = i * image() + first * pixels();
      kernels_.turn(from + i * image() + first, pixels(), panels.count() * kPanel, channels(), to + plane, pixels());
    }
  }

  // body(item, scratch of so many floats) for all items, in parallel.
  template <class Body>
  void with_scratch(int64_t items, int64_t room, const Body& body) const {
    const int64_t threads = std::min<int64_t>(torch::stable::get_num_threads(), items);
    const Tensor scratch = empty<float>({threads * room});
    std::atomic<int64_t> next{0};
    each(threads, [&](int64_t thread) {
      for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < items;)
        body(i, data<float>(scratch) + thread * room);
    });
  }

  int64_t count_;
  bool planes_;  // x, out and their gradients are contiguous; else they are channels last, as everything else is
  Images images_;
  Kernels<S> kernels_;
  int64_t products_;
};

}  // namespace dcaccel::residual_block
