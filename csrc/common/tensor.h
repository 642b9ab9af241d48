// Tensors as the kernels see them: pointer, sizes, strides. Host part only.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

#include "expect.h"

namespace dcaccel {

// A read-only matrix with any strides: packing reads it once, so nothing is gained by a contiguous copy before.
template <class T>
struct Matrix {
  const T* data;
  int64_t rows, columns, row_stride, column_stride;

  explicit Matrix(const Tensor& t)
      : data(static_cast<const T*>(t.const_data_ptr())),
        rows(t.size(0)),
        columns(t.size(1)),
        row_stride(t.stride(0)),
        column_stride(t.stride(1)) {}
  T operator()(int64_t i, int64_t f) const { return data[i * row_stride + f * column_stride]; }
};

// Contiguous, on the CPU, of at most two dimensions. torch::stable::empty goes through the dispatcher and takes longer.
template <class T>
Tensor empty(std::initializer_list<int64_t> sizes) {
  const int64_t strides[] = {sizes.size() == 2 ? sizes.begin()[1] : 1, 1};
  const int32_t type = std::is_same_v<T, int64_t> ? aoti_torch_dtype_int64()
                       : sizeof(T) == 4           ? aoti_torch_dtype_float32()
                                                  : aoti_torch_dtype_float64();
  AtenTensorHandle made;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(int64_t(sizes.size()), sizes.begin(), strides, type,
                                                         aoti_torch_device_type_cpu(), 0, &made));
  return Tensor(made);
}

template <class T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// Scratch memory on a cache line, released at the end of the scope.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : bytes_((count * sizeof(T) + 63) / 64 * 64), data_(static_cast<T*>(std::aligned_alloc(64, bytes_ + 64))) {
    if (!data_) throw std::bad_alloc();
  }
  void zero() const { std::memset(data_.get(), 0, bytes_); }
  T* get() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::size_t bytes_;
  std::unique_ptr<T, Free> data_;
};

}  // namespace dcaccel
