// Sums and counts for every case in a file; indices come and counts and sums go as numbers of the case's type.
// SPDX-License-Identifier: Apache-2.0
#include "../../../csrc/center_sums/cuda.h"
#include "../emulation/driver.h"

using namespace dcaccel::center_sums;
using driver::Memory;

namespace {

template <class T>
void once() {
  const int64_t n = driver::number(), k = driver::number(), d = driver::number();
  const Sizes sizes{n, k, d};
  Memory<T> x(n * d), given(n), sums_out(k * d), counts_out(k);
  x.read(), given.read();
  Memory<int64_t> index(n), counts(k);
  Memory<double> sums(k * d), scratch(scratch_cuda(sizes));
  for (int64_t i = 0; i < n; ++i) index.get()[i] = int64_t(given.get()[i]);
  driver::check(sums_cuda<T>(sizes, {x.get(), d, 1}, index.get(), 1, sums.get(), counts.get(), scratch.get(), nullptr));
  for (int64_t i = 0; i < k * d; ++i) sums_out.get()[i] = T(sums.get()[i]);
  for (int64_t i = 0; i < k; ++i) counts_out.get()[i] = T(counts.get()[i]);
  sums_out.write(), counts_out.write();
}

}  // namespace

int main(int argc, char** argv) {
  return driver::main(argc, argv, [](int64_t bytes) { bytes == 4 ? once<float>() : once<double>(); });
}
