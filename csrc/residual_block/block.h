// The order of the passes of residual_block with our own convolutions, and their scratch. Host part only.
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

// Tiles that a thread transforms at once: with 64 channels 512 KiB of scratch, which stays in L2, and enough tiles for
// weights that come from L3 at every use.
constexpr int64_t kItemTiles = 64;
// Sums of the weights' gradients that are added up side by side, so that threads need not wait for each other: some for
// every thread, or as many as take half the memory of one tensor of images, `numbers` floats, or none.
int64_t parts_of(int64_t numbers, int64_t weights) {
  const int64_t threads = torch::stable::get_num_threads(), room = numbers / (4 * weights);
  return room < threads ? 0 : std::min(4 * threads, room);
}
// Without them: tiles of the images whose gradients are kept at once, about the size of the weights, and tiles whose
// part of a weight's gradient is one product; not many, for their transforms are larger than the images.
int64_t chunk_tiles(int64_t channels) { return std::max<int64_t>(512, 4 * channels); }
constexpr int64_t kProductTiles = 128;

template <class S>
class Block {
 public:
  Block(const Tensor& x, const Kernels<S>& kernels)
      : count_(x.size(0)), planes_(x.stride(1) != 1), images_{x.size(2), x.size(3), x.size(1) / kPanel},
        kernels_(kernels), products_(kernels.points * kernels.points) {}

  void forward(const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2,
               const Tensor& hidden, const Tensor& out) const {
    const Tensor u1 = prepared(w1, false), u2 = prepared(w2, false);
    in_items(count_, planes_ ? 1 : 0, [&](int64_t first, int64_t count, float* scratch) {
      const int64_t at = first * image();
      S *const inner = data<S>(hidden) + at, *own = spare(scratch, 0);
      const S* const from = planes_ ? own : read(x) + at;
      if (planes_) turn_in(read(x) + at, count, own);
      convolve(kernels_.hidden, {images_, from, data<float>(u1), read(b1), nullptr, inner}, count, scratch);
      S* const to = planes_ ? own : data<S>(out) + at;  // over x: a result needs the skip at its own place only
      convolve(kernels_.out, {images_, inner, data<float>(u2), read(b2), from, to}, count, scratch);
      if (planes_) turn_out(own, count, data<S>(out) + at);
    });
  }

  struct Wanted {
    std::optional<Tensor> x, w1, b1, w2, b2;
  };

  void backward(const Tensor& x, const Tensor& hidden, const Tensor& out, const Tensor& w1, const Tensor& w2,
                const Tensor& grad, const Wanted& to) const {
    Backward all{*this, read(x), read(hidden), read(out), read(grad), to, to.x || to.w1 || to.b1, {}, {}};
    if (to.x) all.u1 = prepared(w1, true);
    if (all.lower) all.u2 = prepared(w2, true);
    const int64_t parts = parts_of(count_ * image(), products_ * images_.channels() * images_.channels());
    Sums sums1(*this, to.w1, to.b1, parts), sums2(*this, to.w2, to.b2, parts);
    if (parts) by_parts(all, parts, sums1, sums2);
    else by_chunks(all, sums1, sums2);
  }

 private:
  // The gradients of a weight and a bias while they are summed, in one or several parts.
  class Sums {
   public:
    Sums(const Block& block, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias, int64_t parts)
        : block_(block), weight_(weight), bias_(bias), parts_(std::max<int64_t>(1, parts)) {}

    // From gradients of images, all threads at it.
    void add(const S* x, const float* grad, int64_t count) {
      if (!weight_ && !bias_) return;
      begin();
      const int64_t rows = count * block_.images_.tile_rows(), step = block_.rows_of(kProductTiles);
      const int64_t room = block_.room_of(kProductTiles) / 2;
      const Tensor v = empty<float>({weight_ ? room : 0}), d = empty<float>({room});
      WeightTask task = task_of(0, x, grad, data<float>(v), data<float>(d), block_.rows_of(16));
      for (int64_t first = 0; first < rows; first += step) {
        task.rows = {first, std::min(rows, first + step)};
        each(pieces(task.rows.end - first, task.rows_an_item), [&](int64_t i) { block_.kernels_.transform(task, i); });
        each(products(), [&](int64_t i) { block_.kernels_.correlate(task, i); });
      }
    }
    // To one part, by the thread that has it; `scratch` as for `convolve`.
    void add_alone(int64_t part, const S* x, const float* grad, int64_t count, float* scratch) const {
      if (!weight_ && !bias_) return;
      const int64_t rows = count * block_.images_.tile_rows(), step = block_.rows_of(kItemTiles);
      WeightTask task = task_of(part, x, grad, scratch, scratch + block_.room_of(kItemTiles) / 2, step);
      for (int64_t first = 0; first < rows; first += step) {
        task.rows = {first, std::min(rows, first + step)};
        block_.kernels_.transform(task, 0);
        for (int64_t i = 0; i < products(); ++i) block_.kernels_.correlate(task, i);
      }
    }
    void begin() {
      const int64_t c = block_.images_.channels(), size = parts_ * block_.products_ * c * c;
      if (weight_ && !du_) std::memset(data<float>(du_.emplace(empty<float>({size}))), 0, size * sizeof(float));
      if (bias_) bias_sums_.resize(parts_ * c);
    }
    void finish() {
      const int64_t c = block_.images_.channels();
      if (weight_) {
        const Tensor& w = *weight_;
        const TapsTask<S> task{block_.images_, data<float>(*du_), parts_, data<S>(w), w.stride(0), w.stride(1),
                               w.stride(2), w.stride(3)};
        each(block_.images_.panels, [&](int64_t panel) { block_.kernels_.taps(task, panel); });
        du_.reset();
      }
      for (int64_t i = 0; bias_ && i < c; ++i) {
        double sum = 0;
        for (int64_t part = 0; part < parts_; ++part) sum += bias_sums_[part * c + i];
        data<S>(*bias_)[i] = of_float<S>(float(sum));
      }
    }

   private:
    int64_t products() const { return block_.products_ * block_.images_.panels; }
    WeightTask task_of(int64_t part, const S* x, const float* grad, float* v, float* d, int64_t rows_an_item) const {
      const int64_t c = block_.images_.channels();
      return {block_.images_, x, grad, {}, rows_an_item, v, d,
              weight_ ? data<float>(*du_) + part * block_.products_ * c * c : nullptr,
              bias_ ? const_cast<double*>(bias_sums_.data()) + part * c : nullptr};
    }

    const Block& block_;
    const std::optional<Tensor>&weight_, &bias_;
    int64_t parts_;
    std::optional<Tensor> du_;
    std::vector<double> bias_sums_;
  };

  // What the gradients of images are computed from.
  struct Backward {
    const Block& block;
    const S *x, *hidden, *out, *grad;
    const Wanted& to;
    bool lower;  // whether anything below the inner relu is wanted
    std::optional<Tensor> u1, u2;

    // g, g_hidden and dx of some images, `at` the first of them. Also x, channels last, in `own` if it is not so, which
    // has room for `count` images.
    void images(int64_t at, int64_t count, float* g, float* g_hidden, S* own, float* scratch) const {
      const int64_t from = at * block.image(), numbers = count * block.image();
      if (block.planes_) {
        float* const masked = scratch;  // which the convolutions need only later
        for (int64_t i = 0; i < count; ++i) {
          const int64_t first = from + i * block.image();
          block.kernels_.mask({grad + first, out + first, masked, block.image()});
          block.kernels_.turn_float(masked, block.images_.channels(), block.pixels(), g + i * block.image());
        }
      } else {
        block.kernels_.mask({grad + from, out + from, g, numbers});
      }
      const auto run = [&](auto kernel, const float* in, const Tensor& u, const void* other, void* result) {
        block.convolve(kernel, {block.images_, in, data<float>(u), nullptr, other, result}, count, scratch);
      };
      if (lower) run(block.kernels_.behind, g, *u2, hidden + from, g_hidden);
      if (to.x) run(block.kernels_.add, g_hidden, *u1, g, block.planes_ ? own : data<S>(*to.x) + from);
      if (to.x && block.planes_) block.turn_out(own, count, data<S>(*to.x) + from);
      if (block.planes_ && to.w1) block.turn_in(x + from, count, own);
    }
  };

  // Every part of the batch by one thread, which also sums its part of the weights' gradients.
  void by_parts(const Backward& all, int64_t parts, Sums& sums1, Sums& sums2) const {
    sums2.begin(), sums1.begin();
    const int64_t step = item_images(), each_part = pieces(pieces(count_, step), parts) * step;
    with_scratch(pieces(count_, each_part), 3, [&](int64_t part, float* scratch) {
      float* const g = scratch + work();
      float* const g_hidden = g + step * image();
      S* const own = spare(scratch, 2);
      const int64_t end = std::min(count_, (part + 1) * each_part);
      for (int64_t at = part * each_part; at < end; at += step) {
        const int64_t count = std::min(step, end - at);
        all.images(at, count, g, g_hidden, own, scratch);
        sums2.add_alone(part, all.hidden + at * image(), g, count, scratch);
        sums1.add_alone(part, planes_ ? own : all.x + at * image(), g_hidden, count, scratch);
      }
    });
    sums2.finish(), sums1.finish();
  }

  // All threads first at gradients of a chunk of images, then at its part of the weights' gradients.
  void by_chunks(Backward& all, Sums& sums1, Sums& sums2) const {
    const int64_t step = std::max<int64_t>(1, chunk_tiles(images_.channels()) / image_tiles());
    const int64_t room = std::min(count_, step) * image();
    std::optional<Tensor> g = empty<float>({room});
    const Tensor g_hidden = empty<float>({all.lower ? room : 0}), own = empty<float>({planes_ ? room : 0});
    for (int64_t at = 0; at < count_; at += step) {
      const int64_t chunk = std::min(step, count_ - at);
      in_items(chunk, 0, [&](int64_t first, int64_t count, float* scratch) {
        const int64_t from = first * image();
        all.images(at + first, count, data<float>(*g) + from, data<float>(g_hidden) + from, data<S>(own) + from,
                   scratch);
      });
      // What is not needed again goes, so that with one chunk little is there at the same time.
      const bool last = at + chunk == count_;
      if (last) all.u1.reset(), all.u2.reset();
      sums2.add(all.hidden + at * image(), data<float>(*g), chunk);
      if (last) sums2.finish(), g.reset();
      sums1.add(planes_ ? data<S>(own) : all.x + at * image(), data<float>(g_hidden), chunk);
    }
    sums1.finish();
  }

  static const S* read(const Tensor& t) { return static_cast<const S*>(t.const_data_ptr()); }

  Tensor prepared(const Tensor& w, bool turned) const {
    const Tensor u = empty<float>({products_ * images_.channels() * images_.channels()});
    const FilterTask<S> task{images_, read(w), w.stride(0), w.stride(1), w.stride(2), w.stride(3), turned,
                             data<float>(u)};
    each(images_.panels, [&](int64_t panel) { kernels_.filter(task, panel); });
    return u;
  }

  int64_t pixels() const { return images_.h * images_.w; }
  int64_t image() const { return pixels() * images_.channels(); }
  int64_t image_tiles() const { return images_.tile_rows() * images_.row_tiles(); }
  int64_t item_images() const { return std::max<int64_t>(1, kItemTiles / image_tiles()); }
  int64_t rows_of(int64_t tiles) const { return std::max<int64_t>(1, tiles / images_.row_tiles()); }
  // Floats for about so many tiles, transformed twice.
  int64_t room_of(int64_t tiles) const {
    return 2 * products_ * rows_of(tiles) * images_.row_tiles() * images_.channels();
  }

  // Images from the layout of x to channels last, and back.
  void turn_in(const S* from, int64_t count, S* to) const {
    for (int64_t i = 0; i < count; ++i)
      kernels_.turn(from + i * image(), images_.channels(), pixels(), to + i * image());
  }
  void turn_out(const S* from, int64_t count, S* to) const {
    for (int64_t i = 0; i < count; ++i)
      kernels_.turn(from + i * image(), pixels(), images_.channels(), to + i * image());
  }

  // Scratch of `convolve`, or one image.
  int64_t work() const { return std::max(room_of(kItemTiles), image()); }
  // Behind it lie spare tensors for the images of an item.
  S* spare(float* scratch, int64_t i) const {
    return reinterpret_cast<S*>(scratch + work() + i * item_images() * image());
  }

  // body(item, scratch with so many spare tensors) for all items, in parallel.
  template <class Body>
  void with_scratch(int64_t items, int64_t spares, const Body& body) const {
    const int64_t threads = std::min<int64_t>(torch::stable::get_num_threads(), items);
    const int64_t room = work() + spares * item_images() * image();
    const Tensor scratch = empty<float>({threads * room});
    std::atomic<int64_t> next{0};
    each(threads, [&](int64_t thread) {
      for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < items;)
        body(i, data<float>(scratch) + thread * room);
    });
  }

  // body(first image, count, scratch), in parallel. Images stay whole, so that one convolution can follow the other
  // without waiting for other threads.
  template <class Body>
  void in_items(int64_t count, int64_t spares, const Body& body) const {
    const int64_t step = item_images();
    with_scratch(pieces(count, step), spares, [&](int64_t item, float* scratch) {
      body(item * step, std::min(step, count - item * step), scratch);
    });
  }

  void convolve(void (*run)(const ConvTask&, Range, float*), const ConvTask& task, int64_t count,
                float* scratch) const {
    const int64_t rows = count * images_.tile_rows(), step = rows_of(kItemTiles);
    for (int64_t row = 0; row < rows; row += step) run(task, {row, std::min(rows, row + step)}, scratch);
  }

  int64_t count_;
  bool planes_;  // x, out and their gradients are contiguous; else they are channels last, as everything else is
  Images images_;
  Kernels<S> kernels_;
  int64_t products_;
};

}  // namespace dcaccel::residual_block
