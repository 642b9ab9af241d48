// The passes of residual_block for every case in a file. Half types come and go as float.
// SPDX-License-Identifier: Apache-2.0
#include "../../../csrc/residual_block/cuda.h"

#include "../../../csrc/common/half.h"
#include "../emulation/driver.h"

using namespace dcaccel::residual_block;
using driver::Memory;

namespace {

// Numbers of the case's type T, stored as S.
template <class T, class S>
struct Stored {
  Memory<S> memory;
  int64_t count;

  explicit Stored(int64_t n) : memory(n), count(n) {}
  void read() {
    Memory<T> from(count);
    from.read();
    for (int64_t i = 0; i < count; ++i) memory.get()[i] = dcaccel::of_float<S>(from.get()[i]);
  }
  void write() const {
    Memory<T> to(count);
    for (int64_t i = 0; i < count; ++i) to.get()[i] = T(dcaccel::to_float(memory.get()[i]));
    to.write();
  }
};

template <class T, class S>
void stored(Layout layout, bool in_place) {
  const int64_t count = layout.rows * layout.columns * layout.plane;
  const bool has_bias = driver::number(), has_skip = driver::number();
  Stored<T, S> y(count), bias(has_bias * layout.columns), skip(has_skip * count), grad(count), result(count), g(count);
  y.read(), bias.read(), skip.read(), grad.read(), result.read();
  driver::check(tail_cuda<S>(layout, y.memory.get(), has_bias ? bias.memory.get() : nullptr,
                             has_skip ? skip.memory.get() : nullptr, nullptr));
  y.write();
  Memory<double> sums(layout.columns), scratch(gate_scratch_cuda(layout));
  Stored<T, S>& to = in_place ? grad : g;
  driver::check(gate_cuda<S>(layout, grad.memory.get(), result.memory.get(), to.memory.get(), sums.get(), scratch.get(),
                             nullptr));
  to.write();
  Memory<T> sums_out(layout.columns);
  for (int64_t c = 0; c < layout.columns; ++c) sums_out.get()[c] = T(sums.get()[c]);
  sums_out.write();
}

template <class T>
void once() {
  const int64_t rows = driver::number(), columns = driver::number(), plane = driver::number(), kind = driver::number();
  const bool in_place = driver::number();
  const Layout layout{rows, columns, plane};
  if constexpr (sizeof(T) == 4) {
    if (kind == 1) return stored<T, dcaccel::Bf16>(layout, in_place);
    if (kind == 2) return stored<T, dcaccel::Fp16>(layout, in_place);
  }
  stored<T, T>(layout, in_place);
}

}  // namespace

int main(int argc, char** argv) {
  return driver::main(argc, argv, [](int64_t bytes) { bytes == 4 ? once<float>() : once<double>(); });
}
