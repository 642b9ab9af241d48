// Nearest centers for every case in a file; indices are written as numbers of the case's type.
// SPDX-License-Identifier: Apache-2.0
#include "../../../csrc/nearest_center/cuda.h"
#include "../emulation/driver.h"

using namespace dcaccel::nearest_center;
using driver::Memory;

namespace {

template <class T>
void once() {
  const int64_t n = driver::number(), k = driver::number(), d = driver::number();
  Memory<T> x(n * d), centers(k * d), distance(n), number(n);
  Memory<int64_t> index(n);
  x.read(), centers.read();
  driver::check(nearest_cuda<T>({n, k, d}, {x.get(), d, 1}, {centers.get(), d, 1}, index.get(), distance.get(),
                                nullptr));
  for (int64_t i = 0; i < n; ++i) number.get()[i] = T(index.get()[i]);
  number.write(), distance.write();
}

}  // namespace

int main(int argc, char** argv) {
  return driver::main(argc, argv, [](int64_t bytes) { bytes == 4 ? once<float>() : once<double>(); });
}
