// residual_block on the CPU: the order of the passes, their scratch, registration of the inner operators.
// Compiled once per instruction set for the passes; the rest of the file belongs to level 0.
//
// Three inner operators, called by ops/residual_block.py under the operator of that name: the whole block with our own
// convolutions, both ways, and the passes around convolutions that torch computes.
// SPDX-License-Identifier: Apache-2.0
#include "tails.h"
#include "winograd.h"

#if DCACCEL_LEVEL == 0
#include <algorithm>
#include <atomic>
#include <optional>
#include <tuple>
#include <vector>

#include "../common/tensor.h"
#include "../common/threads.h"

namespace dcaccel::residual_block {

#ifdef DCACCEL_HAS_X86_LEVELS
namespace avx2 {
Kernels<float> kernels_float(bool);
Kernels<Bf16> kernels_bf16(bool);
Kernels<Fp16> kernels_fp16(bool);
void tail_kernels(TailKernels (&)[4]);
}  // namespace avx2
namespace avx512 {
Kernels<float> kernels_float(bool);
Kernels<Bf16> kernels_bf16(bool);
Kernels<Fp16> kernels_fp16(bool);
void tail_kernels(TailKernels (&)[4]);
}  // namespace avx512
#endif

namespace {

template <class S>
Kernels<S> active_kernels(bool alone) {
  const auto choose = [&](auto single, auto bf16, auto fp16) {
    if constexpr (std::is_same_v<S, float>) return single(alone);
    else if constexpr (std::is_same_v<S, Bf16>) return bf16(alone);
    else return fp16(alone);
  };
#ifdef DCACCEL_HAS_X86_LEVELS
  if (active_level() == 2) return choose(avx512::kernels_float, avx512::kernels_bf16, avx512::kernels_fp16);
  if (active_level() == 1) return choose(avx2::kernels_float, avx2::kernels_bf16, avx2::kernels_fp16);
#endif
  return choose(baseline::kernels_float, baseline::kernels_bf16, baseline::kernels_fp16);
}

TailKernels active_tails(const Tensor& x) {
  TailKernels all[4];
  baseline::tail_kernels(all);
#ifdef DCACCEL_HAS_X86_LEVELS
  if (active_level() == 1) avx2::tail_kernels(all);
  if (active_level() == 2) avx512::tail_kernels(all);
#endif
  switch (x.scalar_type()) {
    case ScalarType::Float: return all[0];
    case ScalarType::Double: return all[1];
    case ScalarType::BFloat16: return all[2];
    default: return all[3];
  }
}

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
  explicit Block(const Tensor& x)
      : count_(x.size(0)), images_{x.size(2), x.size(3), x.size(1) / kPanel},
        kernels_(active_kernels<S>(x.size(2) <= 2 && x.size(3) <= 2)), products_(kernels_.points * kernels_.points) {}

  void forward(const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2,
               const Tensor& hidden, const Tensor& out) const {
    const Tensor u1 = prepared(w1, false), u2 = prepared(w2, false);
    in_items(count_, [&](int64_t first, int64_t count, float* scratch) {
      const int64_t at = first * image();
      S* const inner = data<S>(hidden) + at;
      convolve(kernels_.hidden, {images_, read(x) + at, data<float>(u1), read(b1), nullptr, inner}, count, scratch);
      convolve(kernels_.out, {images_, inner, data<float>(u2), read(b2), read(x) + at, data<S>(out) + at}, count,
               scratch);
    });
  }

  struct Wanted {
    std::optional<Tensor> x, w1, b1, w2, b2;
  };

  void backward(const Tensor& x, const Tensor& hidden, const Tensor& out, const Tensor& w1, const Tensor& w2,
                const Tensor& grad, const Wanted& to) const {
    const bool lower = to.x || to.w1 || to.b1;
    std::optional<Tensor> u1, u2;
    if (to.x) u1 = prepared(w1, true);
    if (lower) u2 = prepared(w2, true);
    // From `grad`: g, g_hidden and dx of some images, `at` the first of them.
    const auto images = [&](int64_t at, int64_t count, float* g, float* g_hidden, float* scratch) {
      const int64_t from = at * image();
      kernels_.mask({read(grad) + from, read(out) + from, g, count * image()});
      if (lower) convolve(kernels_.behind, {images_, g, data<float>(*u2), nullptr, read(hidden) + from, g_hidden}, count,
                          scratch);
      if (to.x) convolve(kernels_.add, {images_, g_hidden, data<float>(*u1), nullptr, g, data<S>(*to.x) + from}, count,
                         scratch);
    };
    const int64_t parts = parts_of(count_ * image(), products_ * images_.channels() * images_.channels());
    Sums sums1(*this, to.w1, to.b1, parts), sums2(*this, to.w2, to.b2, parts);
    if (!parts) {
      const int64_t step = std::max<int64_t>(1, chunk_tiles(images_.channels()) / image_tiles());
      const int64_t room = std::min(count_, step) * image();
      const Tensor g = empty<float>({room}), g_hidden = empty<float>({lower ? room : 0});
      for (int64_t at = 0; at < count_; at += step) {
        const int64_t chunk = std::min(step, count_ - at);
        in_items(chunk, [&](int64_t first, int64_t some, float* scratch) {
          const int64_t from = first * image();
          images(at + first, some, data<float>(g) + from, data<float>(g_hidden) + from, scratch);
        });
        if (at + chunk == count_) u1.reset(), u2.reset();  // with one chunk, they go before the gradients come
        sums2.add(read(hidden) + at * image(), data<float>(g), chunk);
        sums1.add(read(x) + at * image(), data<float>(g_hidden), chunk);
      }
    } else {
      sums2.begin(), sums1.begin();
      const int64_t items = pieces(count_, item_images()), each_part = pieces(items, parts) * item_images();
      const int64_t room = item_images() * image();
      with_scratch(pieces(count_, each_part), room_of(kItemTiles) + 2 * room, [&](int64_t part, float* scratch) {
        float *g = scratch + room_of(kItemTiles), *g_hidden = g + room;
        const int64_t end = std::min(count_, (part + 1) * each_part);
        for (int64_t at = part * each_part; at < end; at += item_images()) {
          const int64_t some = std::min(item_images(), end - at);
          images(at, some, g, g_hidden, scratch);
          sums2.add_alone(part, read(hidden) + at * image(), g, some, scratch);
          sums1.add_alone(part, read(x) + at * image(), g_hidden, some, scratch);
        }
      });
    }
    sums2.finish(), sums1.finish();
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

  static const S* read(const Tensor& t) { return static_cast<const S*>(t.const_data_ptr()); }

  Tensor prepared(const Tensor& w, bool turned) const {
    const Tensor u = empty<float>({products_ * images_.channels() * images_.channels()});
    const FilterTask<S> task{images_, read(w), w.stride(0), w.stride(1), w.stride(2), w.stride(3), turned,
                             data<float>(u)};
    each(images_.panels, [&](int64_t panel) { kernels_.filter(task, panel); });
    return u;
  }

  int64_t image() const { return images_.h * images_.w * images_.channels(); }
  int64_t image_tiles() const { return images_.tile_rows() * images_.row_tiles(); }
  int64_t item_images() const { return std::max<int64_t>(1, kItemTiles / image_tiles()); }
  int64_t rows_of(int64_t tiles) const { return std::max<int64_t>(1, tiles / images_.row_tiles()); }
  // Floats for about so many tiles, transformed twice.
  int64_t room_of(int64_t tiles) const {
    return 2 * products_ * rows_of(tiles) * images_.row_tiles() * images_.channels();
  }

  // body(item, scratch of `room` floats) for all items, in parallel.
  template <class Body>
  static void with_scratch(int64_t items, int64_t room, const Body& body) {
    const int64_t threads = std::min<int64_t>(torch::stable::get_num_threads(), items);
    const Tensor scratch = empty<float>({threads * room});
    std::atomic<int64_t> next{0};
    each(threads, [&](int64_t thread) {
      for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < items;)
        body(i, data<float>(scratch) + thread * room);
    });
  }

  // body(first image, count, scratch for `convolve`), in parallel. Images stay whole, so that one convolution can
  // follow the other without waiting for other threads.
  template <class Body>
  void in_items(int64_t count, const Body& body) const {
    const int64_t step = item_images();
    with_scratch(pieces(count, step), room_of(kItemTiles), [&](int64_t item, float* scratch) {
      body(item * step, std::min(step, count - item * step), scratch);
    });
  }

  void convolve(void (*run)(const ConvTask&, Range, float*), const ConvTask& task, int64_t count,
                float* scratch) const {
    const int64_t rows = count * images_.tile_rows(), step = rows_of(kItemTiles);
    for (int64_t row = 0; row < rows; row += step) run(task, {row, std::min(rows, row + step)}, scratch);
  }

  int64_t count_;
  Images images_;
  Kernels<S> kernels_;
  int64_t products_;
};

// body(Block<S>) for the type of x.
template <class Body>
void with_block(const Tensor& x, const Body& body) {
  switch (x.scalar_type()) {
    case ScalarType::Float: return body(Block<float>(x));
    case ScalarType::BFloat16: return body(Block<Bf16>(x));
    default: return body(Block<Fp16>(x));
  }
}

// x, hidden and out channels last, channels a multiple of kPanel; hidden and out are written.
void block_cpu(Tensor x, Tensor w1, Tensor b1, Tensor w2, Tensor b2, Tensor hidden, Tensor out) {
  with_block(x, [&](const auto& block) { block.forward(x, w1, b1, w2, b2, hidden, out); });
}

// Writes the gradients that are given; that of x channels last, those of weights in any layout.
void block_bwd_cpu(Tensor x, Tensor hidden, Tensor out, Tensor w1, Tensor w2, Tensor grad, std::optional<Tensor> g_x,
                   std::optional<Tensor> g_w1, std::optional<Tensor> g_b1, std::optional<Tensor> g_w2,
                   std::optional<Tensor> g_b2) {
  with_block(x, [&](const auto& block) { block.backward(x, hidden, out, w1, w2, grad, {g_x, g_w1, g_b1, g_w2, g_b2}); });
}

// y = relu(y + skip); both of one dense layout.
void tail_cpu(Tensor y, Tensor skip) {
  const TailTask task{y.mutable_data_ptr(), skip.const_data_ptr(), y.numel(), 16384};
  const TailKernels kernels = active_tails(y);
  each(pieces(task.count, task.step), [&](int64_t item) { kernels.tail(task, item); });
}

// g = grad [result > 0] and its sums over rows and pixels; all three contiguous, or all three channels last. g may be
// grad.
void gate_cpu(Tensor grad, Tensor result, Tensor g, Tensor sums) {
  const int64_t columns = sums.numel(), plane = std::max<int64_t>(1, grad.stride(1));
  const int64_t rows = grad.numel() / (columns * plane);
  const int64_t step = std::max<int64_t>(plane == 1 ? 64 : 1, 32768 / (columns * plane)), items = pieces(rows, step);
  const Tensor partial = empty<double>({items * columns});
  const GateTask task{grad.const_data_ptr(), result.const_data_ptr(), g.mutable_data_ptr(), data<double>(partial),
                      rows, columns, plane, step};
  const TailKernels kernels = active_tails(grad);
  each(items, [&](int64_t item) { kernels.gate(task, item); });
  for (int64_t c = 0; c < columns; ++c) {
    double total = 0;
    for (int64_t item = 0; item < items; ++item) total += task.sums[item * columns + c];
    data<double>(sums)[c] = total;
  }
}

}  // namespace
}  // namespace dcaccel::residual_block

STABLE_TORCH_LIBRARY_FRAGMENT(dcaccel, m) {
  m.def("_residual_forward(Tensor x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2, Tensor(a!) hidden, "
        "Tensor(b!) out) -> ()");
  m.def("_residual_backward(Tensor x, Tensor hidden, Tensor out, Tensor weight1, Tensor weight2, Tensor grad, "
        "Tensor(a!)? g_x, Tensor(b!)? g_weight1, Tensor(c!)? g_bias1, Tensor(d!)? g_weight2, Tensor(e!)? g_bias2) "
        "-> ()");
  m.def("_residual_tail(Tensor(a!) y, Tensor skip) -> ()");
  m.def("_residual_gate(Tensor grad, Tensor result, Tensor(a!) g, Tensor(b!) sums) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(dcaccel, CPU, m) {
  m.impl("_residual_forward", TORCH_BOX(&dcaccel::residual_block::block_cpu));
  m.impl("_residual_backward", TORCH_BOX(&dcaccel::residual_block::block_bwd_cpu));
  m.impl("_residual_tail", TORCH_BOX(&dcaccel::residual_block::tail_cpu));
  m.impl("_residual_gate", TORCH_BOX(&dcaccel::residual_block::gate_cpu));
}

#endif  // DCACCEL_LEVEL == 0
