// A matrix as launchers and passes are given it.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

namespace dcaccel {

// Read-only, with any strides, in numbers.
template <class T>
struct View {
  const T* data;
  int64_t row_stride, column_stride;
};

}  // namespace dcaccel
