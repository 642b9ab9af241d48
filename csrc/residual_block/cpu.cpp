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

// Sizes are functions of the shape alone: the order of every sum, and so its bits, must not depend on the threads.
// What is transformed at once by a thread: 64 tiles of 64 channels are 256 KiB, which stay in L2, and weights that come
// from L3 are used often enough.
constexpr int64_t kItemTiles = 64;
// Whole images whose gradients are kept at once, in tiles: enough for 8 threads, and about the size of the weights.
int64_t chunk_tiles(int64_t channels) { return std::max<int64_t>(512, 4 * channels); }
// Tiles whose weight gradient is summed in one product, 4 MiB of them.
int64_t weight_tiles(int64_t channels) { return std::max<int64_t>(128, 32768 / channels); }

template <class S>
class Block {
 public:
  explicit Block(const Tensor& x)
      : count_(x.size(0)), images_{x.size(2), x.size(3), x.size(1) / kPanel},
        kernels_(active_kernels<S>(x.size(2) <= 2 && x.size(3) <= 2)), products_(kernels_.points * kernels_.points) {}

  void forward(const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2,
               const Tensor& hidden, const Tensor& out) const {
    const Tensor u = filter_room();
    prepare(w1, false, u);
    convolve(kernels_.hidden, {images_, read(x), data<float>(u), read(b1), nullptr, data<S>(hidden)}, count_);
    prepare(w2, false, u);
    convolve(kernels_.out, {images_, read(hidden), data<float>(u), read(b2), read(x), data<S>(out)}, count_);
  }

  struct Wanted {
    std::optional<Tensor> x, w1, b1, w2, b2;
  };

  void backward(const Tensor& x, const Tensor& hidden, const Tensor& out, const Tensor& w1, const Tensor& w2,
                const Tensor& grad, const Wanted& to) const {
    const int64_t image = images_.h * images_.w * images_.channels();
    const int64_t tiles = images_.tile_rows() * images_.row_tiles();
    const int64_t chunk = std::min(count_, std::max<int64_t>(1, chunk_tiles(images_.channels()) / tiles));
    const bool lower = to.x || to.w1 || to.b1;
    const Tensor g = empty<float>({chunk * image}), g_hidden = empty<float>({lower ? chunk * image : 0});
    std::optional<Tensor> turned1, turned2;
    Weights sums1(to.w1, to.b1), sums2(to.w2, to.b2);
    for (int64_t first = 0; first < count_; first += chunk) {
      const int64_t count = std::min(chunk, count_ - first), at = first * image;
      const bool last = first + count == count_;
      mask({read(grad) + at, read(out) + at, data<float>(g), count * image, 8192});
      if (lower) {
        if (!turned2) prepare(w2, true, turned2.emplace(filter_room()));
        convolve(kernels_.behind, {images_, data<float>(g), data<float>(*turned2), nullptr, read(hidden) + at,
                                   data<float>(g_hidden)}, count);
        if (last) turned2.reset();  // before the next room is needed: with one chunk, one is enough
      }
      weights(read(hidden) + at, data<float>(g), count, last, sums2);
      if (to.w1 || to.b1) weights(read(x) + at, data<float>(g_hidden), count, last, sums1);
      if (to.x) {
        if (!turned1) prepare(w1, true, turned1.emplace(filter_room()));
        convolve(kernels_.add, {images_, data<float>(g_hidden), data<float>(*turned1), nullptr, data<float>(g),
                                data<S>(*to.x) + at}, count);
      }
    }
  }

 private:
  // The gradients of a weight and a bias while they are summed.
  struct Weights {
    const std::optional<Tensor>&weight, &bias;
    std::optional<Tensor> du;
    std::vector<double> sums;

    Weights(const std::optional<Tensor>& weight_, const std::optional<Tensor>& bias_) : weight(weight_), bias(bias_) {}
  };

  static const S* read(const Tensor& t) { return static_cast<const S*>(t.const_data_ptr()); }

  Tensor filter_room() const { return empty<float>({products_ * images_.channels() * images_.channels()}); }

  void prepare(const Tensor& w, bool turned, const Tensor& to) const {
    const FilterTask<S> task{images_, read(w), w.stride(0), w.stride(1), w.stride(2), w.stride(3), turned,
                             data<float>(to)};
    each(images_.panels, [&](int64_t panel) { kernels_.filter(task, panel); });
  }

  void mask(const MaskTask<S>& task) const {
    each(pieces(task.count, task.step), [&](int64_t item) { kernels_.mask(task, item); });
  }

  int64_t rows_of(int64_t tiles) const { return std::max<int64_t>(1, tiles / images_.row_tiles()); }

  void convolve(void (*run)(const ConvTask&, Range, float*), const ConvTask& task, int64_t count) const {
    const int64_t rows = count * images_.tile_rows(), step = rows_of(kItemTiles), items = pieces(rows, step);
    const int64_t threads = std::min<int64_t>(torch::stable::get_num_threads(), items);
    const int64_t room = 2 * products_ * step * images_.row_tiles() * images_.channels();
    const Tensor scratch = empty<float>({threads * room});
    std::atomic<int64_t> next{0};
    each(threads, [&](int64_t slot) {
      for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < items;)
        run(task, {i * step, std::min(rows, (i + 1) * step)}, data<float>(scratch) + slot * room);
    });
  }

  void weights(const S* x, const float* grad, int64_t count, bool last, Weights& to) const {
    if (!to.weight && !to.bias) return;
    const int64_t c = images_.channels(), rows = count * images_.tile_rows(), step = rows_of(weight_tiles(c));
    const int64_t room = products_ * std::min(rows, step) * images_.row_tiles() * c;
    if (to.weight && !to.du) std::memset(data<float>(to.du.emplace(filter_room())), 0, 4 * products_ * c * c);
    if (to.bias && to.sums.empty()) to.sums.resize(c);
    const Tensor v = empty<float>({to.weight ? room : 0}), d = empty<float>({room});
    WeightTask task{images_,        x, grad, {}, rows_of(16), data<float>(v), data<float>(d),
                    to.weight ? data<float>(*to.du) : nullptr, to.bias ? to.sums.data() : nullptr};
    for (int64_t first = 0; first < rows; first += step) {
      task.rows = {first, std::min(rows, first + step)};
      each(pieces(task.rows.end - first, task.rows_an_item), [&](int64_t item) { kernels_.transform(task, item); });
      each(products_ * images_.panels, [&](int64_t item) { kernels_.correlate(task, item); });
    }
    if (!last) return;
    if (to.weight) {
      const Tensor& w = *to.weight;
      const TapsTask<S> finish{images_, task.du, data<S>(w), w.stride(0), w.stride(1), w.stride(2), w.stride(3)};
      each(images_.panels, [&](int64_t panel) { kernels_.taps(finish, panel); });
      to.du.reset();
    }
    if (to.bias) std::transform(to.sums.begin(), to.sums.end(), data<S>(*to.bias), of_float<S, float>);
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

// g = grad [result > 0] and its sums over rows; dense with columns of stride one. g may be grad.
void gate_cpu(Tensor grad, Tensor result, Tensor g, Tensor sums) {
  const int64_t columns = sums.numel(), rows = columns ? grad.numel() / columns : 0;
  const int64_t step = std::max<int64_t>(64, 32768 / std::max<int64_t>(1, columns)), items = pieces(rows, step);
  const Tensor partial = empty<double>({items * columns});
  const GateTask task{grad.const_data_ptr(), result.const_data_ptr(), g.mutable_data_ptr(), data<double>(partial),
                      rows, columns, step};
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
